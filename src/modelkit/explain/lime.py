"""LIME: a linear model of "this column holds what the row holds", fitted to what the model says about drawn rows.

Ribeiro, Singh and Guestrin (2016), as the `lime` library does it by default. For tables the library
draws bins by how often the background has them, whatever the row that is explained: only "in the
bin of the row" and the weights depend on it. So one pool of drawn rows and of the model's answers
serves every row, and a row costs one small regression.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from modelkit.cast import Array, name_rows
from modelkit.errors import ExplainError, importing
from modelkit.explain.hooks import Answer, ask_in_chunks, kept_random_state
from modelkit.explain.subject import Subject
from modelkit.signature import Feeds, Signature

SAMPLES = 5000
LEAST_SAMPLES = 100
WIDTH = 0.75  # of the kernel, for each square root of a column
RIDGE = 1.0
LEAST_R2, MOST_ERROR = 0.5, 0.1  # beyond these a linear model says little about the row
SMALLEST_SPREAD = 1e-11  # what the library adds to each standard deviation
TEXT_WIDTH = 25.0  # of the kernel for texts, over a hundred times the cosine distance
TEXTS = 256  # at once: an encoder of texts takes far more memory a row than a table does
SERIAL = (
    1 << 18
)  # multiplications in one product of matrices, up to which OpenBLAS uses the thread it is called from
TILE = 64
NO_TEXT = np.array([[""]], object)


@dataclass(frozen=True)
class _Kinds:
    """A column of strings, booleans or codes: each value is a bin."""

    kinds: Array
    share: Array

    @staticmethod
    def of(values: Array) -> _Kinds:
        kinds, counts = np.unique(values, return_counts=True)
        return _Kinds(kinds, counts / len(values))

    def bins(self, values: Array) -> Array:
        """The bin of each value, (n,); -1 for one that the background lacks."""
        at = {value: i for i, value in enumerate(self.kinds.tolist())}
        return np.array([at.get(value, -1) for value in values.tolist()], np.int32)

    def fill(self, bins: Array, rng: np.random.Generator) -> Array:
        """A value in each bin."""
        return np.asarray(self.kinds[bins])


@dataclass(frozen=True)
class _Numbers:
    """A column of numbers: bins between the quartiles of the background, closed above, and one for missing values.

    Each bin has its bounds, mean and standard deviation; those of a bin without finite values are
    never used, but for bins of infinities alone, which are drawn as their bound.
    """

    cuts: Array
    low: Array
    high: Array
    mean: Array
    spread: Array
    share: Array
    whole: bool

    @staticmethod
    def of(values: Array) -> _Numbers:
        whole = values.dtype.kind != "f"
        values = values.astype(np.float64)
        known = values[np.isfinite(values)]
        cuts = np.unique(np.percentile(known, (25, 50, 75))) if len(known) else np.empty(0)
        ends = (known.min(), known.max()) if len(known) else (0.0, 0.0)
        low, high = np.array([ends[0], *cuts]), np.array([*cuts, ends[1]])
        groups = [known[np.searchsorted(cuts, known) == i] for i in range(len(low))]
        mean = np.array(
            [
                np.mean(group) if len(group) else edge
                for group, edge in zip(groups, low, strict=True)
            ]
        )
        spread = (
            np.array([np.std(group) if len(group) else 0.0 for group in groups]) + SMALLEST_SPREAD
        )
        counts = np.bincount(_number_bins(cuts, values), minlength=len(low) + 1)
        return _Numbers(cuts, low, high, mean, spread, counts / len(values), whole)

    def bins(self, values: Array) -> Array:
        """The bin of each value, (n,)."""
        return _number_bins(self.cuts, values.astype(np.float64))

    def fill(self, bins: Array, rng: np.random.Generator) -> Array:
        """A value in each bin: of the normal distribution of its mean and spread, cut at its bounds.

        By inversion: with Phi the normal distribution, a and b the standardised bounds and u
        uniform, Phi^-1(Phi(a) + u (Phi(b) - Phi(a))). A mean lies within its bounds, so the tails
        do not matter. Where a bin is one value, the library draws 0 in its place (it forgets to
        scale back); here it is that value.
        """
        with importing("scipy", "method='lime'", "explain"):
            from scipy.special import ndtr, ndtri

        gone = bins == len(self.low)
        at = np.where(gone, 0, bins)
        low, high, mean, spread = self.low[at], self.high[at], self.mean[at], self.spread[at]
        below, above = ndtr((low - mean) / spread), ndtr((high - mean) / spread)
        found = mean + spread * ndtri(below + rng.random(len(bins)) * (above - below))
        if self.whole:
            low = np.where(at > 0, np.floor(low) + 1, low)  # a bin is open below, but for the first
            found, high = np.rint(found), np.floor(high)
        found = np.clip(found, low, high)
        return np.where(gone, np.nan, found) if gone.any() else found


def _number_bins(cuts: Array, values: Array) -> Array:
    return np.where(np.isnan(values), len(cuts) + 1, np.searchsorted(cuts, values)).astype(np.int32)


@dataclass(frozen=True)
class _Pool:
    """Drawn rows: the bin of each column (d, samples), and what the model says (samples, k) less its mean (k,)."""

    bins: Array
    answers: Array
    mean: Array
    spread: Array  # (k,) from the least to the largest answer


class TableHook:
    """LIME for tables, in the space that is served.

    Args:
        subject: what is explained.
        budget: how many rows are drawn, by default 5,000. The model is asked about them once, at
            the first call.
        seed: of the drawing. A row's values depend on the row, the seed and the budget alone.

    Values are what a column adds in the linear model, which explains the neighbourhood of a row and
    not its output: with the base they add up to g(x), and `additivity_gap` is its distance to what
    was served. `fidelity` holds, for each row and output, "r2" (the share of the weighted variance
    that g explains) and "local_error" |g(x) - f(x)|, for each row "ess" (how many rows the weights
    are worth, (sum w)^2 / sum w^2: where it is near the number of samples the neighbourhood is
    nearly everything), and the "samples" and "kernel_width" of all.

    Raises ExplainError where the budget is below 100 rows, or below two for each column.
    """

    def __init__(self, subject: Subject, budget: int | None, seed: int) -> None:
        self._samples = _samples(budget, len(subject.players))
        self._subject, self._seed = subject, seed
        self._columns: list[tuple[str, int, _Kinds | _Numbers]] = []
        inputs = subject.model.signature.inputs
        codes = {
            (spec.name, at)
            for spec in inputs
            for at, column in enumerate(spec.columns)
            if column.categories
        }
        for player in subject.players:
            values = subject.background[player.tensor][:, player.column]
            numbers = values.dtype.kind in "fiu" and (player.tensor, player.column) not in codes
            kind = _Numbers if numbers else _Kinds
            self._columns.append((player.tensor, player.column, kind.of(values)))
        self._width = WIDTH * float(np.sqrt(len(subject.players)))
        # A pool row differs from the explained one in m columns, so that m is the square of their
        # distance.
        mismatches = np.arange(len(subject.players) + 1)
        self._weights = np.sqrt(np.exp(-mismatches / self._width**2))
        self._lock = Lock()
        self._made: _Pool | None = None
        self.rows_per_row = 1
        self.reason = (
            f"one pool of {self._samples} model rows, drawn at the first call, serves every row"
        )

    def _pool(self) -> _Pool:
        with self._lock:
            if self._made is None:
                self._made = self._draw()
            return self._made

    def _draw(self) -> _Pool:
        rng = np.random.default_rng(self._seed)
        bins = np.empty((len(self._columns), self._samples), np.int32)
        feeds = {
            name: np.empty((self._samples, feed.shape[1]), feed.dtype)
            for name, feed in self._subject.background.items()
        }
        for i, (tensor, column, kind) in enumerate(self._columns):
            bins[i] = rng.choice(len(kind.share), self._samples, p=kind.share)
            feeds[tensor][:, column] = kind.fill(bins[i], rng)
        answers = ask_in_chunks(self._subject, feeds)
        if not np.isfinite(answers).all():
            count = int((~np.isfinite(answers)).any(axis=1).sum())
            raise ExplainError(
                f"the model answers {count} of {self._samples} drawn rows with no finite number"
            )
        mean = answers.mean(axis=0)
        return _Pool(bins, answers - mean, mean, np.ptp(answers, axis=0))

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Answer:
        """The linear model around each row. The model itself is not asked, but for the pool."""
        pool = self._pool()
        n, k = served.shape
        bins = np.stack(
            [kind.bins(feeds[tensor][:, column]) for tensor, column, kind in self._columns], axis=1
        )
        values, base, r2, ess = (
            np.zeros((n, bins.shape[1], k)),
            np.zeros((n, k)),
            np.zeros((n, k)),
            np.zeros(n),
        )
        for i in rows:
            values[i], base[i], r2[i], ess[i] = self._fit(pool, bins[i], served[i])
        error = np.abs(base + values.sum(axis=1) - served)
        fidelity = _fidelity(r2, error, ess, self._samples, self._width)
        return Answer(values, base, n, fidelity, _low_fidelity(r2, error, pool.spread))

    def _fit(self, pool: _Pool, bins: Array, served: Array) -> tuple[Array, Array, Array, float]:
        """Values (d, k), base (k,), R2 (k,) and effective sample size of one row.

        A is 1 where a pool row is in the bin of the explained one, w its weight; the explained row
        itself counts as one more, as it does in the library. All sums of products of A, 1 and y
        come from one Gram matrix; about their weighted means the coefficients are (A'wA + I)^-1
        A'wy.
        """
        d, k = len(bins), len(served)
        same = pool.bins == bins[:, None]
        weights = self._weights[d - np.count_nonzero(same, axis=0)]
        root = np.sqrt(weights)
        stacked = np.empty((d + 1 + k, len(root)))
        np.multiply(same, root, out=stacked[:d])
        stacked[d] = root
        np.multiply(pool.answers.T, root, out=stacked[d + 1 :])
        own = np.concatenate([np.ones(d + 1), served - pool.mean])
        gram = _gram(stacked) + np.outer(own, own)
        total, means = gram[d, d], gram[d] / gram[d, d]
        centred = gram - total * np.outer(means, means)
        inner, cross, spread = centred[:d, :d], centred[:d, d + 1 :], np.diagonal(centred)[d + 1 :]
        values = np.linalg.solve(inner + RIDGE * np.eye(d), cross)
        base = pool.mean + means[d + 1 :] - means[:d] @ values
        left = spread - 2 * (values * cross).sum(axis=0) + (values * (inner @ values)).sum(axis=0)
        share = np.divide(
            left, spread, out=np.zeros(k), where=spread > 0
        )  # nothing is left of a constant
        return values, base, 1 - share, float(total**2 / (1 + (weights**2).sum()))


def _gram(rows: Array) -> Array:
    """`rows @ rows.T` of a few long rows, in products that are each too small for BLAS to start threads.

    With threads it is slower for such shapes, several times so where callers are threads themselves
    and compete for the cores, and its rounding would depend on their number.
    """
    out = np.empty((len(rows), len(rows)))
    for i in range(0, len(rows), TILE):
        for j in range(i, len(rows), TILE):
            part = _product(rows[i : i + TILE], rows[j : j + TILE])
            out[i : i + TILE, j : j + TILE] = part
            out[j : j + TILE, i : i + TILE] = part.T
    return out


def _product(left: Array, right: Array) -> Array:
    size = SERIAL // (len(left) * len(right))
    whole = left.shape[1] // size * size
    blocks = [
        part[:, :whole].reshape(len(part), -1, size).transpose(1, 0, 2) for part in (left, right)
    ]
    found = (blocks[0] @ blocks[1].transpose(0, 2, 1)).sum(axis=0)
    return np.asarray(found + left[:, whole:] @ right[:, whole:].T)


class TextHook:
    """LIME for texts, by the `lime` library: values are of the words of one text, each wherever it occurs.

    Args:
        subject: a model whose one input is a column of strings.
        budget: how many shortened texts the model is asked about for each text, by default 5,000.
        seed: of which words are left out.

    The features of the Explanation are the words, its data how often each occurs, its fidelity as
    that of TableHook.

    Raises:
        ExplainError: where the budget is below 100 texts.
        MissingExtraError: where lime is not installed.
    """

    def __init__(self, subject: Subject, budget: int | None, seed: int) -> None:
        with importing("lime", "method='lime' for texts", "explain-extra"):
            from lime import lime_text
        self._lime, self._subject, self._seed = lime_text, subject, seed % 2**32
        self._samples = _samples(budget, 0)
        self.rows_per_row = self._samples + 1
        self.reason = (
            f"the input is a text: the model is asked about it without some of its words, "
            f"{self._samples} times"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Answer:
        """What each word of one text adds.

        Raises ExplainError for several texts, and for one without words.
        """
        name = self._subject.players[0].tensor
        if len(served) != 1:
            raise ExplainError(
                "texts are explained one at a time, as each has words of its own; got "
                f"{len(served)}"
            )
        (text,) = feeds[name][:, 0].tolist()
        indexed = self._lime.IndexedString(text)
        words = [str(word) for word in indexed.inverse_vocab]
        if not words:
            raise ExplainError(f"there are no words in the text {text!r}")

        def predict(texts: list[str]) -> Array:
            return ask_in_chunks(self._subject, {name: np.array(texts, object)[:, None]}, TEXTS)

        with kept_random_state():
            fits, weights, spread = self._fits(text, predict, len(words), served.shape[1])
        values = np.zeros((1, len(words), len(fits)))
        for output, (_, pairs, *_) in enumerate(fits):
            for word, value in pairs:
                values[0, word, output] = value
        base, r2 = np.array([[fit[0] for fit in fits]]), np.array([[fit[2] for fit in fits]])
        error = np.abs(base + values.sum(axis=1) - served)
        ess = np.array([weights.sum() ** 2 / (weights**2).sum()])
        fidelity = _fidelity(r2, error, ess, self._samples, TEXT_WIDTH)
        counts = np.array([[float(len(places)) for places in indexed.positions]])
        warnings = _low_fidelity(r2, error, spread)
        return Answer(values, base, 1 + self._samples, fidelity, warnings, tuple(words), counts)

    def _fits(
        self, text: str, predict: Any, words: int, outputs: int
    ) -> tuple[list[Any], Array, Array]:
        """The (intercept, [(word, coefficient)], R2, g(x)) of each output, the weights, and the spread of each output.

        The library's own answer has the R2 of the last output alone, so what it fits is noted as it
        does.
        """
        explainer = self._lime.LimeTextExplainer(
            kernel_width=TEXT_WIDTH, feature_selection="none", random_state=self._seed
        )
        fit = explainer.base.explain_instance_with_data
        found: list[Any] = []
        seen: list[Array] = []

        def note(data: Array, answers: Array, distances: Array, *args: Any, **options: Any) -> Any:
            seen[:] = [explainer.base.kernel_fn(distances), np.ptp(answers, axis=0)]
            found.append(fit(data, answers, distances, *args, **options))
            return found[-1]

        explainer.base.explain_instance_with_data = note
        explainer.explain_instance(
            text, predict, labels=range(outputs), num_features=words, num_samples=self._samples
        )
        return found, seen[0], seen[1]


def is_text(signature: Signature) -> bool:
    """Whether the only input is one column of strings that may hold anything."""
    (spec, *others) = signature.inputs
    open_ = not any(column.categories for column in spec.columns)
    return not others and spec.dtype == "string" and spec.shape[1:] == (1,) and open_


def _samples(budget: int | None, players: int) -> int:
    least = max(LEAST_SAMPLES, 2 * players)
    if budget is not None and budget < least:
        raise ExplainError(
            f"LIME fits a line to {budget} drawn rows; at least {least} are needed: budget={least}"
        )
    return SAMPLES if budget is None else budget


def _fidelity(r2: Array, error: Array, ess: Array, samples: int, width: float) -> dict[str, Any]:
    """As plain lists: one entry for each row, of r2 and local_error one for each output in it."""
    per_row = {"r2": r2.tolist(), "local_error": error.tolist(), "ess": ess.tolist()}
    return {**per_row, "samples": samples, "kernel_width": width}


def _low_fidelity(r2: Array, error: Array, spread: Array) -> tuple[str, ...]:
    """A warning that names the rows whose linear model says little: of r2 and error (n, k), and spread (k,)."""
    low = (r2 < LEAST_R2) | (error > MOST_ERROR * spread)
    if not low.any():
        return ()
    where = name_rows(np.asarray(low.any(axis=1)))
    text = (
        f"low fidelity in {where}: the linear model explains less than {LEAST_R2:.0%} of the "
        "variance, or misses what "
        f"was served by more than {MOST_ERROR:.0%} of its range (R2 down to {r2.min():.2f}, misses "
        "up to "
        f"{error.max():.3g})"
    )
    return (text,)

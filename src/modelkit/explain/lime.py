"""The method "lime": a linear model of "this column holds what the row holds" around each row.

It is fitted to what the model says about drawn rows: Ribeiro, Singh and Guestrin (2016), as the
`lime` library does it by default. For tables the library draws bins by how often the background has
them, whatever the row that is explained: only "in the bin of the row" and the weights depend on it.
So one pool of drawn rows and of the model's answers serves every row, and a row costs one small
regression.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import compress
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ExplainError
from modelkit.explain.bins import QuartileBins, ValueBins
from modelkit.explain.method import Attribution, ExplainRequest, Method, gap_between
from modelkit.explain.subject import Subject, is_text
from modelkit.signature.cast import name_rows
from modelkit.signature.signature import Feeds

ROOT_WIDTH = 0.75  # of the kernel, for each square root of a column
TEXT_WIDTH = 25.0  # of the kernel for texts, over a hundred times the cosine distance
TEXTS_AT_ONCE = 256  # an encoder of texts takes far more memory a row than a table does
RIDGE = 1.0
SAMPLES = 5000
LEAST_SAMPLES = 100
LEAST_R2 = 0.5  # below it, a linear model says little about the row
MOST_ERROR = 0.1  # of the range of the answers: above it, the same
# Multiplications in one product of matrices up to which OpenBLAS uses the thread that calls it.
SERIAL = 1 << 18
TILE = 64


def make_lime(request: ExplainRequest) -> Method:
    """LIME for tables or for texts. Raises ExplainError."""
    kind = TextLime if is_text(request.subject.signature) else TableLime
    return kind(request.subject, request.budget, request.seed)


@dataclass(frozen=True)
class _Pool:
    """Drawn rows and the model's answers.

    `bins` (d, samples) has the bin of each column, `answers` (samples, k) are less their `mean`
    (k,), and `spread` (k,) goes from the least to the largest answer.
    """

    bins: Array
    answers: Array
    mean: Array
    spread: Array


class _Fit(NamedTuple):
    """The linear model of a row: values (d, k), base (k,), R2 (k,) and effective sample size."""

    values: Array
    base: Array
    r2: Array
    ess: float


class TableLime:
    """LIME for tables, in the space that is served.

    Args:
        subject: what is explained.
        budget: the number of rows that are drawn, by default 5,000. The model is asked about them
            once, at the first call.
        seed: of the drawing. A row's values depend on the row, the seed and the budget alone.

    Values are what a column adds in the linear model g, which explains the neighbourhood of a row
    x and not the answer f(x): values and base add up to g(x), and the additivity gap is its
    distance to f(x). The fidelity holds, for each row and output, "r2" and "local_error" |g(x) -
    f(x)|, and for each row "ess", the number of rows that the weights w are worth, (sum w)^2 / sum
    w^2. Near the number of samples, the neighbourhood is nearly everything.

    Raises ExplainError if the budget is below 100 rows, or below two for each column.
    """

    kind = "lime"
    exact = False

    def __init__(self, subject: Subject, budget: int | None, seed: int) -> None:
        players = len(subject.players)
        self.space = subject.space
        self.output_names = subject.names
        self._samples = samples_of(budget, players)
        self._subject = subject
        self._seed = seed
        self._columns = _columns(subject)
        self._width = ROOT_WIDTH * float(np.sqrt(players))
        # A pool row differs from the explained one in m columns, so m is their squared distance.
        mismatches = np.arange(players + 1)
        kernel = np.exp(-mismatches / self._width**2)
        self._weights = np.sqrt(kernel)
        self._lock = Lock()
        self._made: _Pool | None = None
        self.rows_per_row = 1
        self.reason = (
            f"one pool of {self._samples} model rows, drawn at the first call, serves every row"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """The linear model around each row. The model itself is asked for the pool alone."""
        pool = self._pool()
        bins = self._bins_of(feeds)
        fits = (_fit(pool, bins[i], served[i], self._weights) for i in rows)
        return _attribution(fits, served, pool, self._width, evaluations=len(served))

    def _bins_of(self, feeds: Feeds) -> Array:
        """The bins (n, d) of rows."""
        found = [bins.find(feeds[tensor][:, at]) for tensor, at, bins in self._columns]
        return np.stack(found, axis=1)

    def _pool(self) -> _Pool:
        with self._lock:
            if self._made is None:
                drawn, feeds = self._drawn_rows()
                self._made = _pool(drawn, self._subject.ask_in_chunks(feeds))
            return self._made

    def _drawn_rows(self) -> tuple[Array, Feeds]:
        """The bins (d, samples) of drawn rows, and the rows."""
        rng = np.random.default_rng(self._seed)
        drawn = np.empty((len(self._columns), self._samples), np.int32)
        feeds = {
            name: np.empty((self._samples, feed.shape[1]), feed.dtype)
            for name, feed in self._subject.background.items()
        }
        for i, (tensor, at, bins) in enumerate(self._columns):
            drawn[i] = rng.choice(len(bins.share), self._samples, p=bins.share)
            feeds[tensor][:, at] = bins.fill(drawn[i], rng)
        return drawn, feeds


class TextLime:
    """LIME for texts: values are of the words of one text, each wherever it occurs.

    It draws as the `lime` library does: of each shortened text first how many words are left out, and
    then which.

    Args:
        subject: a model whose one input is a column of strings.
        budget: the number of shortened texts that the model is asked about for each text, by
            default 5,000.
        seed: of which words are left out.

    The features of the Explanation are the words, its data counts how often each occurs, and it has
    the fidelity that LIME for tables has.

    Raises ExplainError if the budget is below 100 texts.
    """

    kind = "lime"
    exact = False

    def __init__(self, subject: Subject, budget: int | None, seed: int) -> None:
        self.space = subject.space
        self.output_names = subject.names
        self._subject = subject
        self._seed = seed % 2**32
        self._samples = samples_of(budget, 0)
        self.rows_per_row = self._samples + 1
        self.reason = (
            "the input is a text: the model is asked about it without some of its words, "
            f"{self._samples} times"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """What each word of one text adds.

        Raises ExplainError for several texts, and for one without words.
        """
        ((tensor, column),) = feeds.items()
        if len(column) != 1:
            raise ExplainError(
                f"texts are explained one at a time, as each has words of its own; got {len(column)}"
            )
        parts = re.split(r"(\W+)", column[0, 0])
        counts = Counter(filter(None, parts[::2]))
        if not counts:
            raise ExplainError(f"the text {column[0, 0]!r} does not contain a word")
        kept = _drawn_words(len(counts), self._samples, self._seed)
        texts = [_without(parts, {*compress(counts, ~mask)}) for mask in kept.T]
        answers = self._subject.ask_in_chunks(
            {tensor: np.array(texts, object)[:, None]}, TEXTS_AT_ONCE
        )
        # The cosine distance of a text to one of which some words are left.
        apart = 100 * (1 - np.sqrt(np.arange(len(counts), -1, -1) / len(counts)))
        kernel = np.sqrt(np.exp(-((apart / TEXT_WIDTH) ** 2)))
        pool = _pool(kept, answers)
        return _attribution(
            [_fit(pool, np.ones(len(counts), bool), served[0], kernel)],
            served,
            pool,
            TEXT_WIDTH,
            evaluations=self.rows_per_row,
            feature_names=tuple(counts),
            data=np.array([[float(count) for count in counts.values()]]),
        )


def _without(parts: Iterable[str], gone: Container[str]) -> str:
    """A text in parts without some of its words."""
    return "".join(part for part in parts if part not in gone)


def _drawn_words(count: int, samples: int, seed: int) -> Array:
    """Which words are kept in each shortened text, (count, samples) of bool."""
    rng = np.random.RandomState(seed)  # the generator of the library
    kept = np.ones((count, samples), bool)
    for at, size in enumerate(rng.randint(1, count + 1, samples)):
        kept[rng.choice(count, size, replace=False), at] = False
    return kept


def _pool(bins: Array, answers: Array) -> _Pool:
    """Raises ExplainError for answers that are not finite numbers."""
    finite = np.isfinite(answers).all(axis=1)
    if not finite.all():
        raise ExplainError(
            f"the model answers {np.count_nonzero(~finite)} of {len(answers)} drawn rows with "
            "no finite number"
        )
    mean = answers.mean(axis=0)
    return _Pool(bins, answers - mean, mean, np.ptp(answers, axis=0))


def _attribution(
    fits: Iterable[_Fit], served: Array, pool: _Pool, width: float, **more: Any
) -> Attribution:
    n, k = served.shape
    values = np.zeros((n, len(pool.bins), k))
    base, r2 = np.zeros((2, n, k))
    ess = np.zeros(n)
    for i, fit in enumerate(fits):
        values[i], base[i], r2[i], ess[i] = fit
    gap = gap_between(values, base, served)
    fidelity = {
        "r2": r2.tolist(),
        "local_error": gap.tolist(),
        "ess": ess.tolist(),
        "samples": pool.bins.shape[1],
        "kernel_width": width,
    }
    warnings = _warnings(r2, gap, pool.spread)
    return Attribution(values, base, gap, fidelity=fidelity, warnings=warnings, **more)


def _warnings(r2: Array, error: Array, spread: Array) -> tuple[str, ...]:
    """A warning that names the rows whose linear model says little, by R2 and error (n, k).

    `spread` (k,) is the range of the answers to the drawn rows.
    """
    low = (r2 < LEAST_R2) | (error > MOST_ERROR * spread)
    if not low.any():
        return ()
    where = name_rows(np.asarray(low.any(axis=1)))
    warning = (
        f"low fidelity in {where}: the linear model explains less than {LEAST_R2:.0%} of the "
        f"variance, or misses what was served by more than {MOST_ERROR:.0%} of its range (R2 "
        f"down to {r2.min():.2f}, misses up to {error.max():.3g})"
    )
    return (warning,)


def samples_of(budget: int | None, players: int) -> int:
    """The number of rows that LIME draws. Raises ExplainError if the budget is too small."""
    least = max(LEAST_SAMPLES, 2 * players)
    if budget is not None and budget < least:
        raise ExplainError(
            f"LIME fits a line to {budget} drawn rows; at least {least} are needed: budget={least}"
        )
    return SAMPLES if budget is None else budget


def _fit(pool: _Pool, bins: Array, served: Array, kernel: Array) -> _Fit:
    """Fit the linear model around one row with the given bins (d,) and answer (k,).

    A is 1 where a pool row is in the bin of the explained one, w its weight; the explained row
    itself counts as one more, as it does in the library. All sums of products of A, 1 and y
    come from one Gram matrix; about their weighted means the coefficients are (A'wA + I)^-1
    A'wy.
    """
    d = len(bins)
    same = pool.bins == bins[:, None]
    weights = kernel[d - np.count_nonzero(same, axis=0)]
    own = np.ones(d + 1 + len(served))
    own[d + 1 :] = served - pool.mean
    gram = _gram(_weighted(same, pool.answers, weights)) + np.outer(own, own)
    total = gram[d, d]
    means = gram[d] / total
    centred = gram - total * np.outer(means, means)
    inner = centred[:d, :d]
    cross = centred[:d, d + 1 :]
    values = np.linalg.solve(inner + RIDGE * np.eye(d), cross)
    base = pool.mean + means[d + 1 :] - means[:d] @ values
    spread = np.diagonal(centred)[d + 1 :]
    squares = 1 + (weights**2).sum()
    ess = float(total**2 / squares)
    return _Fit(values, base, _explained_share(values, inner, cross, spread), ess)


def _explained_share(values: Array, inner: Array, cross: Array, spread: Array) -> Array:
    """R2 (k,) of coefficients (d, k), from the sums of products about the means.

    They are (d, d) of columns, (d, k) of columns and answers, and (k,) of answers.
    """
    common = (values * cross).sum(axis=0)
    own = (values * (inner @ values)).sum(axis=0)
    left = spread - 2 * common + own
    unexplained = np.zeros(len(spread))  # nothing is left to explain of a constant
    np.divide(left, spread, out=unexplained, where=spread > 0)
    return 1 - unexplained


def _columns(subject: Subject) -> list[tuple[str, int, ValueBins | QuartileBins]]:
    """For each raw column its tensor, its place there, and its bins."""
    codes = {
        (spec.name, at)
        for spec in subject.model.signature.inputs
        for at, column in enumerate(spec.columns)
        if column.categories
    }
    columns = []
    for player in subject.players:
        place = (player.tensor, player.column)
        values = subject.background[player.tensor][:, player.column]
        is_number = values.dtype.kind in "fiu" and place not in codes
        bins = QuartileBins.of(values) if is_number else ValueBins.of(values)
        columns.append((*place, bins))
    return columns


def _weighted(same: Array, answers: Array, weights: Array) -> Array:
    """The rows A, 1 and y (d + 1 + k, samples), each times the roots of the weights."""
    d = len(same)
    root = np.sqrt(weights)
    height = d + 1 + answers.shape[1]
    stacked = np.empty((height, len(root)))
    np.multiply(same, root, out=stacked[:d])
    stacked[d] = root
    np.multiply(answers.T, root, out=stacked[d + 1 :])
    return stacked


def _gram(rows: Array) -> Array:
    """`rows @ rows.T` of a few long rows, in products too small for BLAS to start threads.

    With threads it is slower for such shapes, several times so where callers are threads themselves
    and compete for the cores, and its rounding would depend on their number.
    """
    out = np.empty((len(rows), len(rows)))
    for i in range(0, len(rows), TILE):
        for j in range(i, len(rows), TILE):
            some = slice(i, i + TILE)
            others = slice(j, j + TILE)
            part = _tile(rows[some], rows[others])
            out[some, others] = part
            out[others, some] = part.T
    return out


def _tile(left: Array, right: Array) -> Array:
    """`left @ right.T`, summed over blocks of columns."""
    size = SERIAL // (len(left) * len(right))
    whole = left.shape[1] // size * size
    left_blocks = left[:, :whole].reshape(len(left), -1, size)
    right_blocks = right[:, :whole].reshape(len(right), -1, size)
    products = left_blocks.transpose(1, 0, 2) @ right_blocks.transpose(1, 2, 0)
    rest = left[:, whole:] @ right[:, whole:].T
    return np.asarray(products.sum(axis=0) + rest)

"""Explainers of other libraries, run on a Model: shap's own kernel and permutation methods, made safe.

What is unsafe about them, and what is done here: the background is not cut to 100 rows; no column
is dropped by an L1 penalty; each call has an explainer of its own, as they keep the row they
explain in themselves; numpy's global random state, which they seed and draw from, is given back as
it was; and they see the number of a value among those of its column in place of the value, as they
take values that differ by less than 1e-8 for equal, and then leave a column out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np

from modelkit.cast import Array
from modelkit.errors import ExplainError, importing
from modelkit.explain.subject import CHUNK, Subject
from modelkit.signature import Feeds
from modelkit.spec import numpy_dtype

KERNEL, PERMUTATION = "shap:kernel", "shap:permutation"
SHAP = (KERNEL, PERMUTATION)

_global_state = Lock()


@dataclass(frozen=True)
class Answer:
    """What a hook found for n rows of d features and k outputs: `values` (n, d, k) and `base` (n, k).

    `names` and `data` (n, d) are of the features where those are not the columns of the model.
    """

    values: Array
    base: Array
    evaluations: int
    fidelity: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    data: Array | None = None


class Hook(Protocol):
    """A method that is no part of the dispatch of an Explainer: it is asked for by name."""

    rows_per_row: int
    reason: str

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Answer:
        """Explain the rows of `feeds`, for which the model served `served` (n, k); `rows` counts them."""


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Give numpy's global random state back as it was; one at a time, so that none gives back another's."""
    with _global_state:
        before = np.random.get_state()  # noqa: NPY002 - it is the state that the libraries use
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


def ask_in_chunks(subject: Subject, feeds: Feeds, size: int = CHUNK) -> Array:
    """The served output (m, k) for many rows, at most `size` at once, so that a prediction waits for one chunk."""
    count = len(next(iter(feeds.values())))
    parts = [
        subject.ask({name: feed[start : start + size] for name, feed in feeds.items()})
        for start in range(0, count, size)
    ]
    return np.concatenate(parts)


class ShapHook:
    """KernelExplainer or PermutationExplainer of shap, over the whole background and in the space that is served.

    Args:
        subject: what is explained; all its columns must be numbers.
        method: "shap:kernel" or "shap:permutation".
        budget: model rows for each explained row. A coalition takes one for each background row; by
            default shap's own number of coalitions, 2 d + 2048 or 500.
        seed: of each row, so that its values depend on nothing else.

    Raises:
        ExplainError: where a column holds strings, or the budget is below what shap needs.
        MissingExtraError: where shap is not installed.
    """

    def __init__(self, subject: Subject, method: str, budget: int | None, seed: int) -> None:
        strings = [
            spec.name
            for spec in subject.signature.inputs
            if numpy_dtype(spec.dtype).kind not in "fiub"
        ]
        if strings:
            raise ExplainError(
                f"{method} reads numbers alone, and {strings} hold strings; use method='sampling'"
            )
        with importing("shap", f"method={method!r}", "explain-extra"):
            import shap
        self._shap, self._subject, self._method = shap, subject, method
        self._seed = seed % 2**32  # what the legacy generator takes
        self._columns, codes = [], []
        for player in subject.players:
            kinds, numbers = np.unique(
                subject.background[player.tensor][:, player.column], return_inverse=True
            )
            self._columns.append((player.tensor, player.column, kinds))
            codes.append(numbers.astype(np.float64))
        self._codes = np.stack(codes, axis=1)
        self._coalitions = _coalitions(method, len(subject.players), subject.count, budget)
        self.rows_per_row = self._coalitions * subject.count + 1
        self.reason = (
            f"{method} asks for {self._coalitions} coalitions of {subject.count} background rows"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Answer:
        """Shapley values as shap estimates them; calls run one after the other."""
        n, d, k = len(served), len(self._columns), served.shape[1]
        values, base = np.zeros((n, d, k)), np.zeros((n, k))
        asked, row = 0, 0
        if not n:
            return Answer(values, base, 0)

        def predict(codes: Array) -> Array:
            nonlocal asked
            asked += len(codes)
            return ask_in_chunks(self._subject, self._decode(codes, feeds, row))

        with kept_random_state():
            explain_one = (self._kernel if self._method == KERNEL else self._permutation)(predict)
            for row in rows:
                np.random.seed(self._seed)  # noqa: NPY002 - shap draws from the global state alone
                found, expected = explain_one(self._encode(feeds, row))
                values[row], base[row] = np.reshape(found, (d, k)), np.reshape(expected, k)
        return Answer(values, base, n + asked)

    def _kernel(self, predict: Callable[[Array], Array]) -> Callable[[Array], tuple[Any, Any]]:
        explainer = self._shap.KernelExplainer(predict, self._codes)
        # The default of l1_reg keeps ten columns and sets all others to zero.
        options = {"nsamples": self._coalitions, "l1_reg": False, "silent": True}
        return lambda row: (explainer.shap_values(row, **options), explainer.expected_value)

    def _permutation(self, predict: Callable[[Array], Array]) -> Callable[[Array], tuple[Any, Any]]:
        masker = self._shap.maskers.Independent(self._codes, max_samples=len(self._codes))
        explainer = self._shap.PermutationExplainer(predict, masker, seed=self._seed)

        def explain_one(row: Array) -> tuple[Any, Any]:
            found = explainer(row[None], max_evals=self._coalitions, silent=True)
            return found.values, found.base_values

        return explain_one

    def _encode(self, feeds: Feeds, row: int) -> Array:
        """The numbers (d,) of the values of a row; one that the background lacks has the number after its last."""
        found = np.empty(len(self._columns))
        for i, (tensor, column, kinds) in enumerate(self._columns):
            value = feeds[tensor][row, column]
            at = int(np.searchsorted(kinds, value))  # a missing value is the last
            found[i] = at if at < len(kinds) and _is_same(kinds[at], value) else len(kinds)
        return found

    def _decode(self, codes: Array, feeds: Feeds, row: int) -> Feeds:
        """The rows (m, d) that shap asks about: each value is of the background or of the explained row."""
        found = {
            name: np.empty((len(codes), feed.shape[1]), feed.dtype) for name, feed in feeds.items()
        }
        for (tensor, column, kinds), numbers in zip(
            self._columns, codes.T.astype(np.intp), strict=True
        ):
            found[tensor][:, column] = np.append(kinds, feeds[tensor][row, column])[numbers]
        return found


def _coalitions(method: str, players: int, background: int, budget: int | None) -> int:
    """How many coalitions of `players` columns a budget buys; raises ExplainError where shap needs more."""
    most = max(2**players - 2, 1)
    if (
        method == KERNEL
    ):  # each column alone, and all but each: fewer leave its regression undetermined
        least, usual = min(2 * players, most), 2 * players + 2048
    else:  # one random order, forwards and backwards
        least = 2 * players + 1
        usual = max(500, least)
    found = usual if budget is None else budget // background
    if found < least:
        raise ExplainError(
            f"a budget of {budget} model rows gives {found} coalitions of {background} background "
            f"rows, and {method} "
            f"needs {least} for {players} columns: budget={least * background}, or a smaller "
            "background"
        )
    return min(found, most) if method == KERNEL else found


def _is_same(left: Any, right: Any) -> bool:
    """Whether two values are equal, or both missing."""
    both_missing = left != left and right != right  # noqa: PLR0124 - NaN
    return bool(left == right or both_missing)

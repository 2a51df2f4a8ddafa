"""Explainers of other libraries, run on a Model: shap's own kernel and permutation methods, made safe.

What is unsafe about them, and what is done here: the background is not cut to 100 rows, no column is dropped by an L1
penalty, each call has an explainer of its own (they keep the row they explain in themselves), and numpy's global
random state, which they seed and draw from, is given back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np

from modelkit.cast import Array
from modelkit.errors import ExplainError, MissingExtraError
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
        budget: model rows for each explained row. A coalition takes one for each background row; by default shap's own
            number of coalitions, 2 d + 2048 or 500.
        seed: of each row, so that its values depend on nothing else.

    Raises:
        ExplainError: where a column holds strings, or the budget is below what shap needs.
        MissingExtraError: where shap is not installed.
    """

    def __init__(self, subject: Subject, method: str, budget: int | None, seed: int) -> None:
        strings = [spec.name for spec in subject.signature.inputs if numpy_dtype(spec.dtype).kind not in "fiub"]
        if strings:
            raise ExplainError(f"{method} reads numbers alone, and {strings} hold strings; use method='sampling'")
        try:
            import shap
        except ImportError:
            raise MissingExtraError(f"method={method!r}", "shap", "explain") from None
        self._shap, self._subject, self._method = shap, subject, method
        self._seed = seed % 2**32  # what the legacy generator takes
        self._coalitions = _coalitions(method, len(subject.players), subject.count, budget)
        self.rows_per_row = self._coalitions * subject.count + 1
        self.reason = f"{method} asks for {self._coalitions} coalitions of {subject.count} background rows"

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Answer:
        """Shapley values as shap estimates them; calls run one after the other."""
        x = self._matrix(feeds)
        values, base = np.zeros((*x.shape, served.shape[1])), np.zeros(served.shape)
        asked = 0

        def predict(matrix: Array) -> Array:
            nonlocal asked
            asked += len(matrix)
            return ask_in_chunks(self._subject, self._feeds(matrix))

        with kept_random_state():
            explain_one = (self._kernel if self._method == KERNEL else self._permutation)(predict)
            for i in rows:
                np.random.seed(self._seed)  # noqa: NPY002 - shap draws from the global state alone
                found, expected = explain_one(x[i])
                values[i], base[i] = np.reshape(found, values.shape[1:]), np.reshape(expected, base.shape[1:])
        return Answer(values, base, len(served) + asked)

    def _kernel(self, predict: Callable[[Array], Array]) -> Callable[[Array], tuple[Any, Any]]:
        explainer = self._shap.KernelExplainer(predict, self._matrix(self._subject.background))
        # The default of l1_reg keeps ten columns and sets all others to zero.
        options = {"nsamples": self._coalitions, "l1_reg": False, "silent": True}
        return lambda row: (explainer.shap_values(row, **options), explainer.expected_value)

    def _permutation(self, predict: Callable[[Array], Array]) -> Callable[[Array], tuple[Any, Any]]:
        background = self._matrix(self._subject.background)
        masker = self._shap.maskers.Independent(background, max_samples=len(background))
        explainer = self._shap.PermutationExplainer(predict, masker, seed=self._seed)

        def explain_one(row: Array) -> tuple[Any, Any]:
            found = explainer(row[None], max_evals=self._coalitions, silent=True)
            return found.values, found.base_values

        return explain_one

    def _matrix(self, feeds: Feeds) -> Array:
        """The rows as shap takes them, (n, d) doubles."""
        return np.concatenate([feeds[spec.name].astype(np.float64) for spec in self._subject.signature.inputs], axis=1)

    def _feeds(self, matrix: Array) -> Feeds:
        """The inverse: exact, as every value comes from a row of the model."""
        feeds, at = {}, 0
        for name, feed in self._subject.background.items():
            wide = feed.shape[1]
            feeds[name] = matrix[:, at : at + wide].astype(feed.dtype)
            at += wide
        return feeds


def _coalitions(method: str, players: int, background: int, budget: int | None) -> int:
    """How many coalitions of `players` columns a budget buys; raises ExplainError where shap needs more."""
    most = max(2**players - 2, 1)
    if method == KERNEL:  # each column alone, and all but each: fewer leave its regression undetermined
        least, usual = min(2 * players, most), 2 * players + 2048
    else:  # one random order, forwards and backwards
        least = 2 * players + 1
        usual = max(500, least)
    found = usual if budget is None else budget // background
    if found < least:
        raise ExplainError(
            f"a budget of {budget} model rows gives {found} coalitions of {background} background rows, and {method} "
            f"needs {least} for {players} columns: budget={least * background}, or a smaller background"
        )
    return min(found, most) if method == KERNEL else found

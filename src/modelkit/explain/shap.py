"""The methods "shap:kernel" and "shap:permutation": shap's own explainers, made safe for a Model.

What is unsafe about them, and what is done here:

- Neither the background is cut to 100 rows nor a column dropped by an L1 penalty.
- An explainer of shap keeps the row it explains in itself, so each call makes its own.
- They seed numpy's global random state and draw from it, so it is given back as it was.
- They take values that differ by less than 1e-8 for equal and then leave a column out. So they see,
  in place of a value, its number among the distinct values of its column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ExplainError, importing
from modelkit.explain.method import Attribution, ExplainRequest, gap_between
from modelkit.explain.subject import Subject
from modelkit.signature.signature import Feeds
from modelkit.signature.spec import numpy_dtype

KERNEL = "shap:kernel"
PERMUTATION = "shap:permutation"

_global_state = Lock()


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Give numpy's global random state back as it was, for one caller at a time."""
    with _global_state:
        before = np.random.get_state()  # noqa: NPY002 - it is the state that the libraries use
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


@dataclass(frozen=True)
class _Column:
    """A raw column: its tensor, its place there, and the distinct values of the background."""

    tensor: str
    place: int
    kinds: Array

    def code(self, value: Any) -> int:
        """The number of a value; one that the background lacks has the number after the last."""
        at = int(np.searchsorted(self.kinds, value))  # a missing value is the last
        known = at < len(self.kinds) and _is_same(self.kinds[at], value)
        return at if known else len(self.kinds)


def _is_same(left: Any, right: Any) -> bool:
    """Whether two values are equal, or both missing."""
    both_missing = left != left and right != right  # NaN
    return bool(left == right or both_missing)


Explain = Callable[[Array], tuple[Any, Any]]  # codes (d,) of a row to values (d, k) and base (k,)


def make_shap(request: ExplainRequest) -> ShapMethod:
    """The method. Raises ExplainError or MissingExtraError where shap cannot do it."""
    return ShapMethod(request.subject, request.method, request.budget, request.seed)


class ShapMethod:
    """KernelExplainer or PermutationExplainer of shap, over the whole background.

    Args:
        subject: what is explained; all its columns must be numbers.
        method: "shap:kernel" or "shap:permutation".
        budget: model rows for each explained row. A coalition takes one for each background row; by
            default shap's own number of coalitions, 2 d + 2048 or 500.
        seed: of each row, so that its values depend on nothing else.

    Raises:
        ExplainError: if a column holds strings, or the budget is below what shap needs.
        MissingExtraError: if shap is not installed.
    """

    exact = False

    def __init__(self, subject: Subject, method: str, budget: int | None, seed: int) -> None:
        _check_numeric(subject, method)
        with importing("shap", f"method={method!r}", "explain-extra"):
            import shap
        self.kind = method
        self.space = subject.space
        self.output_names = subject.names
        self._shap = shap
        self._subject = subject
        self._seed = seed % 2**32  # what the legacy generator takes
        self._columns, self._codes = _numbered(subject)
        self._coalitions = _coalitions(method, len(subject.players), subject.count, budget)
        self.rows_per_row = self._coalitions * subject.count + 1
        self.reason = (
            f"{method} asks for {self._coalitions} coalitions of {subject.count} background rows"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """Shapley values as shap estimates them; concurrent calls run one after the other."""
        n, k = served.shape
        values = np.zeros((n, len(self._columns), k))
        base = np.zeros((n, k))
        if not n:
            return Attribution(values, base, base, 0)
        asked = 0
        row = 0

        def predict(codes: Array) -> Array:
            nonlocal asked
            asked += len(codes)
            return self._subject.ask_in_chunks(self._decode(codes, feeds, row))

        make_explainer = self._kernel if self.kind == KERNEL else self._permutation
        with kept_random_state():
            explain_one = make_explainer(predict)
            for row in rows:
                np.random.seed(self._seed)  # noqa: NPY002 - shap draws from the global state alone
                found, expected = explain_one(self._encode(feeds, row))
                values[row] = np.reshape(found, values[row].shape)
                base[row] = np.reshape(expected, k)
        return Attribution(values, base, gap_between(values, base, served), n + asked)

    def _kernel(self, predict: Callable[[Array], Array]) -> Explain:
        explainer = self._shap.KernelExplainer(predict, self._codes)
        # The default of l1_reg keeps ten columns and sets all others to zero.
        options = {"nsamples": self._coalitions, "l1_reg": False, "silent": True}
        return lambda row: (explainer.shap_values(row, **options), explainer.expected_value)

    def _permutation(self, predict: Callable[[Array], Array]) -> Explain:
        masker = self._shap.maskers.Independent(self._codes, max_samples=len(self._codes))
        explainer = self._shap.PermutationExplainer(predict, masker, seed=self._seed)

        def explain_one(row: Array) -> tuple[Any, Any]:
            found = explainer(row[None], max_evals=self._coalitions, silent=True)
            return found.values, found.base_values

        return explain_one

    def _encode(self, feeds: Feeds, row: int) -> Array:
        """The codes (d,) of one row."""
        found = np.empty(len(self._columns))
        for i, column in enumerate(self._columns):
            value = feeds[column.tensor][row, column.place]
            found[i] = column.code(value)
        return found

    def _decode(self, codes: Array, feeds: Feeds, row: int) -> Feeds:
        """The rows that shap asks about, from codes (m, d) of the background and one row."""
        found = {}
        for name, feed in feeds.items():
            shape = (len(codes), feed.shape[1])
            found[name] = np.empty(shape, feed.dtype)
        by_column = codes.T.astype(np.intp)
        for column, numbers in zip(self._columns, by_column, strict=True):
            own = feeds[column.tensor][row, column.place]
            values = np.append(column.kinds, own)
            found[column.tensor][:, column.place] = values[numbers]
        return found


def _check_numeric(subject: Subject, method: str) -> None:
    inputs = subject.signature.inputs
    strings = [spec.name for spec in inputs if numpy_dtype(spec.dtype).kind not in "fiub"]
    if strings:
        raise ExplainError(
            f"{method} reads numbers alone, and {strings} hold strings; use method='sampling'"
        )


def _numbered(subject: Subject) -> tuple[list[_Column], Array]:
    """The columns of a subject, and the codes (m, d) of its background rows."""
    columns = []
    codes = []
    for player in subject.players:
        cells = subject.background[player.tensor][:, player.column]
        kinds, numbers = np.unique(cells, return_inverse=True)
        columns.append(_Column(player.tensor, player.column, kinds))
        codes.append(numbers.astype(np.float64))
    return columns, np.stack(codes, axis=1)


def _coalitions(method: str, players: int, background: int, budget: int | None) -> int:
    """The number of coalitions that a budget buys. Raises ExplainError if shap needs more."""
    most = max(2**players - 2, 1)
    if method == KERNEL:
        # Each column alone, and all but each: fewer leave its regression undetermined.
        least = min(2 * players, most)
        usual = 2 * players + 2048
    else:  # one random order, forwards and backwards
        least = 2 * players + 1
        usual = max(500, least)
    found = usual if budget is None else budget // background
    if found < least:
        raise ExplainError(
            f"a budget of {budget} model rows gives {found} coalitions of {background} background "
            f"rows, and {method} needs {least} for {players} columns: budget={least * background}, "
            "or a smaller background"
        )
    return min(found, most) if method == KERNEL else found

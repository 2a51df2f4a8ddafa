"""A source that takes, of neighbours at one distance, those that its graph takes.

Which of them scikit-learn takes depends on the tree or the heap it searches with, on the number of
rows and on threads. So a graph is compared with its source as it answers when those come first that
come first among the rows of fit: see `convert/equals.py`. Distances must equal the distances of
scikit-learn's own choice, or that choice stays; so a graph that finds other neighbours is still
refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.equals import NEGLIGIBLE, coarse, near_equal, nearest_first
from modelkit.convert.parity.compare import Answers
from modelkit.convert.source import DECISION, TIES

AS_FAR = 1e-12  # of squared distances: more than what is rounded off where graphs compare them
ROUNDING = 64 * np.finfo(np.float64).eps  # of squared distances made of products of rows
ENTRIES = 2**22  # of a table of distances, at most
EUCLIDEAN = ("euclidean", "l2")
FROM_PRODUCTS = (*EUCLIDEAN, "nan_euclidean")
NEIGHBORS = (
    "KNeighborsClassifier", "KNeighborsRegressor", "LocalOutlierFactor", "NearestNeighbors",
)  # fmt: skip

WITHIN = ("RadiusNeighborsClassifier", "RadiusNeighborsRegressor")

Truth = Callable[[Any], Answers]


def with_ties(own: Truth, chosen: Truth) -> Truth:
    """The answers by the rule of graphs, and under `TIES` which rows the source answers otherwise."""

    def answers(rows: Any) -> Answers:
        plain = own(rows)
        found = chosen(rows)
        differs = [differ(plain[name], found[name]) for name in plain if name != DECISION]
        return found | {TIES: np.any(differs, axis=0)}

    return answers


def differ(one: Array, other: Array) -> Array:
    """Whether two answers to each row differ, (n,): numbers by more than the parity check lets pass."""
    differs = np.asarray(one != other)
    if one.dtype.kind == "f":
        differs = ~np.isclose(one, other, rtol=1e-6, atol=1e-9, equal_nan=True)
    return np.asarray(differs.reshape(len(one), -1).any(axis=1))


def choosing(estimator: Any) -> Any:
    """A copy of an estimator in which all neighbours are chosen by the rule of graphs.

    None where it lacks an estimator of neighbours.
    """
    stand_ins: dict[int, Any] = {}
    for part in _held(estimator, set()):
        found = _stand_in(part)
        if found is not None:
            stand_ins[id(part)] = found
    return copy.deepcopy(estimator, stand_ins) if stand_ins else None


def _held(value: Any, seen: set[int]) -> Iterator[Any]:
    """The estimators that a value is or holds, each once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, np.ndarray):
        inner = value.ravel() if value.dtype == object else ()
    elif hasattr(value, "get_params") or type(value).__module__.startswith("sklearn."):
        yield value
        inner = getattr(value, "__dict__", {}).values()
    for part in inner:
        yield from _held(part, seen)


def _stand_in(part: Any) -> Any:
    """What stands for an estimator of neighbours; None for any other."""
    kind = type(part)
    if not kind.__module__.startswith("sklearn."):
        return None
    if kind.__name__ == "KNNImputer":
        return _with_rule(part, _ChoosingDonors)
    dense = isinstance(getattr(part, "_fit_X", None), np.ndarray)
    rule: type | None = None
    if kind.__name__ in NEIGHBORS:
        rule = _Choosing
    elif kind.__name__ in WITHIN and getattr(part, "effective_metric_", None) in EUCLIDEAN:
        rule = _ChoosingWithin
    if rule is None or not dense:
        return None
    found = _with_rule(part, rule)
    found.original = part
    found._fit_method = "chosen"  # by "brute" it would vote without `kneighbors`
    return found


def _with_rule(part: Any, rule: type) -> Any:
    found = copy.copy(part)
    bases = (rule, type(part))
    found.__class__ = type(rule.__name__, bases, {})
    return found


class _ChoosingDonors:
    """A KNNImputer that chooses by the rule of its graph among the distances it computes."""

    def _calc_impute(self, distances: Array, count: int, values: Array, missing: Array) -> Any:
        """The means of a column, (n,). Rows without a distance do not count."""
        gone = self._mask_fit_X  # type: ignore[attr-defined]
        known = np.where(gone, 0.0, self._fit_X)  # type: ignore[attr-defined]
        grid = coarse(known.astype(np.float64))
        squares = np.nan_to_num(distances * distances, nan=np.inf)
        taken = nearest_first((squares + grid) - grid, count)
        chosen = np.where(taken, distances, np.nan)
        return super()._calc_impute(chosen, count, values, missing)  # type: ignore[misc]


class _Choosing:
    """An estimator of neighbours that chooses by the rule of its graph."""

    original: Any

    def kneighbors(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,  # as scikit-learn has it
    ) -> Any:
        """The neighbours of rows and their distances, (n, k) each."""
        if X is None:
            return self.original.kneighbors(None, n_neighbors, return_distance)
        count = n_neighbors or self.original.n_neighbors
        distances, places = _chosen(self.original, X, count)
        return (distances, places) if return_distance else places


class _ChoosingWithin:
    """An estimator of all neighbours within a radius, for which rows at the radius are inside."""

    original: Any

    def radius_neighbors(self, X: Any) -> tuple[Array, Array]:
        """Distances and places of the neighbours of each row, (n,) arrays each."""
        original = self.original
        known = np.asarray(original._fit_X, np.float64)  # no public way
        rows = np.asarray(X, np.float64)
        radius = float(original.radius)
        rounding = _rounding(original, rows, known)
        wide = np.sqrt(radius**2 * (1.0 + AS_FAR) + rounding.max(initial=0.0))
        distances, places = original.radius_neighbors(X, wide)
        for at, near in enumerate(places):
            exact = _lengths(rows[at] - known[near])[:, 0]
            inside = exact <= radius * (1.0 + NEGLIGIBLE)
            own = distances[at]
            if _as_far(own, exact, rounding[at]).all():
                distances[at] = exact[inside]
                places[at] = near[inside]
            else:
                distances[at] = own[own <= radius]
                places[at] = near[own <= radius]
        return distances, places


def _chosen(original: Any, X: Any, count: int) -> tuple[Array, Array]:
    """Distances and places of neighbours, (n, count) each.

    scikit-learn's stay where nothing can be chosen, and where others are not as far.
    """
    known = np.asarray(original._fit_X, np.float64)  # no public way
    rows = np.asarray(X, np.float64)
    distances, places = original.kneighbors(X, min(count + 1, len(known)))
    if original.effective_metric_ in EUCLIDEAN:  # and perhaps made of products
        exact = np.hstack([_lengths(rows - known[place]) for place in places.T])
        distances = exact.astype(distances.dtype, copy=False)
    rounding = _rounding(original, rows, known)
    last = distances[:, count - 1 : count]
    tied = _as_far(last, distances[:, count:], rounding).any(axis=1)
    distances = distances[:, :count]
    places = places[:, :count]
    asked = np.flatnonzero(tied)
    step = max(1, ENTRIES // len(known))
    for start in range(0, len(asked), step):
        at = asked[start : start + step]
        found, nearest = _by_rule(original, rows[at], count)
        right = _as_far(found, np.sort(distances[at], axis=1), rounding[at]).all(axis=1)
        distances[at[right]] = found[right]
        places[at[right]] = nearest[right]
    return distances, places


def _by_rule(original: Any, rows: Array, count: int) -> tuple[Array, Array]:
    """Distances and places of the nearest rows of fit, (n, count) each, the nearest first."""
    from modelkit.convert.estimators.distances import from_training  # it imports spox

    with np.errstate(invalid="ignore", divide="ignore"):
        every = from_training(original, rows)
    compared = every
    if original.effective_metric_ in EUCLIDEAN:
        compared = every * every
    if original.effective_metric_ == "cosine":  # which is off by rounding of numbers near 1
        compared = every + 1.0
    taken = nearest_first(near_equal(compared), count)
    places = np.nonzero(taken)[1].reshape(len(rows), count)
    found = np.take_along_axis(every, places, axis=1)
    order = np.argsort(found, axis=1, kind="stable")
    return (np.take_along_axis(found, order, axis=1), np.take_along_axis(places, order, axis=1))


def _rounding(original: Any, rows: Array, known: Array) -> Array:
    """(n, 1): how far off squared distances may be where they are made of products of rows."""
    metric = original.effective_metric_
    if metric == "cosine":
        return np.full((len(rows), 1), ROUNDING)
    if metric not in FROM_PRODUCTS:
        return np.zeros((len(rows), 1))
    longest = _lengths(known).max()
    return np.asarray(ROUNDING * (_lengths(rows) + longest) ** 2)


def _lengths(rows: Array) -> Array:
    """The length of each row, (n, 1), without its gaps."""
    squares = np.nan_to_num(rows) ** 2
    return np.asarray(np.sqrt(squares.sum(axis=1, keepdims=True)))


def _as_far(one: Array, other: Array, rounding: Array) -> Array:
    """Whether distances are equal but for rounding; infinite ones are."""
    squares = one * one
    with np.errstate(invalid="ignore"):
        apart = np.abs(squares - other * other)
    return np.asarray((apart <= AS_FAR * squares + rounding) | (one == other))

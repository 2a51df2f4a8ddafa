"""Distances of each row from each row of training, (n, rows of training), in float64.

Columns are taken one after the other, so that no tensor is larger than the answer: all differences
at once would be as many times larger as there are columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.scaling import over_norm
from modelkit.convert.estimators.tensors import Var, doubles, op
from modelkit.errors import ConversionError

Term = Callable[[Var, Var], Var]  # of one column: of rows, (n, 1), and of training, (1, rows)
# Other names of metrics.
SAME = {"cityblock": "manhattan", "infinity": "chebyshev", "l1": "manhattan", "l2": "euclidean"}


def added_up(rows: Var, known: Array, term: Term) -> Var:
    """The sum of what a term gives for each column."""
    found: Var | None = None
    for place in range(known.shape[1]):
        part = term(rows[:, [place]], doubles(known[None, :, place]))
        found = part if found is None else found + part
    assert found is not None  # there is a column, for the type checker
    return found


def _largest(rows: Var, known: Array, _: Any) -> Var:
    """The largest difference in a column: Chebyshev's distance."""
    parts = []
    for place in range(known.shape[1]):
        own = rows[:, [place]]
        parts.append(_size(own, doubles(known[None, :, place])))
    return op.max(parts)


def _canberra(rows: Var, known: Array, _: Any) -> Var:
    """The sum of differences, each by the sum of the two sizes; of two zeros it is 0."""
    return added_up(rows, known, lambda own, other: _share(_size(own, other), _sizes(own, other)))


def _bray_curtis(rows: Var, known: Array, _: Any) -> Var:
    """The sum of all differences by the sum of all sizes; of two rows of zeros it is 0."""
    return _share(added_up(rows, known, _size), added_up(rows, known, _sizes))


def _hamming(rows: Var, known: Array, _: Any) -> Var:
    """The share of the columns that differ."""
    found = added_up(rows, known, _difference)
    return found / float(known.shape[1])


def _difference(own: Var, other: Var) -> Var:
    same = own == other
    return np.where(same, 0.0, 1.0)


def _sizes(own: Var, other: Var) -> Var:
    return np.abs(own) + np.abs(other)


def _share(part: Var, whole: Var) -> Var:
    """A part by a whole, 0 where the whole is 0."""
    found = part / whole
    nothing = whole == 0.0
    return np.where(nothing, 0.0, found)


def squared(rows: Var, known: Array) -> Var:
    """Squared Euclidean distances, from the differences themselves."""
    return added_up(rows, known, _square)


def _square(own: Var, other: Var) -> Var:
    apart = own - other
    return apart * apart


def _size(own: Var, other: Var) -> Var:
    return np.abs(own - other)


def metric_of(estimator: Any) -> str:
    """The metric of an estimator by its usual name. Raises ConversionError where it is not known."""
    metric = estimator.effective_metric_
    if isinstance(metric, str):
        metric = SAME.get(metric, metric)
    if not isinstance(metric, str) or metric not in METRICS:
        named = repr(metric) if isinstance(metric, str) else "a function of your own"
        name = type(estimator).__name__
        raise ConversionError(
            f"{name}(metric={named}) cannot be converted; use one of {', '.join(sorted(METRICS))}, "
            "or format='joblib'",
            step=name,
        )
    return metric


def from_training(estimator: Any, rows: Var) -> Var:
    """The distances of rows from those that an estimator was fitted on. Raises ConversionError."""
    metric = metric_of(estimator)
    held = estimator._fit_X  # no public way
    if hasattr(held, "toarray"):
        name = type(estimator).__name__
        raise ConversionError(
            f"{name} that was fitted on a sparse matrix, such as of texts, cannot be converted: a "
            "row of zeros is equally far from many others, and which of them scikit-learn takes is "
            "chance; put TruncatedSVD before it, or use format='joblib'",
            step=name,
        )
    known = np.asarray(held, np.float64)
    return METRICS[metric](rows, known, estimator.effective_metric_params_ or {})


def _euclidean(rows: Var, known: Array, _: Any) -> Var:
    return np.sqrt(squared(rows, known))


def _squared_euclidean(rows: Var, known: Array, _: Any) -> Var:
    return squared(rows, known)


def _manhattan(rows: Var, known: Array, _: Any) -> Var:
    return added_up(rows, known, _size)


def _minkowski(rows: Var, known: Array, given: Any) -> Var:
    """A root of the sum of powers; weights multiply the powers."""
    power = float(given.get("p", 2))
    weights = given.get("w")
    if weights is not None:
        stretched = np.asarray(weights, np.float64) ** (1.0 / power)
        known = known * stretched
        rows = rows * stretched[None]
    whole = added_up(rows, known, lambda own, other: _size(own, other) ** power)
    return whole ** (1.0 / power)


def _standardized(rows: Var, known: Array, given: Any) -> Var:
    spread = np.sqrt(np.asarray(given["V"], np.float64))
    return np.sqrt(squared(rows / spread[None], known / spread))


def _cosine(rows: Var, known: Array, _: Any) -> Var:
    """1 minus the product of rows over their lengths; next to no length counts as 1."""
    from sklearn.preprocessing import normalize

    apart = 1.0 - over_norm(rows, "l2") @ normalize(known).T
    return np.clip(apart, 0.0, 2.0)


def _with_gaps(rows: Var, known: Array, _: Any) -> Var:
    """The Euclidean distance of columns that both rows have, scaled up to all columns."""
    there = (~np.isnan(rows)).astype(np.float64)
    both = there @ ~np.isnan(known).T
    found = added_up(rows, known, _square_or_nothing)
    return np.sqrt(found / both * known.shape[1])


def _square_or_nothing(own: Var, other: Var) -> Var:
    square = _square(own, other)
    return np.where(np.isnan(square), 0.0, square)


Metric = Callable[[Var, "Array", Any], Var]
METRICS: dict[str, Metric] = {
    "braycurtis": _bray_curtis,
    "canberra": _canberra,
    "chebyshev": _largest,
    "cosine": _cosine,
    "euclidean": _euclidean,
    "hamming": _hamming,
    "manhattan": _manhattan,
    "minkowski": _minkowski,
    "nan_euclidean": _with_gaps,
    "seuclidean": _standardized,
    "sqeuclidean": _squared_euclidean,
}

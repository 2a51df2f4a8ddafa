"""Distances of each row from each row of training, (n, rows of training), in float64.

Columns are taken one after the other, so no tensor is larger than the answer: all differences
at once would be as many times larger as there are columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.scaling import over_norm
from modelkit.convert.estimators.tensors import refuse

Term = Callable[[Any, Any], Any]  # of one column: of rows, (n, 1), and of training, (1, rows)
# Other names of metrics.
SAME = {"cityblock": "manhattan", "infinity": "chebyshev", "l1": "manhattan", "l2": "euclidean"}


def added_up(x: Any, known: Array, term: Term, add: Any = np.add) -> Any:
    """The sum of what a term gives for each column."""
    return reduce(add, [term(x[:, [at]], known[None, :, at]) for at in range(known.shape[1])])


def _sizes(own: Any, other: Any) -> Any:
    return np.abs(own) + np.abs(other)


def _share(part: Any, whole: Any) -> Any:
    """A part by a whole, 0 where the whole is 0."""
    return np.where(whole == 0.0, 0.0, part / whole)


def squared(x: Any, known: Array) -> Any:
    """Squared Euclidean distances, from the differences themselves."""
    return added_up(x, known, _square)


def _square(own: Any, other: Any) -> Any:
    apart = own - other
    return apart * apart


def _size(own: Any, other: Any) -> Any:
    return np.abs(own - other)


def metric_of(estimator: Any) -> str:
    """The metric of an estimator by its usual name. Raises ConversionError where it is not known."""
    metric = estimator.effective_metric_
    if isinstance(metric, str):
        metric = SAME.get(metric, metric)
    if not isinstance(metric, str) or metric not in METRICS:
        named = repr(metric) if isinstance(metric, str) else "a function of your own"
        refuse(
            estimator,
            f"(metric={named}) cannot be converted; use one of {', '.join(sorted(METRICS))}, "
            "or format='joblib'",
        )
    return metric


def from_training(estimator: Any, x: Any) -> Any:
    """The distances of rows from those that an estimator was fitted on. Raises ConversionError."""
    metric = metric_of(estimator)
    held = estimator._fit_X  # no public way
    if hasattr(held, "toarray"):
        refuse(
            estimator,
            " that was fitted on a sparse matrix, such as of texts, cannot be converted: a "
            "row of zeros is equally far from many others, and which of them scikit-learn takes is "
            "chance; put TruncatedSVD before it, or use format='joblib'",
        )
    known = np.asarray(held, np.float64)
    return METRICS[metric](x, known, estimator.effective_metric_params_ or {})


def _minkowski(x: Any, known: Array, given: Any) -> Any:
    """A root of the sum of powers; weights multiply the powers."""
    power = float(given.get("p", 2))
    weights = given.get("w")
    if weights is not None:
        stretched = np.asarray(weights, np.float64) ** (1.0 / power)
        known = known * stretched
        x = x * stretched
    return added_up(x, known, lambda own, other: _size(own, other) ** power) ** (1.0 / power)


def _standardized(x: Any, known: Array, given: Any) -> Any:
    spread = np.sqrt(np.asarray(given["V"], np.float64))
    return np.sqrt(squared(x / spread, known / spread))


def _cosine(x: Any, known: Array, _: Any) -> Any:
    """1 minus the product of rows over their lengths; next to no length counts as 1."""
    from sklearn.preprocessing import normalize

    return np.clip(1.0 - over_norm(x, "l2") @ normalize(known).T, 0.0, 2.0)


def _with_gaps(x: Any, known: Array, _: Any) -> Any:
    """The Euclidean distance of columns that both rows have, scaled up to all columns."""
    both = (~np.isnan(x)).astype(np.float64) @ ~np.isnan(known).T
    found = added_up(x, known, _square_or_nothing)
    return np.sqrt(found / both * known.shape[1])


def _square_or_nothing(own: Any, other: Any) -> Any:
    square = _square(own, other)
    return np.where(np.isnan(square), 0.0, square)


Metric = Callable[[Any, "Array", Any], Any]
METRICS: dict[str, Metric] = {
    # The sum of all differences by the sum of all sizes; of two rows of zeros it is 0.
    "braycurtis": lambda x, known, _: _share(added_up(x, known, _size), added_up(x, known, _sizes)),
    # The sum of differences, each by the sum of the two sizes; of two zeros it is 0.
    "canberra": lambda x, known, _: added_up(
        x, known, lambda own, other: _share(_size(own, other), _sizes(own, other))
    ),
    "chebyshev": lambda x, known, _: added_up(x, known, _size, np.maximum),
    "cosine": _cosine,
    "euclidean": lambda x, known, _: np.sqrt(squared(x, known)),
    # The share of the columns that differ.
    "hamming": lambda x, known, _: (
        added_up(x, known, lambda own, other: np.where(own == other, 0.0, 1.0))
        / float(known.shape[1])
    ),
    "manhattan": lambda x, known, _: added_up(x, known, _size),
    "minkowski": _minkowski,
    "nan_euclidean": _with_gaps,
    "seuclidean": _standardized,
    "sqeuclidean": lambda x, known, _: squared(x, known),
}

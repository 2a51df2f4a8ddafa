"""Distances of each row from each row of training, (n, rows of training), in float64.

Columns are taken one after the other, so that no tensor is larger than the answer: all differences
at once would be as many times larger as there are columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.tensors import Var, constant, doubles, one_column, op
from modelkit.errors import ConversionError

Term = Callable[[Var, Var], Var]  # of one column: of rows, (n, 1), and of training, (1, rows)
# Other names of metrics.
SAME = {"cityblock": "manhattan", "l1": "manhattan", "l2": "euclidean"}


def added_up(
    rows: Var,
    known: Array,
    term: Term,
    join: Callable[[Var, Var], Var] = op.add,
) -> Var:
    """What a term gives for each column, joined one after the other."""
    found: Var | None = None
    for place in range(known.shape[1]):
        part = term(one_column(rows, place), doubles(known[None, :, place]))
        found = part if found is None else join(found, part)
    assert found is not None  # noqa: S101 - there is a column, for the type checker
    return found


def squared(rows: Var, known: Array) -> Var:
    """Squared Euclidean distances, from the differences themselves."""
    return added_up(rows, known, _square)


def _square(own: Var, other: Var) -> Var:
    apart = op.sub(own, other)
    return op.mul(apart, apart)


def _size(own: Var, other: Var) -> Var:
    return op.abs(op.sub(own, other))


def _share(own: Var, other: Var) -> Var:
    """The difference over the sum of sizes; 0 where both are 0."""
    whole = op.add(op.abs(own), op.abs(other))
    share = op.div(_size(own, other), whole)
    return op.where(op.equal(whole, doubles(0.0)), doubles(0.0), share)


def _unlike(own: Var, other: Var) -> Var:
    return op.cast(op.not_(op.equal(own, other)), to=np.float64)


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
    held = estimator._fit_X  # noqa: SLF001 - no public way
    known = np.asarray(held.toarray() if hasattr(held, "toarray") else held, np.float64)
    return METRICS[metric](rows, known, estimator.effective_metric_params_ or {})


def _euclidean(rows: Var, known: Array, _: Any) -> Var:
    return op.sqrt(squared(rows, known))


def _squared_euclidean(rows: Var, known: Array, _: Any) -> Var:
    return squared(rows, known)


def _manhattan(rows: Var, known: Array, _: Any) -> Var:
    return added_up(rows, known, _size)


def _chebyshev(rows: Var, known: Array, _: Any) -> Var:
    return added_up(rows, known, _size, lambda one, other: op.max([one, other]))


def _minkowski(rows: Var, known: Array, given: Any) -> Var:
    """A root of the sum of powers; weights multiply the powers."""
    power = float(given.get("p", 2))
    weights = given.get("w")
    if weights is not None:
        stretched = np.asarray(weights, np.float64) ** (1.0 / power)
        known = known * stretched
        rows = op.mul(rows, doubles(stretched[None]))
    whole = added_up(rows, known, lambda own, other: op.pow(_size(own, other), doubles(power)))
    return op.pow(whole, doubles(1.0 / power))


def _standardized(rows: Var, known: Array, given: Any) -> Var:
    spread = np.sqrt(np.asarray(given["V"], np.float64))
    return op.sqrt(squared(op.div(rows, doubles(spread[None])), known / spread))


def _canberra(rows: Var, known: Array, _: Any) -> Var:
    return added_up(rows, known, _share)


def _bray_curtis(rows: Var, known: Array, _: Any) -> Var:
    """The sum of differences over the sum of sizes; 0 where all are 0."""
    sizes = op.reduce_l1(rows, constant([1], np.int64), keepdims=1)
    whole = op.add(sizes, doubles(np.abs(known).sum(axis=1)[None]))
    share = op.div(_manhattan(rows, known, None), whole)
    return op.where(op.equal(whole, doubles(0.0)), doubles(0.0), share)


def _hamming(rows: Var, known: Array, _: Any) -> Var:
    return op.div(added_up(rows, known, _unlike), doubles(known.shape[1]))


def _cosine(rows: Var, known: Array, _: Any) -> Var:
    """1 minus the product of rows of length 1; a row of zeros stays one."""
    lengths = np.sqrt((known * known).sum(axis=1, keepdims=True))
    unit = known / np.where(lengths == 0, 1.0, lengths)
    length = op.reduce_l2(rows, constant([1], np.int64), keepdims=1)
    divisor = op.where(op.equal(length, doubles(0.0)), doubles(1.0), length)
    apart = op.sub(doubles(1.0), op.matmul(op.div(rows, divisor), doubles(unit.T)))
    return op.clip(apart, doubles(0.0), doubles(2.0))


def _with_gaps(rows: Var, known: Array, _: Any) -> Var:
    """The Euclidean distance of columns that both rows have, scaled up to all columns."""
    gap = op.isnan(rows)
    there = op.where(gap, doubles(0.0), doubles(1.0))
    seen = (~np.isnan(known)).astype(np.float64)
    filled = op.where(gap, doubles(0.0), rows)
    held = np.nan_to_num(known)
    both = op.matmul(there, doubles(seen.T))
    found: Var | None = None
    for place in range(known.shape[1]):
        apart = op.mul(
            op.sub(one_column(filled, place), doubles(held[None, :, place])),
            one_column(there, place),
        )
        apart = op.mul(apart, doubles(seen[None, :, place]))
        part = op.mul(apart, apart)
        found = part if found is None else op.add(found, part)
    assert found is not None  # noqa: S101 - there is a column, for the type checker
    return op.sqrt(op.mul(op.div(found, both), doubles(known.shape[1])))


Metric = Callable[[Var, "Array", Any], Var]
METRICS: dict[str, Metric] = {
    "braycurtis": _bray_curtis,
    "canberra": _canberra,
    "chebyshev": _chebyshev,
    "cosine": _cosine,
    "euclidean": _euclidean,
    "hamming": _hamming,
    "manhattan": _manhattan,
    "minkowski": _minkowski,
    "nan_euclidean": _with_gaps,
    "seuclidean": _standardized,
    "sqeuclidean": _squared_euclidean,
}

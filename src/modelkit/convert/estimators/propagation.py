"""Converters of LabelPropagation and LabelSpreading, in float64: labels of the rows of training, by nearness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.distances import squared
from modelkit.convert.estimators.neighbors import nearest
from modelkit.convert.estimators.tensors import Answer, Columns, Var, doubles, largest, op
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def propagated(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """The labels that rows of training came to have, times a kernel, or those of the nearest."""
    rows = columns.matrix(np.float64)
    spread = doubles(estimator.label_distributions_)
    if callable(estimator.kernel):
        name = type(estimator).__name__
        raise ConversionError(
            f"{name} with a kernel of your own cannot be converted; use kernel='rbf' or 'knn', or "
            "format='joblib'",
            step=name,
        )
    if estimator.kernel == "knn":
        places, _distances = nearest(estimator.nn_fit, rows, estimator.n_neighbors)
        found = np.sum(op.gather(spread, places), axis=1)
    else:
        found = _nearness(estimator, rows) @ spread
    whole = np.sum(found, axis=1, keepdims=True)
    likely = found / whole
    return Answer(place=largest(likely), probabilities=likely)


def _nearness(estimator: Any, rows: Var) -> Var:
    squares = squared(rows, np.asarray(estimator.X_, np.float64))
    return np.exp(squares * -float(estimator.gamma))


ESTIMATORS = {"sklearn.LabelPropagation": propagated, "sklearn.LabelSpreading": propagated}

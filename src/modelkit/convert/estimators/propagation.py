"""Converters of LabelPropagation and LabelSpreading, in float64: labels of the rows of training, by nearness."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.estimators.distances import squared
from modelkit.convert.estimators.neighbors import nearest
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.tensors import Answer, gathered, largest, refuse


@of_doubles("LabelPropagation", "LabelSpreading")
def propagated(estimator: Any, x: Any) -> Answer:
    """The labels that rows of training came to have, times a kernel, or those of the nearest."""
    spread = estimator.label_distributions_
    if callable(estimator.kernel):
        refuse(
            estimator,
            " with a kernel of your own cannot be converted; use kernel='rbf' or 'knn', or "
            "format='joblib'",
        )
    if estimator.kernel == "knn":
        places, _ = nearest(estimator.nn_fit, x, estimator.n_neighbors)
        found = np.sum(gathered(spread, places), axis=1)
    else:
        apart = squared(x, np.asarray(estimator.X_, np.float64))
        found = np.exp(apart * -float(estimator.gamma)) @ spread
    likely = found / np.sum(found, axis=1, keepdims=True)
    return Answer(place=largest(likely), probabilities=likely)

"""Converter of IsolationForest: a score by how deep its trees isolate a row, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.arithmetic import minus, over, plus, times
from modelkit.convert.estimators.forests import tree_of
from modelkit.convert.estimators.outliers import detected, side
from modelkit.convert.estimators.tensors import Answer, Columns, Var, doubles, flat, op
from modelkit.convert.estimators.trees import Tree, sum_of_leaves

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def isolation(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """IsolationForest: a power of the sum of how deep the trees isolate a row."""
    trees = _isolating(estimator)
    added = flat(sum_of_leaves(columns.matrix(np.float32), trees, _depths(estimator)))
    every = _depth_of_all(estimator)
    share = over(added, every) if every else _ones(added)
    score = op.neg(op.pow(doubles(2.0), op.neg(share)))
    found = detected(estimator, columns, at, score)
    if not every:
        return found
    # Sums are equal to the last bit, and scores are not.
    least = _least_sum(every, float(estimator.offset_))
    return replace(found, label=side(minus(added, least), least=True))


def _least_sum(every: float, offset: float) -> float:
    """The least sum of depths whose score comes to the offset in the source."""
    low = 0
    high = int(np.array(np.inf).view(np.int64))
    while low < high:
        middle = (low + high) // 2
        depth = np.array([middle]).view(np.float64)
        if (-(2.0 ** -(depth / every)) - offset >= 0).all():
            high = middle
        else:
            low = middle + 1
    return float(np.array(low).view(np.float64))


def _isolating(estimator: Any) -> list[Tree]:
    """The trees of an IsolationForest, each over the columns that it was trained on."""
    trees = estimator.estimators_
    if estimator._max_features == estimator.n_features_in_:  # max_features as a number
        return [tree_of(each) for each in trees]
    features = estimator.estimators_features_[: len(trees)]
    return [tree_of(each, chosen) for each, chosen in zip(trees, features, strict=True)]


def _ones(like: Var) -> Var:
    """Ones in the shape of a tensor."""
    return plus(times(like, 0.0), 1.0)


def _depths(estimator: Any) -> list[Array]:
    """(nodes, 1) for each tree: how deep each node is, and a row that ends there on average."""
    count = len(estimator.estimators_)  # of which some may have been taken off
    paths = estimator._decision_path_lengths[:count]  # no public way
    averages = estimator._average_path_length_per_tree[:count]
    return [(own + average - 1.0)[:, None] for own, average in zip(paths, averages, strict=True)]


def _depth_of_all(estimator: Any) -> float:
    """The depth of a row in all trees together, on average."""
    from sklearn.ensemble._iforest import _average_path_length

    one = _average_path_length([estimator._max_samples])[0]  # no public way
    return len(estimator.estimators_) * float(one)


ESTIMATORS = {"sklearn.IsolationForest": isolation}

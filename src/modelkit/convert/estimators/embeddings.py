"""Converter of RandomTreesEmbedding: a column of 0 and 1 for each leaf of its trees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.forests import tree_of
from modelkit.convert.estimators.scaling import one_table
from modelkit.convert.estimators.tensors import Answer, Columns, cast
from modelkit.convert.estimators.trees import ensemble

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def leaves(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """RandomTreesEmbedding: which leaf a row ends in, for each tree."""
    trees = [tree_of(each) for each in estimator.estimators_]
    targets = []
    weights = []
    first = 0
    for tree, known in zip(trees, estimator.one_hot_encoder_.categories_, strict=True):
        targets.append(first + np.searchsorted(known, np.arange(len(tree.left))))
        weights.append(np.isin(np.arange(len(tree.left)), known).astype(float))
        first += len(known)
    found = ensemble(
        columns.matrix(np.float32),
        trees,
        [np.minimum(target, first - 1) for target in targets],
        weights,
        first,
    )
    return one_table(cast(found, np.float64))


ESTIMATORS = {"sklearn.RandomTreesEmbedding": leaves}

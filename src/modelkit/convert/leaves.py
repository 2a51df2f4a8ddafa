"""Converter of trees whose leaves are columns: a row has a 1 for the leaf of each tree that it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.forests import tree_of
from modelkit.convert.tensors import Answer, Columns
from modelkit.convert.trees import sum_of_leaves

if TYPE_CHECKING:
    from modelkit.cast import Array
    from modelkit.convert.converting import Converting


def embedded(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """RandomTreesEmbedding: each leaf adds 1 to a column of its own."""
    trees = [tree_of(each) for each in estimator.estimators_]
    table = sum_of_leaves(
        columns.matrix(np.float32),
        trees,
        _columns_of_leaves(estimator),
    )
    return Answer(table=Columns((table,)))


def _columns_of_leaves(estimator: Any) -> list[Array]:
    """For each tree (nodes, columns): 1 in the column of each leaf."""
    known = estimator.one_hot_encoder_.categories_
    width = sum(map(len, known))
    start = 0
    found = []
    for each, leaves in zip(estimator.estimators_, known, strict=True):
        held = np.zeros((each.tree_.node_count, width))
        held[leaves, np.arange(start, start + len(leaves))] = 1.0
        start += len(leaves)
        found.append(held)
    return found


ESTIMATORS = {"sklearn.RandomTreesEmbedding": embedded}

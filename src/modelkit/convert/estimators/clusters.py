"""Converters of clusters: the centre that is nearest by squared distances, made of products as in scikit-learn.

Squares are added up as the sources add them, for rounding far from 0 decides between centres there too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.rows import note_single, of_doubles
from modelkit.convert.estimators.tensors import Answer, affine, gathered, largest, refuse, squares


def _means(estimator: Any, x: Any) -> Answer:
    centers = estimator.cluster_centers_
    rows = _single(x, centers)
    apart = _without_own(rows, centers)
    if centers.dtype == np.float64:
        table = np.sqrt(np.maximum(apart + squares(rows, keepdims=True), 0.0))
    else:
        table = np.sqrt(_squares(x, centers))
    return Answer(label=np.argmin(apart, axis=1), table=table)


@of_doubles("KMeans", "MiniBatchKMeans")
def means(estimator: Any, x: Any) -> Answer:
    """KMeans and MiniBatchKMeans: of equally near centres the first."""
    return _means(estimator, x)


@of_doubles("BisectingKMeans")
def bisecting(estimator: Any, x: Any) -> Answer:
    """BisectingKMeans: from the root to a leaf, each time to the nearer of two centres."""
    if estimator._bisecting_tree.left is None:  # no public way
        return _means(estimator, x)
    centers = estimator.cluster_centers_
    splits, paths = _splits(estimator)
    turned = _turned(estimator, splits, _single(x, centers))
    # All turns of the leaf that is reached are its own: its sum is 0, and that of others below.
    own = (paths > 0).sum(axis=0)
    return Answer(label=largest(affine(turned, paths, -own)), table=np.sqrt(_squares(x, centers)))


def _turned(estimator: Any, splits: list[Any], rows: Any) -> Any:
    """(n, nodes): 1 where a row is nearer to the left of both centres, or as near, and 0 elsewhere."""
    middle = getattr(estimator, "_X_mean", 0.0)  # what was taken off the rows before
    left = np.array([each.left.center for each in splits]) + middle
    right = np.array([each.right.center for each in splits]) + middle
    return (_without_own(rows, left) <= _without_own(rows, right)).astype(np.float64)


def _splits(estimator: Any) -> tuple[list[Any], Array]:
    """The nodes that part their rows, and how each leaf lies to them.

    That is (nodes, leaves): 1 where a leaf is on the left of a node, -1 on its right, 0 elsewhere.
    """
    splits: list[Any] = []
    turns: dict[int, dict[int, float]] = {}
    todo: list[tuple[Any, dict[int, float]]] = [(estimator._bisecting_tree, {})]
    while todo:
        node, before = todo.pop()
        if node.left is None:
            turns[node.label] = before
            continue
        number = len(splits)
        splits.append(node)
        todo.append((node.left, before | {number: 1.0}))
        todo.append((node.right, before | {number: -1.0}))
    paths = np.zeros((len(splits), len(turns)))
    for label, taken in turns.items():
        for number, turn in taken.items():
            paths[number, label] = turn
    return splits, paths


@of_doubles("Birch")
def subclusters(estimator: Any, x: Any) -> Answer:
    """Birch: the cluster of the nearest subcluster."""
    apart = _squares(x, estimator.subcluster_centers_)
    labels = estimator.subcluster_labels_.astype(np.int64)
    return Answer(label=gathered(labels, np.argmin(apart, axis=1)), table=np.sqrt(apart))


@of_doubles("MeanShift", "AffinityPropagation")
def by_centers(estimator: Any, x: Any) -> Answer:
    """MeanShift and AffinityPropagation: the nearest centre."""
    centers = np.asarray(getattr(estimator, "cluster_centers_", ()))
    if not len(centers):
        refuse(
            estimator,
            " found no centres, so that it answers no new rows; fit it until it converges, and with "
            "affinity='euclidean'",
        )
    return Answer(label=np.argmin(_squares(x, centers), axis=1))


def _single(x: Any, centers: Array) -> Any:
    """The rows in the precision of the centres, in which scikit-learn compares."""
    note_single(x, centers)
    return x if centers.dtype == np.float64 else x.astype(np.float32)


def _without_own(rows: Any, centers: Array) -> Any:
    """(n, centres): squared distances less the square of each row, which is the same for all centres."""
    from sklearn.utils.extmath import row_norms

    return affine(rows, -2 * centers.T, row_norms(centers, squared=True))


def _squares(x: Any, centers: Array) -> Any:
    """(n, centres): squared distances, none below 0."""
    from sklearn.utils.extmath import row_norms

    known = np.asarray(centers, np.float64)
    products = x @ (-2 * known.T) + squares(x, keepdims=True)
    return np.maximum(products + row_norms(known, squared=True), 0.0)

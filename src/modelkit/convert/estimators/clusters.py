"""Converters of clusters: the centre that is nearest by squared distances, made of products as in scikit-learn.

Squares are added up as the sources add them, for rounding far from 0 decides between centres there too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import product
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, largest, op
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit._internal.arrays import Array
    from modelkit.convert.estimators.converting import Converting


def means(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """KMeans and MiniBatchKMeans: of equally near centres the first."""
    centers = estimator.cluster_centers_
    rows = _rows(columns, centers, at)
    apart = _without_own(rows, centers)
    if centers.dtype == np.float64:
        squares = _from_zero(apart + _own(rows))
        table = Columns((np.sqrt(squares),))
    else:
        table = _distances(columns, centers)
    return Answer(label=_first(apart), table=table)


def bisecting(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """BisectingKMeans: from the root to a leaf, each time to the nearer of two centres."""
    if estimator._bisecting_tree.left is None:  # no public way
        return means(estimator, columns, at)
    centers = estimator.cluster_centers_
    splits, paths = _splits(estimator)
    turned = _turned(estimator, splits, _rows(columns, centers, at))
    # All turns of the leaf that is reached are its own: its sum is 0, and that of others below.
    own = (paths > 0).sum(axis=0)
    reached = product(turned, paths, -own)
    return Answer(label=largest(reached), table=_distances(columns, centers))


def _turned(estimator: Any, splits: list[Any], rows: Var) -> Var:
    """(n, nodes): 1 where a row is nearer to the left of both centres, or as near, and 0 elsewhere."""
    middle = getattr(estimator, "_X_mean", 0.0)  # what was taken off the rows before
    left = np.array([each.left.center for each in splits]) + middle
    right = np.array([each.right.center for each in splits]) + middle
    nearer = _without_own(rows, left) <= _without_own(rows, right)
    return nearer.astype(np.float64)


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


def subclusters(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """Birch: the cluster of the nearest subcluster."""
    squares = _squares(columns.matrix(np.float64), estimator.subcluster_centers_)
    labels = constant(estimator.subcluster_labels_, np.int64)
    return Answer(label=op.gather(labels, _first(squares)), table=Columns((np.sqrt(squares),)))


def by_centers(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """MeanShift and AffinityPropagation: the nearest centre."""
    name = type(estimator).__name__
    centers = np.asarray(getattr(estimator, "cluster_centers_", ()))
    if not len(centers):
        raise ConversionError(
            f"{name} found no centres, so that it answers no new rows; fit it until it converges, and with "
            "affinity='euclidean'",
            step=name,
        )
    return Answer(label=_first(_squares(columns.matrix(np.float64), centers)))


def _rows(columns: Columns, centers: Array, at: Converting) -> Var:
    """The rows in the precision of the centres, in which scikit-learn compares."""
    if centers.dtype == np.float32:
        at.narrow = True  # its sums are made in another order
    return columns.matrix(centers.dtype)


def _without_own(rows: Var, centers: Array) -> Var:
    """(n, centres): squared distances less the square of each row, which is the same for all centres."""
    from sklearn.utils.extmath import row_norms

    squares = row_norms(centers, squared=True)
    return op.gemm(rows, constant(-2 * centers.T), constant(squares))


def _distances(columns: Columns, centers: Array) -> Columns:
    """The distance from each centre."""
    squares = _squares(columns.matrix(np.float64), centers)
    return Columns((np.sqrt(squares),))


def _squares(rows: Var, centers: Array) -> Var:
    """(n, centres): squared distances, none below 0."""
    from sklearn.utils.extmath import row_norms

    known = np.asarray(centers, np.float64)
    products = rows @ (-2 * known.T)
    squares = products + _own(rows) + row_norms(known, squared=True)[None]
    return _from_zero(squares)


def _own(rows: Var) -> Var:
    """(n, 1): the square of each row."""
    return op.reduce_sum_square(rows, constant([1], np.int64), keepdims=1)


def _from_zero(squares: Var) -> Var:
    """Squares, of which rounding may have left some below 0."""
    return np.maximum(squares, 0.0)


def _first(squares: Var) -> Var:
    """The place of the smallest number of each row, of equals the first."""
    return np.argmin(squares, axis=1)


ESTIMATORS = {
    "sklearn.KMeans": means,
    "sklearn.MiniBatchKMeans": means,
    "sklearn.BisectingKMeans": bisecting,
    "sklearn.Birch": subclusters,
    "sklearn.MeanShift": by_centers,
    "sklearn.AffinityPropagation": by_centers,
}

"""Converters of scikit-learn's trees, and of forests and AdaBoost: float32 rows, float64 leaves.

Leaves are added in the order in which scikit-learn adds them, from the same first value, so that
sums are equal to the last bit, and so are the ties that labels depend on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.outliers import detected, side
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    column_stack,
    constant,
    converts,
    flat,
    gathered,
    largest,
    likeliest,
    op,
    refuse,
    softmax,
    upright,
)
from modelkit.convert.estimators.trees import Forest, by_tree, ensemble, sum_of_leaves


def forest_of(fitted: Sequence[Any], values: Sequence[Array], features: Any = None) -> Forest:
    """The nodes of fitted trees, with what each adds.

    `features` are the columns that each tree was trained on, if not all.
    """
    nodes = [each.tree_ for each in fitted]

    def every(name: str) -> Array:
        return np.concatenate([getattr(each, name) for each in nodes])

    columns = every("feature")
    if features is not None:
        own = zip(features, nodes, strict=False)
        columns = np.concatenate([np.take(those, each.feature, mode="clip") for those, each in own])
    thresholds = every("threshold")
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    # The largest float32 up to each threshold: `x <= t` holds for the same rows of float32.
    below = np.nextafter(near, np.float32(-np.inf))
    return Forest(
        every("children_left"),
        every("children_right"),
        columns,
        np.where(near > thresholds, below, near),
        every("missing_go_to_left"),
        np.concatenate(values),
        np.array([each.node_count for each in nodes]),
    )


def leaves_of(fitted: Any) -> Array:
    """(nodes, m): what each node answers; several outputs stand side by side."""
    values = fitted.tree_.value
    counts = fitted.tree_.n_classes
    if not hasattr(fitted, "classes_"):
        return np.asarray(values[:, :, 0])
    return np.concatenate([values[:, at, :count] for at, count in enumerate(counts)], axis=1)


def is_tree(estimator: Any) -> bool:
    """Whether an estimator is a single tree of scikit-learn."""
    return type(estimator).__module__.startswith("sklearn.tree.") and hasattr(estimator, "tree_")


@converts(
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "imblearn.BalancedRandomForestClassifier",
)
def forest(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """Trees, RandomForest and ExtraTrees: the mean of what the trees say."""
    trees = [estimator] if is_tree(estimator) else estimator.estimators_
    added = sum_of_leaves(columns.matrix(np.float32), forest_of(trees, [*map(leaves_of, trees)]))
    values = mean(added, len(trees))
    outputs = estimator.n_outputs_
    if not hasattr(estimator, "classes_"):
        return Answer(prediction=flat(values) if outputs == 1 else values)
    if outputs == 1:
        return likeliest(values)
    starts = np.cumsum([0, *estimator.n_classes_])
    parts = [np.take(values, range(*ends), axis=1) for ends in pairwise(starts)]
    return Answer(several=tuple(map(likeliest, parts)))


def mean(added: Var, count: int) -> Var:
    """A sum over its number of terms."""
    return added if count == 1 else added / count


@converts("AdaBoostClassifier", "imblearn.RUSBoostClassifier")
def adaptive(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """AdaBoostClassifier: each estimator adds its weight to its class, and takes from others."""
    count = len(estimator.classes_)
    if count == 1:
        refuse(estimator, " of one class cannot be converted; fit it on rows of several")
    parts = estimator.estimators_
    weights = estimator.estimator_weights_
    by_trees = all(map(is_tree, parts))
    terms = []
    for each, weight in zip(parts, weights, strict=False):  # fit may have stopped early
        if by_trees:  # what each leaf says
            said = each.classes_[leaves_of(each).argmax(axis=1)][:, None] == estimator.classes_
        else:
            place = at.answer(each, columns).required("place")
            known = np.searchsorted(estimator.classes_, each.classes_)
            if not np.array_equal(known, np.arange(len(known))):
                place = gathered(known, place)
            said = upright(place) == [range(count)]
        terms.append(np.where(said, weight, -1 / (count - 1) * weight))
    added = (
        sum_of_leaves(columns.matrix(np.float32), forest_of(parts, terms))
        if by_trees
        else op.sum(terms)
    ) / float(weights.sum())
    if count == 2:
        return _decided_by_two(added)
    scores = softmax(added / (count - 1))
    return Answer(place=largest(added), probabilities=scores, decision=added)


def _decided_by_two(added: Var) -> Answer:
    """What an AdaBoostClassifier of two classes answers, from what was added to each, (n, 2)."""
    decision = -added[:, 0] + added[:, 1]
    pair = upright(decision) * [[-1.0, 1.0]] * 0.5
    place = (decision > 0.0).astype(np.int64)
    return Answer(place=place, probabilities=softmax(pair), decision=decision)


@converts("AdaBoostRegressor")
def median(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """AdaBoostRegressor: the weighted median of what its estimators say."""
    count = len(estimator.estimators_)
    said = _each_prediction(estimator.estimators_, columns, at)
    ordered, order = op.top_k(said, constant([count], np.int64), axis=1, largest=0)
    weights = gathered(estimator.estimator_weights_[:count], order)
    first = _middle(weights)
    return Answer(prediction=flat(np.take_along_axis(ordered, first, axis=1)))


def _middle(weights: Var) -> Var:
    """(n, 1): the first place at which the weights of a row come to half of their sum."""
    share = op.cumsum(weights, constant(1, np.int64))
    half = np.take(share, [-1], axis=1) * 0.5
    reached = (share >= half).astype(np.int32)
    return np.argmax(reached, axis=1, keepdims=True)


def _each_prediction(parts: Sequence[Any], columns: Columns, at: Converting) -> Var:
    """(n, estimators): what each of the estimators predicts."""
    if not all(map(is_tree, parts)):
        said = [at.answer(each, columns).required("prediction") for each in parts]
        return column_stack(said)
    forest = forest_of(parts, [*map(leaves_of, parts)])
    return by_tree(columns.matrix(np.float32).astype(np.float64), forest, forest.leaves[:, 0])


@converts("RandomTreesEmbedding")
def embedding(estimator: Any, columns: Columns, at: Converting) -> Var:
    """RandomTreesEmbedding: which leaf a row ends in, for each tree."""
    trees = estimator.estimators_
    known = estimator.one_hot_encoder_.categories_
    seen = [
        np.isin(range(each.tree_.node_count), own) for each, own in zip(trees, known, strict=True)
    ]
    forest = forest_of(trees, seen)
    met = forest.leaves
    count = int(met.sum())
    # Of those that no row of fit ended in, a zero is added.
    target = np.minimum(np.cumsum(met) - met, count - 1)
    found = ensemble(columns.matrix(np.float32), forest, met, target, count)
    return found.astype(np.float64)


@converts("IsolationForest")
def isolation(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """IsolationForest: a power of the sum of how deep the trees isolate a row."""
    from sklearn.ensemble._iforest import _average_path_length

    added = flat(sum_of_leaves(columns.matrix(np.float32), _isolating(estimator)))
    # How deep a row is in all trees together, on average; no public way.
    every = len(estimator.estimators_) * float(_average_path_length([estimator._max_samples])[0])
    share = added / every if every else added * 0.0 + 1.0
    found = detected(estimator, columns.table(), -(2.0**-share))
    if not every:
        return found
    # Sums are equal to the last bit, and scores are not.
    least = _least_sum(every, float(estimator.offset_))
    return replace(found, label=side(added - least >= 0.0))


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


def _isolating(estimator: Any) -> Forest:
    """The trees, and how deep each node is, and a row that ends there on average."""
    trees = estimator.estimators_  # of which some may have been taken off
    paths = estimator._decision_path_lengths  # no public way
    averages = estimator._average_path_length_per_tree
    depths = [
        (own + more - 1.0)[:, None] for _, own, more in zip(trees, paths, averages, strict=False)
    ]
    some = estimator._max_features != estimator.n_features_in_  # max_features as a number
    return forest_of(trees, depths, estimator.estimators_features_ if some else None)

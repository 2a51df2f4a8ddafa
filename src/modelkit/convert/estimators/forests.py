"""Converters of scikit-learn's trees, forests and AdaBoost: float32 rows, float64 leaves.

Leaves are added in the order in which scikit-learn adds them, from the same first value, so that
sums are equal to the last bit, and so are the ties that labels depend on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.arithmetic import at_least, choose, greater, over, plus, times
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    cast,
    column,
    constant,
    doubles,
    flat,
    joined,
    largest,
    op,
    upright,
)
from modelkit.convert.estimators.trees import Tree, ensemble, rounded_down, sum_of_leaves
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def tree_of(fitted: Any, features: Array | None = None) -> Tree:
    """The nodes of a fitted tree; `features` are the columns it was trained on, if not all."""
    nodes = fitted.tree_
    chosen = np.asarray(nodes.feature, np.int64)
    if features is not None:
        read = np.where(nodes.children_left < 0, 0, chosen)  # a leaf reads column -2
        chosen = np.asarray(features)[read]
    return Tree(
        column=chosen,
        threshold=rounded_down(nodes.threshold),
        missing=np.asarray(nodes.missing_go_to_left, bool),
        left=np.asarray(nodes.children_left),
        right=np.asarray(nodes.children_right),
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


def tree(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """DecisionTree and ExtraTree."""
    rows = columns.matrix(np.float32)
    return _voted(estimator, sum_of_leaves(rows, [tree_of(estimator)], [leaves_of(estimator)]))


def forest(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """RandomForest and ExtraTrees: the mean of what the trees say."""
    trees = estimator.estimators_
    rows = columns.matrix(np.float32)
    added = sum_of_leaves(
        rows, [tree_of(each) for each in trees], [leaves_of(each) for each in trees]
    )
    return _voted(estimator, mean(added, len(trees)))


def mean(added: Var, count: int) -> Var:
    """A sum over its number of terms."""
    return added if count == 1 else over(added, count)


def _voted(estimator: Any, values: Var) -> Answer:
    """What a classifier or regressor answers, from what its trees give on average."""
    outputs = estimator.n_outputs_
    if not hasattr(estimator, "classes_"):
        return Answer(prediction=flat(values) if outputs == 1 else values)
    if outputs == 1:
        return Answer(place=largest(values), probabilities=values)
    starts = np.cumsum([0, *estimator.n_classes_])
    parts = [
        op.gather(values, constant(np.arange(starts[k], starts[k + 1]), np.int64), axis=1)
        for k in range(outputs)
    ]
    return Answer(several=tuple(Answer(place=largest(part), probabilities=part) for part in parts))


def adaptive(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """AdaBoostClassifier: each estimator adds its weight to its class, and takes from others."""
    classes = len(estimator.classes_)
    if classes == 1:
        raise ConversionError(
            "an AdaBoostClassifier of one class cannot be converted; fit it on rows of several",
            step="AdaBoostClassifier",
        )
    weights, others = _shares_of_weights(estimator)
    of_trees = all(map(is_tree, estimator.estimators_))
    said = (_said_by_trees if of_trees else _said_by_any)(estimator, columns, at, weights, others)
    added = over(said, float(estimator.estimator_weights_.sum()))
    if classes == 2:
        return _decided_by_two(added)
    scores = op.softmax(over(added, classes - 1), axis=1)
    return Answer(place=largest(added), probabilities=scores, decision=added)


def _shares_of_weights(estimator: Any) -> tuple[Sequence[float], Sequence[float]]:
    """The weight of each estimator, and what it takes off each other class."""
    weights = estimator.estimator_weights_[: len(estimator.estimators_)]
    share = -1 / (len(estimator.classes_) - 1)
    return weights, [share * weight for weight in weights]


def _decided_by_two(added: Var) -> Answer:
    """What an AdaBoostClassifier of two classes answers, from what was added to each, (n, 2)."""
    decision = plus(op.neg(column(added, 0)), column(added, 1))
    pair = times(times(upright(decision), [[-1.0, 1.0]]), 0.5)
    place = op.cast(greater(decision, 0.0), to=np.int64)
    return Answer(place=place, probabilities=op.softmax(pair, axis=1), decision=decision)


def _said_by_trees(
    estimator: Any,
    columns: Columns,
    at: Converting,
    weights: Sequence[float],
    others: Sequence[float],
) -> Var:
    values = []
    for each, weight, other in zip(estimator.estimators_, weights, others, strict=True):
        said = each.classes_[leaves_of(each).argmax(axis=1)]
        values.append(np.where(said[:, None] == estimator.classes_, weight, other))
    return sum_of_leaves(
        columns.matrix(np.float32), [tree_of(each) for each in estimator.estimators_], values
    )


def _said_by_any(
    estimator: Any,
    columns: Columns,
    at: Converting,
    weights: Sequence[float],
    others: Sequence[float],
) -> Var:
    terms = []
    for each, weight, other in zip(estimator.estimators_, weights, others, strict=True):
        known = np.searchsorted(estimator.classes_, each.classes_)
        said = op.equal(
            upright(at.place(each, columns, known)),
            constant([range(len(estimator.classes_))], np.int64),
        )
        terms.append(choose(said, weight, other))
    return op.sum(terms)


def median(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """AdaBoostRegressor: the weighted median of what its estimators say."""
    count = len(estimator.estimators_)
    said = _each_prediction(estimator.estimators_, columns, at)
    ordered, order = op.top_k(said, constant([count], np.int64), axis=1, largest=0)
    weights = op.gather(doubles(estimator.estimator_weights_[:count]), order)
    first = _middle(weights)
    return Answer(prediction=flat(op.gather_elements(ordered, first, axis=1)))


def _middle(weights: Var) -> Var:
    """(n, 1): the first place at which the weights of a row come to half of their sum."""
    share = op.cumsum(weights, constant(1, np.int64))
    half = times(op.gather(share, constant([-1], np.int64), axis=1), 0.5)
    reached = op.cast(at_least(share, half), to=np.int32)
    return op.arg_max(reached, axis=1, keepdims=1)


def _each_prediction(parts: Sequence[Any], columns: Columns, at: Converting) -> Var:
    """(n, estimators): what each of the estimators predicts."""
    if not all(map(is_tree, parts)):
        said = [at.answer(each, columns).asked("prediction") for each in parts]
        return joined([upright(prediction) for prediction in said])
    trees = [tree_of(each) for each in parts]
    targets = [np.full(len(each.left), number) for number, each in enumerate(trees)]
    weights = [leaves_of(each)[:, 0] for each in parts]
    rows = cast(columns.matrix(np.float32), np.float64)
    return ensemble(rows, trees, targets, weights, len(parts))


ESTIMATORS = {
    "sklearn.DecisionTreeClassifier": tree,
    "sklearn.DecisionTreeRegressor": tree,
    "sklearn.ExtraTreeClassifier": tree,
    "sklearn.ExtraTreeRegressor": tree,
    "sklearn.RandomForestClassifier": forest,
    "sklearn.RandomForestRegressor": forest,
    "imblearn.BalancedRandomForestClassifier": forest,
    "sklearn.ExtraTreesClassifier": forest,
    "sklearn.ExtraTreesRegressor": forest,
    "sklearn.AdaBoostClassifier": adaptive,
    "sklearn.AdaBoostRegressor": median,
    "imblearn.RUSBoostClassifier": adaptive,
}

"""Converter of CatBoost's estimators over numbers, from the JSON that a model writes of itself.

The library itself is not imported. It compares in float32 and adds up leaves in float64.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.tensors import (
    Answer,
    Columns,
    Var,
    cast,
    column,
    complement,
    doubles,
    flat,
    largest,
    op,
    upright,
)
from modelkit.convert.trees import Tree, ensemble, stump, sum_of_vectors
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting

SEVERAL_AT_ONCE = ("MultiLogloss", "MultiCrossEntropy")
EXPONENTIAL = (
    "Poisson",
    "Tweedie",
)  # losses whose regressors answer with exp of the sum of their leaves
UNCERTAIN = "RMSEWithUncertainty"  # whose second number is the logarithm of a deviation
# What the library writes where a missing value counts as larger than any border.
GAPS_RIGHT = "AsTrue"


def boosted(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """CatBoostClassifier, CatBoostRegressor, CatBoostRanker and CatBoost."""
    name = type(estimator).__name__
    _check(estimator)
    said = _saved(estimator)
    info = said["model_info"]
    loss = info["params"]["loss_function"]["type"]
    if not said.get("oblivious_trees", said.get("trees")):
        raise ConversionError(
            "the CatBoost model has no tree; train it for at least one iteration", step=name
        )
    value = _sum_of_trees(columns, said)
    if name == "CatBoostClassifier":
        threshold = float(info.get("binclass_probability_threshold", 0.5))
        return _classified(value, loss, threshold)
    if name == "CatBoostRegressor" and loss.startswith(EXPONENTIAL):
        value = op.exp(value)
    if name == "CatBoostRegressor" and loss == UNCERTAIN:
        return Answer(prediction=_with_variance(value))
    outputs = len(said["scale_and_bias"][1])
    return Answer(prediction=flat(value) if outputs == 1 else value)


def _check(estimator: Any) -> None:
    """Raise ConversionError for a model of other columns than numbers."""
    if (
        estimator.get_cat_feature_indices()
        or estimator.get_text_feature_indices()
        or estimator.get_embedding_feature_indices()
    ):
        name = type(estimator).__name__
        raise ConversionError(
            f"a {name} with categorical or text features cannot be converted; encode them before "
            "the model",
            step=name,
        )


def _saved(estimator: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        estimator.save_model(str(path), format="json")
        said: dict[str, Any] = json.loads(path.read_text())
    return said


def _sum_of_trees(columns: Columns, said: dict[str, Any]) -> Var:
    """(n, outputs): the sum of the leaves, and behind it a first value that is added last."""
    scale, bias = said["scale_and_bias"]
    outputs = len(bias)
    rows = cast(
        columns.matrix(np.float32),
        np.float64,
    )
    read = list(_trees(said, outputs))
    trees = [tree for tree, _ in read]
    values = [leaves * scale for _, leaves in read]
    if any(bias):
        trees.append(stump())
        values.append(np.array([bias], np.float64))
    if outputs > 1:
        return sum_of_vectors(rows, trees, values)
    none = [np.zeros(len(tree.left), np.int64) for tree in trees]
    return ensemble(rows, trees, none, [leaves[:, 0] for leaves in values], 1)


def _trees(said: dict[str, Any], outputs: int) -> Iterator[tuple[Tree, Array]]:
    """Each tree, and what its nodes add, (nodes, outputs)."""
    features = said["features_info"]["float_features"]
    place = np.array([feature["flat_feature_index"] for feature in features])
    left = np.array([feature["nan_value_treatment"] != GAPS_RIGHT for feature in features])
    if "oblivious_trees" in said:
        read = [_symmetric(tree, outputs) for tree in said["oblivious_trees"]]
    else:
        read = [_any_tree(tree, outputs) for tree in said["trees"]]
    for tree, leaves in read:
        feature = np.where(tree.leaf, 0, tree.column)
        missing = left[feature] & ~tree.leaf
        yield Tree(place[feature], tree.threshold, missing, tree.left, tree.right), leaves


def _symmetric(tree: dict[str, Any], outputs: int) -> tuple[Tree, Array]:
    """A tree with one split a level: a heap, whose root asks for the last split.

    The first split decides the lowest bit of a leaf's number, so that the leaves stand in their
    order.
    """
    splits = list(reversed(tree.get("splits") or []))
    repeats = 2 ** np.arange(len(splits))
    feature = np.repeat([split["float_feature_index"] for split in splits], repeats)
    border = np.repeat([split["border"] for split in splits], repeats)
    children = 2 * np.arange(len(border)) + 1
    leaves = np.array(tree["leaf_values"], np.float64).reshape(-1, outputs)
    return _with_leaves(feature, border, children, children + 1, leaves)


def _any_tree(tree: dict[str, Any], outputs: int) -> tuple[Tree, Array]:
    """A tree of nested nodes."""
    nodes = list(_walk(tree))
    splits = [node for node in nodes if "split" in node]
    ends = [node for node in nodes if "split" not in node]
    number = {id(node): at for at, node in enumerate([*splits, *ends])}
    leaves = np.array(
        [node["value"] for node in ends],
        np.float64,
    )
    return _with_leaves(
        np.array([node["split"]["float_feature_index"] for node in splits]),
        np.array([node["split"]["border"] for node in splits]),
        np.array([number[id(node["left"])] for node in splits]),
        np.array([number[id(node["right"])] for node in splits]),
        leaves.reshape(-1, outputs),
    )


def _walk(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if "split" in node:
            todo += [node["left"], node["right"]]


def _with_leaves(
    feature: Array,
    border: Array,
    left: Array,
    right: Array,
    leaves: Array,
) -> tuple[Tree, Array]:
    """A tree whose leaves are numbered behind its splits, and what each of its nodes adds."""
    ends = len(leaves)
    none = np.full(ends, -1)
    tree = Tree(
        column=np.concatenate([feature, np.zeros(ends)]).astype(np.int64),
        threshold=np.concatenate([np.asarray(border, np.float32), np.zeros(ends, np.float32)]),
        missing=np.zeros(len(feature) + ends, bool),
        left=np.concatenate([left, none]).astype(np.int64),
        right=np.concatenate([right, none]).astype(np.int64),
    )
    return tree, np.concatenate([np.zeros((len(feature), leaves.shape[1])), leaves])


def _with_variance(value: Var) -> Var:
    """(n, 2): a mean as it is, and the square of what the second number is the logarithm of."""
    variance = op.exp(op.mul(column(value, 1), doubles(2.0)))
    return op.concat([upright(column(value, 0)), upright(variance)], axis=1)


def _classified(
    value: Var,
    loss: str,
    threshold: float,
) -> Answer:
    """Label and probabilities as CatBoostClassifier makes them from the sum of its leaves."""
    if loss == "MultiClass":
        return Answer(place=largest(value), probabilities=op.softmax(value, axis=1))
    likely = op.sigmoid(value)
    if loss == "MultiClassOneVsAll":
        return Answer(place=largest(value), probabilities=likely)
    limit = float(np.log(threshold) - np.log1p(-threshold))
    above = cast(
        op.greater(value, doubles(limit)),
        np.int64,
    )
    if loss in SEVERAL_AT_ONCE:
        return Answer(label=above, probabilities=likely)
    return Answer(place=flat(above), probabilities=complement(likely))


ESTIMATORS = {
    f"catboost.{name}": boosted
    for name in ("CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker", "CatBoost")
}

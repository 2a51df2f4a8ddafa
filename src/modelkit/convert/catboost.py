"""Convert CatBoost models of numeric columns from the JSON that the library itself writes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.cast import Array
from modelkit.convert.nodes import Nodes, labels_of
from modelkit.errors import ConversionError

ONE_OF_SEVERAL = ("MultiClass", "MultiClassOneVsAll")
SEVERAL_AT_ONCE = ("MultiLogloss", "MultiCrossEntropy")
EXPONENTIAL = (
    "Poisson",
    "Tweedie",
)  # losses whose regressors answer with exp of the sum of their leaves
GAPS_RIGHT = (
    "AsTrue"  # what the library writes where a missing value counts as larger than any border
)
ATTRIBUTES = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
    "target_treeids",
    "target_nodeids",
    "target_ids",
    "target_weights",
)
Lists = dict[str, list[Any]]  # by attribute


def kinds() -> list[Any]:
    """The estimators that `convert` takes."""
    from catboost import CatBoost, CatBoostClassifier, CatBoostRanker, CatBoostRegressor

    return [CatBoostClassifier, CatBoostRegressor, CatBoostRanker, CatBoost]


def parse_classifier(
    scope: Any,
    model: Any,
    inputs: list[Any],
    custom_parsers: Any = None,
) -> Any:
    """Tell skl2onnx of the two outputs of a classifier that is none of scikit-learn's."""
    del custom_parsers  # that of a step would be for steps in it
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    _check(model)
    text = labels_of(model.classes_).dtype == object
    operator = scope.declare_local_operator("ModelkitCatBoostClassifier", model)
    operator.inputs.extend(inputs)
    operator.outputs.append(
        scope.declare_local_variable("label", StringTensorType() if text else Int64TensorType())
    )
    operator.outputs.append(scope.declare_local_variable("probabilities", FloatTensorType()))
    return operator.outputs


def convert(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    """Add the nodes of a model. Raises ConversionError for what is not known here."""
    model = operator.raw_operator
    name = type(model).__name__
    _check(model)
    said = _saved(model)
    info = said["model_info"]
    loss = info["params"]["loss_function"]["type"]
    if loss == "RMSEWithUncertainty":
        raise ConversionError(
            f"{name}(loss_function={loss!r}) cannot be converted; use format='joblib'", step=name
        )
    if not said.get("oblivious_trees", said.get("trees")):
        raise ConversionError(
            "the CatBoost model has no tree; train it for at least one iteration", step=name
        )
    nodes = Nodes(scope, container)
    value = _sum_of_trees(
        nodes,
        nodes.as_float(operator.inputs[0]),
        said,
    )
    if name == "CatBoostClassifier":
        threshold = float(info.get("binclass_probability_threshold", 0.5))
        _classify(nodes, operator, value, loss, threshold)
        return
    if name == "CatBoostRegressor" and loss.startswith(EXPONENTIAL):
        value = nodes.add("Exp", value)
    nodes.put(value, operator.outputs[0])


def _sum_of_trees(
    nodes: Nodes,
    rows: str,
    said: dict[str, Any],
) -> str:
    scale, bias = said["scale_and_bias"]
    return nodes.add(
        "TreeEnsembleRegressor",
        rows,
        op_domain="ai.onnx.ml",
        n_targets=len(bias),
        post_transform="NONE",
        base_values=[float(number) for number in bias],
        **_ensemble(said, scale, len(bias)),
    )


def _check(model: Any) -> None:
    """Raise ConversionError for a model of other columns than numbers, or without a task."""
    name = type(model).__name__
    if (
        model.get_cat_feature_indices()
        or model.get_text_feature_indices()
        or model.get_embedding_feature_indices()
    ):
        raise ConversionError(
            f"a {name} with categorical or text features cannot be converted; encode them before "
            "the model",
            step=name,
        )
    if name == "CatBoost":
        raise ConversionError(
            "a CatBoost model that says no task cannot be converted; make it a CatBoostClassifier "
            "or a "
            "CatBoostRegressor, whose load_model reads its file",
            step=name,
        )


def _saved(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        said: dict[str, Any] = json.loads(path.read_text())
    return said


@dataclass(frozen=True)
class _Tree:
    """The splits of a tree, and what its leaves add; the leaves are numbered after the splits.

    A row goes to the node `left` of a split where its value of `features` is at most the one of
    `borders`.
    """

    features: list[int]
    borders: list[float]
    left: list[int]
    right: list[int]
    values: Array  # (leaves, outputs)


def _ensemble(
    said: dict[str, Any],
    scale: float,
    outputs: int,
) -> Lists:
    """The attributes of all trees in ONNX."""
    columns = said["features_info"]["float_features"]
    places = [column["flat_feature_index"] for column in columns]
    gaps = [int(column["nan_value_treatment"] != GAPS_RIGHT) for column in columns]
    lists: Lists = {name: [] for name in ATTRIBUTES}
    if "oblivious_trees" in said:
        trees = [_symmetric(tree, outputs) for tree in said["oblivious_trees"]]
    else:
        trees = [_any_tree(tree, outputs) for tree in said["trees"]]
    for number, tree in enumerate(trees):
        _add_splits(lists, number, tree, places, gaps)
        _add_leaves(lists, number, tree, scale)
    return lists


def _add_splits(
    lists: Lists,
    number: int,
    tree: _Tree,
    places: list[int],
    gaps: list[int],
) -> None:
    count = len(tree.features)
    lists["nodes_treeids"] += [number] * count
    lists["nodes_nodeids"] += range(count)
    lists["nodes_featureids"] += [places[feature] for feature in tree.features]
    lists["nodes_modes"] += ["BRANCH_LEQ"] * count
    lists["nodes_values"] += tree.borders
    lists["nodes_truenodeids"] += tree.left
    lists["nodes_falsenodeids"] += tree.right
    lists["nodes_missing_value_tracks_true"] += [gaps[feature] for feature in tree.features]


def _add_leaves(
    lists: Lists,
    number: int,
    tree: _Tree,
    scale: float,
) -> None:
    leaves, outputs = tree.values.shape
    places = np.arange(leaves) + len(tree.features)
    lists["nodes_treeids"] += [number] * leaves
    lists["nodes_nodeids"] += places.tolist()
    lists["nodes_modes"] += ["LEAF"] * leaves
    lists["nodes_values"] += [0.0] * leaves
    for name in ("featureids", "truenodeids", "falsenodeids", "missing_value_tracks_true"):
        lists[f"nodes_{name}"] += [0] * leaves
    lists["target_treeids"] += [number] * (leaves * outputs)
    lists["target_nodeids"] += np.repeat(places, outputs).tolist()
    lists["target_ids"] += [*range(outputs)] * leaves
    lists["target_weights"] += (tree.values.ravel() * scale).tolist()


def _symmetric(tree: dict[str, Any], outputs: int) -> _Tree:
    """A tree with one split a level: a heap, whose root asks for the last split.

    The first split decides the lowest bit of a leaf's number, so that the leaves stand in their
    order.
    """
    features: list[int] = []
    borders: list[float] = []
    for level, split in enumerate(reversed(tree.get("splits") or [])):
        features += [split["float_feature_index"]] * 2**level
        borders += [split["border"]] * 2**level
    left = [2 * at + 1 for at in range(len(features))]
    right = [2 * at + 2 for at in range(len(features))]
    return _Tree(
        features,
        borders,
        left,
        right,
        np.array(tree["leaf_values"], np.float64).reshape(-1, outputs),
    )


def _any_tree(tree: dict[str, Any], outputs: int) -> _Tree:
    """A tree of nested nodes."""
    nodes = list(_walk(tree))
    leaves = [node for node in nodes if "split" not in node]
    splits = [node for node in nodes if "split" in node]
    number = {id(node): at for at, node in enumerate([*splits, *leaves])}
    values = np.array(
        [node["value"] for node in leaves],
        np.float64,
    )
    asked = [node["split"] for node in splits]
    return _Tree(
        features=[split["float_feature_index"] for split in asked],
        borders=[split["border"] for split in asked],
        left=[number[id(node["left"])] for node in splits],
        right=[number[id(node["right"])] for node in splits],
        values=values.reshape(-1, outputs),
    )


def _walk(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        if "split" in node:
            todo += [node["left"], node["right"]]


def _classify(
    nodes: Nodes,
    operator: Any,
    value: str,
    loss: str,
    threshold: float,
) -> None:
    """Label and probabilities as CatBoostClassifier makes them from the sum of its leaves."""
    label, probabilities = operator.outputs
    classes = nodes.constant(labels_of(operator.raw_operator.classes_))
    if loss in ONE_OF_SEVERAL:
        best = nodes.add("ArgMax", value, axis=1, keepdims=0)
        nodes.put(nodes.add("Gather", classes, best, axis=0), label)
        nodes.put(_shares(nodes, value, loss), probabilities)
        return
    shares = nodes.add("Sigmoid", value)
    above = _above(nodes, value, threshold)
    if loss in SEVERAL_AT_ONCE:
        nodes.put(above, label)
        nodes.put(shares, probabilities)
        return
    chosen = nodes.add("Cast", above, to=TensorProto.INT64)
    nodes.put(nodes.add("Gather", classes, chosen, axis=0), label)
    nodes.put(nodes.with_complement(shares), probabilities)


def _above(
    nodes: Nodes,
    value: str,
    threshold: float,
) -> str:
    """Whether the sigmoid of each value is above a threshold."""
    limit = np.float32(np.log(threshold) - np.log1p(-threshold))
    return nodes.add("Greater", value, nodes.constant(np.array([limit])))


def _shares(
    nodes: Nodes,
    value: str,
    loss: str,
) -> str:
    """Probabilities of one class of several."""
    if loss == "MultiClass":
        return nodes.add("Softmax", value, axis=1)
    return nodes.add("Sigmoid", value)

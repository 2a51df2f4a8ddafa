"""Convert XGBoost models from the JSON that the library itself writes. The only module that imports xgboost.

Trees are read with their own thresholds and sets of categories, the intercept and the link by the
name of the objective. What no test compares with the library is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto

from modelkit.cast import Array
from modelkit.convert.nodes import Nodes
from modelkit.errors import ConversionError

IDENTITY = "identity"
SIGMOID = "Sigmoid"
EXP = "Exp"
STEP = "step"
SOFTMAX = "Softmax"
LARGEST = "largest"
LINKS = {
    "reg:squarederror": IDENTITY,
    "reg:linear": IDENTITY,
    "reg:squaredlogerror": IDENTITY,
    "reg:pseudohubererror": IDENTITY,
    "reg:absoluteerror": IDENTITY,
    "reg:quantileerror": IDENTITY,
    "reg:logistic": SIGMOID,
    "reg:gamma": EXP,
    "reg:tweedie": EXP,
    "count:poisson": EXP,
    "survival:cox": EXP,
    "survival:aft": EXP,
    "binary:logistic": SIGMOID,
    "binary:logitraw": IDENTITY,
    "binary:hinge": STEP,
    "multi:softprob": SOFTMAX,
    "multi:softmax": LARGEST,
    "rank:pairwise": IDENTITY,
    "rank:ndcg": IDENTITY,
    "rank:map": IDENTITY,
}
SHARES = (
    "binary:logistic",
    "multi:softprob",
)  # objectives whose Booster answers with probabilities
LOGITS = ("binary:logistic", "reg:logistic")  # whose intercept is written as a probability
LEAF = "LEAF"
LESS = "BRANCH_LT"
EQUAL = "BRANCH_EQ"
BEST = {"axis": 1, "keepdims": 0}  # of ArgMax
CATEGORICAL = 1  # the type of a split by a set of categories


def estimator_of(booster: Any) -> Any:
    """The regressor whose `predict` answers as that of a Booster: by all trees, whichever iteration was the best."""
    from xgboost import XGBRegressor

    whole = booster.copy()
    whole.set_attr(best_iteration=None, best_score=None, scikit_learn=None)
    estimator = XGBRegressor()
    estimator.load_model(bytearray(whole.save_raw("ubj")))
    return estimator


def kinds() -> list[Any]:
    """The estimators that `convert` takes."""
    from xgboost import XGBClassifier, XGBRanker, XGBRegressor, XGBRFClassifier, XGBRFRegressor

    return [XGBClassifier, XGBRegressor, XGBRanker, XGBRFClassifier, XGBRFRegressor]


def objective_of(estimator: Any) -> str:
    """The objective that the trees of an estimator were trained for."""
    config = json.loads(estimator.get_booster().save_config())
    return str(config["learner"]["objective"]["name"])


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an estimator. Raises ConversionError for an objective that is not known."""
    estimator = operator.raw_operator
    learner = json.loads(estimator.get_booster().save_raw("json"))["learner"]
    link = _link_of(learner, type(estimator).__name__)
    nodes = Nodes(scope, container)
    rows = _without(nodes, nodes.as_float(operator.inputs[0]), estimator.missing)
    base = _intercept(learner)
    linear = learner["gradient_booster"]["name"] == "gblinear"
    margin = (_linear if linear else _trees)(nodes, rows, learner, base)
    if hasattr(estimator, "n_classes_"):
        _classify(nodes, operator, margin, link, len(base))
    else:
        nodes.put(_linked(nodes, margin, link), operator.outputs[0])


def _link_of(learner: dict[str, Any], step: str) -> str:
    """The link of an objective. Raises ConversionError for one that is not known."""
    objective = learner["objective"]["name"]
    if objective not in LINKS:
        raise ConversionError(
            f"XGBoost with objective={objective!r} cannot be converted; known are "
            f"{', '.join(LINKS)}",
            step=step,
        )
    return LINKS[objective]


def _without(nodes: Nodes, rows: str, missing: float) -> str:
    """The rows with NaN for the number that stands for a missing value; NaN itself stays one."""
    if missing is None or np.isnan(missing):
        return rows
    marker = nodes.constant(np.array([missing], np.float32))
    gone = nodes.add("Equal", rows, marker)
    nothing = nodes.constant(np.array([np.nan], np.float32))
    return nodes.add("Where", gone, nothing, rows)


def _intercept(learner: dict[str, Any]) -> Array:
    """The margin of each output before the first tree, in the arithmetic of the library: of single precision."""
    said = learner["learner_model_param"]
    written = np.atleast_1d(np.array(json.loads(said["base_score"]), np.float32))
    outputs = max(int(said["num_class"]), int(said.get("num_target", 1)), 1)
    base = np.broadcast_to(written, (outputs,)) if len(written) == 1 else written
    objective = learner["objective"]["name"]
    one = np.float32(1)
    with np.errstate(divide="ignore"):
        if objective in LOGITS:
            return np.asarray(-np.log(one / base - one))
        return np.asarray(np.log(base) if LINKS[objective] == EXP else base)


def _linear(nodes: Nodes, rows: str, learner: dict[str, Any], base: Array) -> str:
    """The margin of a linear booster, for which a missing value adds nothing, and whose intercept is one for all."""
    weights = np.array(learner["gradient_booster"]["model"]["weights"], np.float32).reshape(
        -1, len(base)
    )
    absent = nodes.add("IsNaN", rows)
    zero = nodes.constant(np.zeros(1, np.float32))
    filled = nodes.add("Where", absent, zero, rows)
    product = nodes.add("MatMul", filled, nodes.constant(weights[:-1]))
    return nodes.add("Add", product, nodes.constant(weights[-1] + base[0]))


def _trees(nodes: Nodes, rows: str, learner: dict[str, Any], base: Array) -> str:
    """The margin of a sum of trees, in single precision as the library sums."""
    ensemble = _Ensemble()
    for tree, output, weight in _used(learner):
        ensemble.add(tree, output, np.float32(weight))
    if not ensemble.lists["nodes_modes"]:
        raise ConversionError("the XGBoost model has no tree; train it for at least one round")
    whole = _whole(
        nodes,
        rows,
        sorted(ensemble.categorical),
        int(learner["learner_model_param"]["num_feature"]),
    )
    return nodes.add(
        "TreeEnsembleRegressor",
        whole,
        op_domain="ai.onnx.ml",
        n_targets=len(base),
        post_transform="NONE",
        base_values=base.tolist(),
        **ensemble.lists,
    )


def _used(learner: dict[str, Any]) -> list[tuple[dict[str, Any], int, float]]:
    """Each tree that predicts, with its output and its weight: those up to the best iteration, where there is one."""
    booster = learner["gradient_booster"]
    dart = booster["name"] == "dart"
    model = booster["gbtree"]["model"] if dart else booster["model"]
    weights = booster["weight_drop"] if dart else [1.0] * len(model["trees"])
    last = len(model["trees"])
    best = learner.get("attributes", {}).get("best_iteration")
    if best is not None:
        last = model["iteration_indptr"][int(best) + 1]
    found = zip(model["trees"], model["tree_info"], weights, strict=True)
    return list(found)[:last]


def _whole(nodes: Nodes, rows: str, categorical: list[int], columns: int) -> str:
    """The rows with codes of categories cut down to whole numbers, as the library does; negative ones stay negative."""
    if not categorical:
        return rows
    chosen = np.zeros((1, columns), bool)
    chosen[0, categorical] = True
    floor = nodes.add("Floor", rows)
    return nodes.add("Where", nodes.constant(chosen), floor, rows)


class _Node(NamedTuple):
    """A node of a tree in ONNX: the fields are its attributes, after `nodes_`."""

    nodeids: int
    featureids: int
    modes: str
    values: float
    truenodeids: int
    falsenodeids: int
    missing_value_tracks_true: int


class _Ensemble:
    """The attributes of an ensemble of trees, filled tree by tree, and the columns that are split by categories."""

    def __init__(self) -> None:
        self.categorical: set[int] = set()
        self.lists: dict[str, list[Any]] = {
            f"nodes_{name}": [] for name in ("treeids", *_Node._fields)
        }
        self.lists |= {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
        self._count = 0

    def add(self, tree: dict[str, Any], output: int, weight: np.float32) -> None:
        """Add a tree; a leaf of several numbers has one for each output."""
        size = int(tree["tree_param"]["size_leaf_vector"])
        if size > 1 and "leaf_weights" not in tree:
            raise ConversionError(
                "trees with several outputs each are converted from XGBoost 3.2 on"
            )
        for node in _nodes(tree):
            self.lists["nodes_treeids"].append(self._count)
            for name, value in node._asdict().items():
                self.lists[f"nodes_{name}"].append(value)
            if node.modes == LEAF:
                self._weigh(node.nodeids, _weights(tree, node.nodeids, size) * weight, output)
            elif node.modes == EQUAL:
                self.categorical.add(node.featureids)
        self._count += 1

    def _weigh(self, leaf: int, weights: Array, output: int) -> None:
        outputs = [output] if len(weights) == 1 else range(len(weights))
        for number, weight in zip(outputs, weights.tolist(), strict=True):
            self.lists["target_treeids"].append(self._count)
            self.lists["target_nodeids"].append(leaf)
            self.lists["target_ids"].append(number)
            self.lists["target_weights"].append(weight)


def _nodes(tree: dict[str, Any]) -> Iterator[_Node]:
    """The nodes of a tree from its root on: what was pruned is still in its lists, and nothing leads there."""
    left = tree["left_children"]
    right = tree["right_children"]
    sets = _categories(tree)
    free = len(left)  # the next number that no node has
    todo = [0]
    while todo:
        at = todo.pop()
        if left[at] < 0:
            yield _Node(at, 0, LEAF, 0.0, 0, 0, 0)
            continue
        todo += [left[at], right[at]]
        if tree["split_type"][at] == CATEGORICAL:
            codes = sets[at]
            yield from _equalities(tree, at, codes, free)
            free += len(codes) - 1
            continue
        yield _comparison(tree, at)


def _comparison(tree: dict[str, Any], at: int) -> _Node:
    """A split of numbers, of which smaller ones go left."""
    return _Node(
        nodeids=at,
        featureids=tree["split_indices"][at],
        modes=LESS,
        values=tree["split_conditions"][at],
        truenodeids=tree["left_children"][at],
        falsenodeids=tree["right_children"][at],
        missing_value_tracks_true=int(tree["default_left"][at]),
    )


def _equalities(tree: dict[str, Any], at: int, codes: list[int], free: int) -> Iterator[_Node]:
    """A split by a set of categories, which go right, as a chain of equalities.

    All but the first get numbers from `free` on.
    """
    right = tree["right_children"][at]
    column = tree["split_indices"][at]
    missing_right = 1 - int(tree["default_left"][at])
    places = [at, *range(free, free + len(codes) - 1), tree["left_children"][at]]
    for code, place, otherwise in zip(codes, places[:-1], places[1:], strict=True):
        yield _Node(place, column, EQUAL, float(code), right, otherwise, missing_right)


def _categories(tree: dict[str, Any]) -> dict[int, list[int]]:
    """The categories that go right at each node that asks for some; all else goes left there."""
    starts, sizes = tree["categories_segments"], tree["categories_sizes"]
    return {
        node: tree["categories"][start : start + size]
        for node, start, size in zip(tree["categories_nodes"], starts, sizes, strict=True)
    }


def _weights(tree: dict[str, Any], leaf: int, size: int) -> Array:
    """What a leaf adds: one number, or one for each output."""
    if size == 1:
        return np.array([tree["split_conditions"][leaf]], np.float32)
    place = tree["right_children"][leaf] * size
    return np.array(tree["leaf_weights"][place : place + size], np.float32)


def _linked(nodes: Nodes, margin: str, link: str) -> str:
    """What the library answers for a margin."""
    if link == IDENTITY:
        return margin
    if link == SOFTMAX:
        return nodes.add("Softmax", margin, axis=1)
    if link == LARGEST:
        best = nodes.add("ArgMax", margin, axis=1, keepdims=1)
        return nodes.add("Cast", best, to=TensorProto.FLOAT)
    if link == STEP:
        above = nodes.add("Greater", margin, nodes.constant(np.zeros(1, np.float32)))
        return nodes.add("Cast", above, to=TensorProto.FLOAT)
    return nodes.add(link, margin)


def _classify(nodes: Nodes, operator: Any, margin: str, link: str, outputs: int) -> None:
    """Label and probabilities as XGBClassifier makes them from the margin."""
    label, probabilities = operator.outputs
    several = operator.raw_operator.n_classes_ > 2
    answer = _linked(nodes, margin, SOFTMAX if link == LARGEST else link)
    if link == LARGEST or several:
        nodes.put(nodes.add("ArgMax", margin if link == LARGEST else answer, **BEST), label)
        nodes.put(answer, probabilities)
        return
    half = nodes.constant(np.array([0.5], np.float32))
    nodes.put(nodes.add("Greater", answer, half), label)
    labels_a_row = outputs > 1
    nodes.put(answer if labels_a_row else nodes.with_complement(answer), probabilities)

"""Convert XGBoost models from the JSON that it writes. The only module that imports xgboost.

Trees are read with their own thresholds and sets of categories, the intercept and the link by the
name of the objective. What no test compares with the library is refused.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.cast import Array
from modelkit.convert.nodes import Nodes
from modelkit.convert.xgboost_trees import Ensemble
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
BEST = {"axis": 1, "keepdims": 0}  # of ArgMax


def estimator_of(booster: Any) -> Any:
    """The regressor that answers as a Booster: by all trees, whichever iteration was the best."""
    from xgboost import XGBRegressor

    whole = booster.copy()
    whole.set_attr(
        best_iteration=None,
        best_score=None,
        scikit_learn=None,
    )
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


def convert(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    """Add the nodes of an estimator. Raises ConversionError for an objective that is not known."""
    estimator = operator.raw_operator
    learner = json.loads(estimator.get_booster().save_raw("json"))["learner"]
    link = _link_of(learner, type(estimator).__name__)
    nodes = Nodes(scope, container)
    rows = _without(
        nodes,
        nodes.as_float(operator.inputs[0]),
        estimator.missing,
    )
    base = _intercept(learner)
    linear = learner["gradient_booster"]["name"] == "gblinear"
    margin = (_linear if linear else _trees)(
        nodes,
        rows,
        learner,
        base,
    )
    if hasattr(estimator, "n_classes_"):
        _classify(
            nodes,
            operator,
            margin,
            link,
            len(base),
        )
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


def _without(
    nodes: Nodes,
    rows: str,
    missing: float,
) -> str:
    """The rows with NaN for the number that stands for a missing value; NaN itself stays one."""
    if missing is None or np.isnan(missing):
        return rows
    marker = nodes.constant(np.array([missing], np.float32))
    gone = nodes.add("Equal", rows, marker)
    nothing = nodes.constant(np.array([np.nan], np.float32))
    return nodes.add("Where", gone, nothing, rows)


def _intercept(learner: dict[str, Any]) -> Array:
    """The margin of each output before the first tree, in float32 as the library computes it."""
    said = learner["learner_model_param"]
    written = np.atleast_1d(np.array(json.loads(said["base_score"]), np.float32))
    outputs = max(
        int(said["num_class"]),
        int(said.get("num_target", 1)),
        1,
    )
    base = np.broadcast_to(written, (outputs,)) if len(written) == 1 else written
    objective = learner["objective"]["name"]
    one = np.float32(1)
    with np.errstate(divide="ignore"):
        if objective in LOGITS:
            return np.asarray(-np.log(one / base - one))
        return np.asarray(np.log(base) if LINKS[objective] == EXP else base)


def _linear(
    nodes: Nodes,
    rows: str,
    learner: dict[str, Any],
    base: Array,
) -> str:
    """The margin of a linear booster: a missing value adds nothing; one intercept serves all."""
    weights = np.array(learner["gradient_booster"]["model"]["weights"], np.float32).reshape(
        -1, len(base)
    )
    absent = nodes.add("IsNaN", rows)
    zero = nodes.constant(np.zeros(1, np.float32))
    filled = nodes.add("Where", absent, zero, rows)
    product = nodes.add("MatMul", filled, nodes.constant(weights[:-1]))
    return nodes.add("Add", product, nodes.constant(weights[-1] + base[0]))


def _trees(
    nodes: Nodes,
    rows: str,
    learner: dict[str, Any],
    base: Array,
) -> str:
    """The margin of a sum of trees, in single precision as the library sums."""
    ensemble = Ensemble()
    for tree, output, weight in _used(learner):
        ensemble.add(
            tree,
            output,
            np.float32(weight),
        )
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
    """Each tree that predicts, with output and weight: up to the best iteration if there is one."""
    booster = learner["gradient_booster"]
    dart = booster["name"] == "dart"
    model = booster["gbtree"]["model"] if dart else booster["model"]
    weights = booster["weight_drop"] if dart else [1.0] * len(model["trees"])
    last = len(model["trees"])
    best = learner.get("attributes", {}).get("best_iteration")
    if best is not None:
        last = model["iteration_indptr"][int(best) + 1]
    found = zip(
        model["trees"],
        model["tree_info"],
        weights,
        strict=True,
    )
    return list(found)[:last]


def _whole(
    nodes: Nodes,
    rows: str,
    categorical: list[int],
    columns: int,
) -> str:
    """Rows with codes of categories cut down to whole numbers, of which negative stay negative."""
    if not categorical:
        return rows
    chosen = np.zeros(
        (1, columns),
        bool,
    )
    chosen[0, categorical] = True
    floor = nodes.add("Floor", rows)
    return nodes.add("Where", nodes.constant(chosen), floor, rows)


def _linked(
    nodes: Nodes,
    margin: str,
    link: str,
) -> str:
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


def _classify(
    nodes: Nodes,
    operator: Any,
    margin: str,
    link: str,
    outputs: int,
) -> None:
    """Label and probabilities as XGBClassifier makes them from the margin."""
    label, probabilities = operator.outputs
    several = operator.raw_operator.n_classes_ > 2
    answer = _linked(
        nodes,
        margin,
        SOFTMAX if link == LARGEST else link,
    )
    if link == LARGEST or several:
        nodes.put(nodes.add("ArgMax", margin if link == LARGEST else answer, **BEST), label)
        nodes.put(answer, probabilities)
        return
    half = nodes.constant(np.array([0.5], np.float32))
    nodes.put(nodes.add("Greater", answer, half), label)
    labels_a_row = outputs > 1
    nodes.put(answer if labels_a_row else nodes.with_complement(answer), probabilities)

"""Converter of XGBoost's estimators, from the JSON that a Booster writes.

The library itself is not imported. Trees are read with their own thresholds and sets of categories,
the intercept and the link by the name of the objective. What no test compares with the library is
refused. All is computed in float32, as the library does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.arithmetic import minus, over, plus
from modelkit.convert.estimators.stages import from_start
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    cast,
    complement,
    constant,
    flat,
    largest,
    op,
)
from modelkit.convert.estimators.trees import LESS, Tree, stump, sum_of_vectors
from modelkit.convert.estimators.xgboost_rows import beside_sets, given_numbers, names_of
from modelkit.convert.estimators.xgboost_trees import Codes, tree_and_leaves
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

IDENTITY = "identity"
SIGMOID = "sigmoid"
EXP = "exp"
STEP = "step"
SOFTMAX = "softmax"
LARGEST_CLASS = "largest"
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
    "multi:softmax": LARGEST_CLASS,
    "rank:pairwise": IDENTITY,
    "rank:ndcg": IDENTITY,
    "rank:map": IDENTITY,
}
LOGITS = ("binary:logistic", "reg:logistic")  # whose intercept is written as a probability


def boosted(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """XGBClassifier, XGBRegressor, XGBRanker, and the forests of the library."""
    learner = json.loads(estimator.get_booster().save_raw("json"))["learner"]
    link = _link_of(learner, type(estimator).__name__)
    base = _intercept(learner)
    if learner["gradient_booster"]["name"] == "gblinear":
        margin = _linear(given_numbers(columns, estimator), learner, base)
    else:
        margin = _trees(estimator, columns, learner, base, at)
    if hasattr(estimator, "n_classes_"):
        return _classified(estimator, margin, link, len(base))
    answer = _linked(margin, link)
    return Answer(prediction=flat(answer) if _is_single(link, base) else answer)


def _is_single(link: str, base: Array) -> bool:
    """Whether there is one number a row."""
    return len(base) == 1 or link == LARGEST_CLASS


def _link_of(learner: dict[str, Any], step: str) -> str:
    """The link of an objective. Raises ConversionError for one that is not known."""
    objective = learner["objective"]["name"]
    if objective not in LINKS:
        raise ConversionError(
            f"{step} with objective={objective!r} cannot be converted, for its link is not known; save the "
            "model with format='joblib'",
            step=step,
        )
    return LINKS[objective]


def _intercept(learner: dict[str, Any]) -> Array:
    """The margin of each output before the first tree, in float32 as the library computes it."""
    said = learner["learner_model_param"]
    written = np.atleast_1d(np.array(json.loads(said["base_score"]), np.float32))
    outputs = max(int(said["num_class"]), int(said.get("num_target", 1)), 1)
    base = np.broadcast_to(written, (outputs,)) if len(written) == 1 else written
    objective = learner["objective"]["name"]
    one = np.float32(1)
    if objective in LOGITS:
        return -_log(one / base - one)
    return _log(base) if LINKS[objective] == EXP else base


def _log(numbers: Array) -> Array:
    """The float32 next to each logarithm, as the library's is: numpy's of float32 is off by one."""
    with np.errstate(divide="ignore"):
        return np.log(numbers.astype(np.float64)).astype(np.float32)


def _linear(rows: Var, learner: dict[str, Any], base: Array) -> Var:
    """The margin of a linear booster: a missing value adds nothing; one intercept serves all."""
    weights = np.array(learner["gradient_booster"]["model"]["weights"], np.float32).reshape(
        -1, len(base)
    )
    filled = op.where(op.isnan(rows), constant(0.0, np.float32), rows)
    product = op.matmul(filled, constant(weights[:-1]))
    return plus(product, constant(weights[-1] + base[0]))


def _trees(
    estimator: Any, columns: Columns, learner: dict[str, Any], base: Array, at: Converting
) -> Var:
    """The margin of a sum of trees, which are added in their order."""
    used = _used(learner)
    codes = Codes([tree for tree, _, _ in used])
    read = [tree_and_leaves(tree, codes) for tree, _, _ in used]
    weights = [np.float32(weight) for _, _, weight in used]
    weighed = [leaves * weight for (_, leaves), weight in zip(read, weights, strict=True)]
    beside = beside_sets(
        estimator, columns, [tree for tree, _ in read], codes, names_of(learner), at
    )
    trees = [beside.placed(tree) for tree, _ in read]
    outputs = [output for _, output, _ in used]
    return _added(beside.rows, trees, weighed, outputs, base)


def _added(
    rows: Var, trees: list[Tree], leaves: list[Array], outputs: list[int], base: Array
) -> Var:
    """The first margin, and on it what the trees add: to one output each, or to all."""
    if leaves[0].shape[1] > 1:
        start = np.asarray(base, np.float32)[None]
        return sum_of_vectors(rows, [stump(LESS), *trees], [start, *leaves], np.float32)
    stages = []
    for output, tree, values in zip(outputs, trees, leaves, strict=True):
        stages.append((output, tree, values[:, 0]))
    return from_start(rows, base, stages, len(base))


def _used(learner: dict[str, Any]) -> list[tuple[dict[str, Any], int, float]]:
    """Each tree that predicts, with output and weight: up to the best iteration if there is one.

    Raises ConversionError if there is no tree.
    """
    booster = learner["gradient_booster"]
    dart = booster["name"] == "dart"
    model = booster["gbtree"]["model"] if dart else booster["model"]
    weights = booster["weight_drop"] if dart else [1.0] * len(model["trees"])
    last = len(model["trees"])
    best = learner.get("attributes", {}).get("best_iteration")
    if best is not None:
        last = model["iteration_indptr"][int(best) + 1]
    found = zip(model["trees"], model["tree_info"], weights, strict=True)
    used = list(found)[:last]
    if not used:
        raise ConversionError("it has no tree; train it for at least one round")
    return used


def _linked(margin: Var, link: str) -> Var:
    """What the library answers for a margin."""
    if link == SOFTMAX:
        return _softmax(margin)
    if link == LARGEST_CLASS:
        return cast(largest(margin), np.float32)
    if link == STEP:
        return cast(op.greater(margin, constant(0.0, np.float32)), np.float32)
    if link == SIGMOID:
        below = plus(_exp(op.neg(margin)), constant(1.0, np.float32))
        return over(constant(1.0, np.float32), below)
    return _exp(margin) if link == EXP else margin


def _exp(margin: Var) -> Var:
    """The float32 next to an exponential, as the library's is: the operator is off by one or two."""
    return cast(op.exp(cast(margin, np.float64)), np.float32)


def _softmax(margin: Var) -> Var:
    """Shares of exponentials, whose sum alone is made in float64."""
    shifted = minus(margin, op.reduce_max(margin, constant([1], np.int64), keepdims=1))
    grown = _exp(shifted)
    whole = op.reduce_sum(cast(grown, np.float64), constant([1], np.int64), keepdims=1)
    return over(grown, cast(whole, np.float32))


def _classified(estimator: Any, margin: Var, link: str, outputs: int) -> Answer:
    """Label and probabilities as XGBClassifier makes them from the margin."""
    if link == LARGEST_CLASS:
        return Answer(place=largest(margin), probabilities=_softmax(margin))
    likely = _linked(margin, link)
    if estimator.n_classes_ > 2:
        return Answer(place=largest(likely), probabilities=likely)
    above = op.greater(likely, constant(0.5, np.float32))
    label = cast(above, np.int64)
    if outputs > 1:
        return Answer(label=label, probabilities=likely)
    return Answer(place=flat(label), probabilities=complement(likely))


ESTIMATORS = {
    f"xgboost.{name}": boosted
    for name in ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")
}

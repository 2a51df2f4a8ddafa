"""Converter of XGBoost's estimators, from the JSON that a Booster writes.

The library itself is not imported. Trees are read with their own thresholds and sets of categories,
the intercept and the link by the name of the objective. What no test compares with the library is
refused. All is computed in float32, as the library does.
"""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.categories import Sets, codes_of, read_by
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    beyond_bound,
    converts,
    flat,
    largest,
    likeliest,
    linked,
    refuse,
)
from modelkit.convert.estimators.trees import (
    Forest,
    joined_forests,
    single_leaf,
    sum_from,
    sum_of_vectors,
)
from modelkit.errors import ConversionError

LINKS = {
    "reg:squarederror": "identity",
    "reg:linear": "identity",
    "reg:squaredlogerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity",
    "reg:logistic": "sigmoid",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "count:poisson": "exp",
    "survival:cox": "exp",
    "survival:aft": "exp",
    "binary:logistic": "sigmoid",
    "binary:logitraw": "identity",
    "binary:hinge": "step",
    "multi:softprob": "softmax",
    "multi:softmax": "largest",
    "rank:pairwise": "identity",
    "rank:ndcg": "identity",
    "rank:map": "identity",
}
LOGITS = ("binary:logistic", "reg:logistic")  # whose intercept is written as a probability


@converts(
    "xgboost.XGBClassifier",
    "xgboost.XGBRegressor",
    "xgboost.XGBRanker",
    "xgboost.XGBRFClassifier",
    "xgboost.XGBRFRegressor",
)
def boosted(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """XGBClassifier, XGBRegressor, XGBRanker, and the forests of the library."""
    learner = json.loads(estimator.get_booster().save_raw("json"))["learner"]
    objective = learner["objective"]["name"]
    if objective not in LINKS:
        refuse(
            estimator,
            f" with objective={objective!r} cannot be converted, for its link is not known; save the "
            "model with format='joblib'",
        )
    link = LINKS[objective]
    base = _intercept(learner)
    if learner["gradient_booster"]["name"] == "gblinear":
        margin = _linear(_numbers(columns, estimator), learner, base)
    else:
        margin = _trees(estimator, columns, learner, base)
    if hasattr(estimator, "n_classes_"):
        return _classified(estimator, margin, link, len(base))
    answer = _linked(margin, link)
    single = len(base) == 1 or link == "largest"
    return Answer(prediction=flat(answer) if single else answer)


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
    return _log(base) if LINKS[objective] == "exp" else base


def _log(numbers: Array) -> Array:
    """The float32 next to each logarithm, as the library's is: numpy's of float32 is off by one."""
    with np.errstate(divide="ignore"):
        return np.log(numbers.astype(np.float64)).astype(np.float32)


def _linear(rows: Var, learner: dict[str, Any], base: Array) -> Var:
    """The margin of a linear booster: a missing value adds nothing; one intercept serves all."""
    weights = np.array(learner["gradient_booster"]["model"]["weights"], np.float32).reshape(
        -1, len(base)
    )
    filled = np.where(np.isnan(rows), np.float32(0), rows)
    return filled @ weights[:-1] + (weights[-1] + base[0])


def _trees(estimator: Any, columns: Columns, learner: dict[str, Any], base: Array) -> Var:
    """The margin of a sum of trees, which are added in their order."""
    trees, outputs, weights = zip(*_used(learner), strict=True)
    sets = Sets()
    forest = joined_forests(
        [_forest_of(tree, weight, sets) for tree, weight in zip(trees, weights, strict=True)]
    )
    names = _names_of(learner)

    numbers = partial(_numbers, estimator=estimator)

    def codes(column: Columns, feature: int, other: int) -> Var:
        known = names.get(feature) or column.parts[0].categories
        if known:
            return codes_of(column, known, other)
        number = numbers(column)
        held = np.where(number < 0, np.float32(other), np.minimum(number, np.float32(other)))
        return np.where(np.isnan(number), np.float32(other + 1), held).astype(np.int64)

    rows, forest, _ = read_by(forest, sets, columns, numbers, codes)
    if forest.value.shape[1] == 1:
        return sum_from(rows, base, forest, output=np.array(outputs))
    whole = joined_forests([single_leaf(base), forest])
    return sum_of_vectors(rows, whole, np.float32)


def _used(learner: dict[str, Any]) -> list[tuple[dict[str, Any], int, float]]:
    """Each tree that predicts, with output and weight: up to the best iteration if there is one.

    Raises ConversionError if it has grown no tree.
    """
    booster = learner["gradient_booster"]
    model = booster.get("gbtree", booster)["model"]
    weights = booster.get("weight_drop") or [1.0] * len(model["trees"])  # of DART
    best = learner.get("attributes", {}).get("best_iteration")
    last = None if best is None else model["iteration_indptr"][int(best) + 1]
    used = list(zip(model["trees"], model["tree_info"], weights, strict=True))[:last]
    if not used:
        raise ConversionError("it lacks trees; train it for at least one round")
    return used


def _forest_of(tree: dict[str, Any], weight: float, sets: Sets) -> Forest:
    """A tree over features, as `read_by` takes it; its leaves count with a weight."""
    left = np.array(tree["left_children"])
    right = np.array(tree["right_children"])
    column = np.array(tree["split_indices"], np.int64)
    threshold = np.array(tree["split_conditions"], np.float32)
    missing = np.array(tree["default_left"], bool)
    value = _values(tree, left < 0) * np.float32(weight)
    by_set = (tree[f"categories_{name}"] for name in ("nodes", "segments", "sizes"))
    for node, start, size in zip(*by_set, strict=True):
        codes = tree["categories"][start : start + size]
        sets.ask(node, column, threshold, codes, left=False, other_left=missing[node])
    right = np.where(left < 0, -1, right)
    used = np.unique(np.concatenate([[-1, 0], left, right]))  # nothing leads to what was pruned
    kept = used[1:]
    return Forest(
        np.searchsorted(used, left[kept]) - 1,
        np.searchsorted(used, right[kept]) - 1,
        column[kept],
        threshold[kept],
        missing[kept],
        value[kept],
        np.array([len(kept)]),
        strict=True,
    )


def _values(tree: dict[str, Any], leaf: Array) -> Array:
    """(nodes, outputs): what each node adds, if it is a leaf."""
    outputs = int(tree["tree_param"]["size_leaf_vector"])
    if outputs <= 1:
        return np.array(tree["split_conditions"], np.float32)[:, None]
    if "leaf_weights" not in tree:
        raise ConversionError(
            "trees with several outputs each are converted from XGBoost 3.2 on; train it with that, or save "
            "the model with format='joblib'"
        )
    vectors = np.array(tree["leaf_weights"], np.float32).reshape(-1, outputs)
    return vectors[np.where(leaf, tree["right_children"], 0)]


def _numbers(columns: Columns, estimator: Any) -> Var:
    """Numbers in float32, with NaN for a missing value.

    Missing is the number that stands for it, and in sparse rows what is not stored. Raises
    ConversionError where a step stores zeros by no rule.
    """
    rows = columns.matrix(np.float32)
    stored = columns.stored
    if isinstance(stored, str):
        raise ConversionError(
            f"to XGBoost, values that a sparse matrix does not store are missing, and {stored} "
            "stores some zeros but not others; make its rows dense, as sparse_output=False or "
            "ColumnTransformer(sparse_threshold=0) do, and fit again"
        )
    nan = np.float32(np.nan)
    numbers = rows
    if stored is not None:
        numbers = np.where(stored.matrix(np.float64) == 0.0, nan, rows)
    missing = estimator.missing
    if missing is not None and not np.isnan(missing):
        numbers = np.where(rows == np.float32(missing), nan, numbers)
    return numbers


def _names_of(learner: dict[str, Any]) -> dict[int, list[Any]]:
    """The categories of each column that was one of pandas categories, as the model writes them.

    Those with letters beyond ASCII are left out: XGBoost counts their letters where it cuts bytes.
    """
    booster = learner["gradient_booster"]
    model = booster.get("gbtree", booster)["model"]
    found: dict[int, list[Any]] = {}
    for column, known in enumerate(model.get("cats", {}).get("enc", [])):
        if "type" in known:
            found[column] = known["values"]
            continue
        text = bytes(value % 256 for value in known["values"])
        names = [text[start:end] for start, end in pairwise(known["offsets"])]
        if names and text.isascii():
            found[column] = [name.decode() for name in names]
    return found


def _linked(margin: Var, link: str) -> Var:
    """What the library answers for a margin."""
    if link == "softmax":
        return _softmax(margin)
    if link == "largest":
        return largest(margin).astype(np.float32)
    if link == "step":
        return (margin > 0).astype(np.float32)
    if link == "sigmoid":
        return linked(1 / (_exp(-margin) + 1), margin, "logistic")
    return linked(_exp(margin), margin, "exp") if link == "exp" else margin


def _exp(margin: Var) -> Var:
    """The float32 next to an exponential, as the library's is: the operator is off by one or two."""
    return np.exp(margin.astype(np.float64)).astype(np.float32)


def _softmax(margin: Var) -> Var:
    """Shares of exponentials, whose sum alone is made in float64."""
    grown = _exp(margin - np.max(margin, axis=1, keepdims=True))
    whole = np.sum(grown.astype(np.float64), axis=1, keepdims=True)
    return linked(grown / whole.astype(np.float32), margin, "softmax")


def _classified(estimator: Any, margin: Var, link: str, outputs: int) -> Answer:
    """Label and probabilities as XGBClassifier makes them from the margin."""
    if link == "largest":
        return Answer(place=largest(margin), probabilities=_softmax(margin))
    likely = _linked(margin, link)
    if estimator.n_classes_ > 2:
        return likeliest(likely)
    return beyond_bound(likely > 0.5, likely, several=outputs > 1)

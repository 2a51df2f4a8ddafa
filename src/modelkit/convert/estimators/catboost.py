"""Converter of CatBoost's estimators, from the JSON that a model writes of itself.

The library itself is not imported. It compares in float32 and adds up leaves in float64.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.catboost_categories import GAPS_RIGHT, Lookups, saved, threshold_of
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    beyond_bound,
    column_stack,
    converts,
    flat,
    largest,
    refuse,
    sigmoid,
    softmax,
)
from modelkit.convert.estimators.trees import (
    Forest,
    joined_forests,
    of_branches,
    single_leaf,
    sum_from,
    sum_of_vectors,
)
from modelkit.errors import ConversionError

SEVERAL_AT_ONCE = ("MultiLogloss", "MultiCrossEntropy")
EXPONENTIAL = (
    "Poisson",
    "Tweedie",
)  # losses whose regressors answer with exp of the sum of their leaves
UNCERTAIN = "RMSEWithUncertainty"


@converts(
    "catboost.CatBoostClassifier",
    "catboost.CatBoostRegressor",
    "catboost.CatBoostRanker",
    "catboost.CatBoost",
)
def boosted(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """CatBoostClassifier, CatBoostRegressor, CatBoostRanker and CatBoost."""
    name = type(estimator).__name__
    if estimator.get_text_feature_indices() or estimator.get_embedding_feature_indices():
        refuse(
            estimator,
            " with text_features or embedding_features cannot be converted; make numbers of "
            "these columns before the model, or use format='joblib'",
        )
    said = saved(estimator)
    info = said["model_info"]
    loss = info["params"]["loss_function"]["type"]
    value = _sum_of_trees(*_read(estimator, columns, said), said)
    if name == "CatBoostClassifier":
        threshold = float(info.get("binclass_probability_threshold", 0.5))
        return _classified(value, loss, threshold)
    if name == "CatBoostRegressor" and loss.startswith(EXPONENTIAL):
        value = np.exp(value)
    if name == "CatBoostRegressor" and loss == UNCERTAIN:
        # The second number is the logarithm of a deviation, of which the square is given.
        return Answer(prediction=column_stack([value[:, 0], np.exp(value[:, 1] * 2.0)]))
    outputs = len(said["scale_and_bias"][1])
    return Answer(prediction=flat(value) if outputs == 1 else value)


def _read(estimator: Any, columns: Columns, said: dict[str, Any]) -> tuple[Var, Array, Array]:
    """What trees read: rows of float32, and for each split of the model the column that it asks.

    The third is whether a missing value goes left there. Columns of numbers are followed by what is
    looked up for categories. Splits are numbered by the columns and borders of numbers, the
    categories that are asked for by equality, and the borders of statistics.
    """
    features = said["features_info"]
    numbers = features.get("float_features") or []
    borders = [len(feature["borders"] or ()) for feature in numbers]
    gaps_left = [feature["nan_value_treatment"] != GAPS_RIGHT for feature in numbers]
    missing = np.repeat(np.array(gaps_left, bool), borders)
    places = [feature["flat_feature_index"] for feature in numbers]
    if not features.get("categorical_features"):
        return columns.matrix(np.float32), np.repeat(places, borders), missing
    parts = [columns.take(places).matrix(np.float32)] if places else []
    lookups = Lookups(estimator, columns, said, *parts)
    own = np.repeat(np.arange(len(numbers)), borders)
    asked = np.concatenate([own, lookups.columns]).astype(np.int64)
    missing = np.append(missing, np.ones(len(lookups.columns), bool))
    return np.concatenate([*parts, *lookups.parts], axis=1), asked, missing


def _sum_of_trees(rows: Var, columns: Array, missing: Array, said: dict[str, Any]) -> Var:
    """(n, outputs): the sum of the leaves, and behind it a first value that is added last."""
    scale, bias = said["scale_and_bias"]
    symmetric = "oblivious_trees" in said
    written = said["oblivious_trees" if symmetric else "trees"]
    if not written:
        raise ConversionError("it lacks trees; train it for at least one iteration")
    tree = _symmetric if symmetric else _any_tree
    forest = joined_forests([tree(each, len(bias)) for each in written])
    split = np.where(forest.is_leaf, -1, forest.column)
    column, gaps = (np.append(each, 0)[split] for each in (columns, missing))
    forest = replace(forest, column=column, missing=gaps, value=forest.value * scale)
    if any(bias):
        forest = joined_forests([forest, single_leaf(bias)])
    if len(bias) > 1:
        return sum_of_vectors(rows, forest)
    return sum_from(rows.astype(np.float64), np.zeros(1), forest)


def _symmetric(tree: dict[str, Any], outputs: int) -> Forest:
    """A tree with one split a level: a heap, whose root asks for the last split.

    The first split decides the lowest bit of a leaf's number, so the leaves stand in their
    order. A column is the number of a split of the model.
    """
    splits = list(reversed(tree.get("splits") or []))
    repeats = 2 ** np.arange(len(splits))
    asked = np.repeat([split["split_index"] for split in splits], repeats)
    border = np.repeat([threshold_of(split) for split in splits], repeats)
    children = 2 * np.arange(len(border)) + 1
    leaves = np.array(tree["leaf_values"], np.float64).reshape(-1, outputs)
    return of_branches(children, children + 1, asked.astype(int), border, border > 0, leaves)


def _any_tree(tree: dict[str, Any], outputs: int) -> Forest:
    """A tree of nested nodes."""
    nodes = [tree]
    rows = []
    for node in nodes:
        if "split" in node:
            asked = node["split"]
            rows.append((asked["split_index"], threshold_of(asked), len(nodes), [0.0] * outputs))
            nodes += [node["left"], node["right"]]
        else:
            rows.append((0, 0.0, -2, np.ravel(node["value"]).tolist()))
    column, threshold, left, value = map(np.array, zip(*rows, strict=True))
    return Forest(left, left + 1, column, threshold, column < 0, value, np.array([len(nodes)]))


def _classified(value: Var, loss: str, threshold: float) -> Answer:
    """Label and probabilities as CatBoostClassifier makes them from the sum of its leaves."""
    if loss == "MultiClass":
        return Answer(place=largest(value), probabilities=softmax(value))
    likely = sigmoid(value)
    if loss == "MultiClassOneVsAll":
        return Answer(place=largest(value), probabilities=likely)
    limit = float(np.log(threshold) - np.log1p(-threshold))
    return beyond_bound(value > limit, likely, several=loss in SEVERAL_AT_ONCE)

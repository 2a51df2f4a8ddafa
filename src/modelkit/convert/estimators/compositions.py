"""Converters of estimators made of others, one after the other or side by side, without a vote."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.tensors import Answer, Columns, beside, constant, converts
from modelkit.convert.estimators.transforms import transformed

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

DROPPED = ("drop", None)
KEPT = ("passthrough",)
# What holds an estimator that answers for it, and where.
HELD = {
    "FrozenEstimator": "estimator",
    "GaussianProcessClassifier": "base_estimator_",
    "GridSearchCV": "best_estimator_",
    "HalvingGridSearchCV": "best_estimator_",
    "HalvingRandomSearchCV": "best_estimator_",
    "RANSACRegressor": "estimator_",
    "RandomizedSearchCV": "best_estimator_",
    "SelfTrainingClassifier": "estimator_",
}


@converts("Pipeline", "imblearn.Pipeline")
def pipeline(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """Pipeline: each step gets what the one before it gives."""
    *before, (_, last) = estimator.steps
    for _, step in before:
        columns = transformed(step, columns, at)
    if last in (*KEPT, None):
        return Answer(table=columns)
    return at.answer(last, columns)


@converts("ColumnTransformer")
def columns(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """ColumnTransformer: parts over columns of their own, side by side."""
    places = estimator._transformer_to_input_indices  # no public way
    tables: list[Columns] = []
    for name, step, spec in estimator.transformers_:
        chosen = [int(place) for place in places.get(name, ())]
        if (isinstance(step, str) and step in DROPPED) or not chosen:
            continue
        given = columns.take(chosen)
        if np.isscalar(spec):  # which gives a part a column as a vector
            given = replace(given, ask=partial(_vector, columns, chosen[0]))
        tables.append(_weighted(estimator, name, transformed(step, given, at), at))
    sparse = bool(tables) and estimator.sparse_output_
    return Answer(table=beside(tables, sparse=sparse))


def _vector(columns: Columns, place: int) -> Any:
    """A column of the rows of the example; None where these are not known."""
    from sklearn.utils import _safe_indexing

    rows = columns.rows()
    return None if rows is None else _safe_indexing(rows, place, axis=1)


@converts("FeatureUnion")
def union(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """FeatureUnion: parts over all columns, side by side."""
    tables: list[Columns] = []
    for name, step in estimator.transformer_list:
        if step in DROPPED:
            continue
        tables.append(_weighted(estimator, name, transformed(step, columns, at), at))
    sparse = any(table.stored is not None for table in tables)
    return Answer(table=beside(tables, sparse=sparse))


def _weighted(estimator: Any, name: str, table: Columns, at: Converting) -> Columns:
    weight = (estimator.transformer_weights or {}).get(name)
    if weight is None:
        return table
    wide = np.result_type(at.float_dtype(table), weight)
    return Columns((table.matrix(wide) * constant(weight, wide),), table.stored)


@converts(*HELD)
def held(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """An estimator that hands its rows on to one that it holds."""
    return at.answer(getattr(estimator, HELD[type(estimator).__name__]), columns)


@converts("FixedThresholdClassifier", "TunedThresholdClassifierCV")
def threshold(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """A classifier whose label is the positive class where its score reaches a threshold."""
    inner = at.answer(getattr(estimator, "estimator_", estimator), columns)
    tuned = hasattr(estimator, "best_threshold_")
    # No public way to that of a tuned one.
    named = estimator._curve_scorer._get_pos_label() if tuned else estimator.pos_label
    yes = 1 if named is None else estimator.classes_.tolist().index(named)
    method = estimator.response_method
    bound = estimator.best_threshold_ if tuned else estimator.threshold
    if method == "predict_proba" or (method == "auto" and inner.probabilities is not None):
        score = inner.asked("probabilities")[:, yes]
        bound = 0.5 if isinstance(bound, str) else bound
    else:
        decision = inner.asked("decision")
        score = decision if yes else -decision
        bound = 0.0 if isinstance(bound, str) else bound
    dtype = np.result_type(score.dtype, bound)  # a number of Python takes that of the scores
    reached = score.astype(dtype) >= constant(bound, dtype)
    place = np.where(reached, yes, 1 - yes)
    return Answer(place=place, probabilities=inner.probabilities, decision=inner.decision)

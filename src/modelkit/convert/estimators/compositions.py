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


@converts("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
def best(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """A search: its best estimator, fitted on all rows."""
    return at.answer(estimator.best_estimator_, columns)


@converts("FrozenEstimator")
def wrapped(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """FrozenEstimator: the estimator inside."""
    return at.answer(estimator.estimator, columns)


@converts("FixedThresholdClassifier", "TunedThresholdClassifierCV")
def threshold(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """A classifier whose label is the positive class where its score reaches a threshold."""
    inner = at.answer(getattr(estimator, "estimator_", estimator), columns)
    yes = _positive_place(estimator)
    if _is_of_probabilities(estimator, inner):
        score = inner.asked("probabilities")[:, yes]
        bound = _threshold_of(estimator, 0.5)
    else:
        decision = inner.asked("decision")
        score = decision if yes else -decision
        bound = _threshold_of(estimator, 0.0)
    dtype = np.result_type(score.dtype, bound)  # a number of Python takes that of the scores
    reached = score.astype(dtype) >= constant(bound, dtype)
    place = np.where(reached, yes, 1 - yes)
    return Answer(place=place, probabilities=inner.probabilities, decision=inner.decision)


def _is_of_probabilities(estimator: Any, inner: Answer) -> bool:
    """Whether the threshold is one of probabilities, and not of decisions."""
    method = estimator.response_method
    return method == "predict_proba" or (
        method != "decision_function" and inner.probabilities is not None
    )


def _threshold_of(estimator: Any, automatic: float) -> Any:
    """The threshold that was tuned or given, as a number of Python or numpy."""
    if hasattr(estimator, "best_threshold_"):
        return estimator.best_threshold_
    return automatic if estimator.threshold == "auto" else estimator.threshold


def _positive_place(estimator: Any) -> int:
    """The place of the positive class: the second, unless one was named."""
    if hasattr(estimator, "best_threshold_"):
        positive = estimator._curve_scorer._get_pos_label()  # no other way
    else:
        positive = estimator.pos_label
    return 1 if positive is None else int(estimator.classes_.tolist().index(positive))

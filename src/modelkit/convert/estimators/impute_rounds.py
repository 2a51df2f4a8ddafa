"""Converter of IterativeImputer: each column is predicted from the others, for some rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.impute import gaps, with_indicators
from modelkit.convert.estimators.lookup import single_columns
from modelkit.convert.estimators.origins import rounded_columns
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    converts,
    joined,
    refuse,
    upright,
)

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


@converts("IterativeImputer")
def filled(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """IterativeImputer: the first values, then what the estimators of fit say, one by one."""
    if estimator.sample_posterior:
        refuse(
            estimator,
            "(sample_posterior=True) draws at random, and gives the same rows "
            "another answer each time; use sample_posterior=False",
        )
    table = single_columns(_first(estimator, columns, at))
    missing = _missing(estimator, columns)
    for step in estimator.imputation_sequence_ if estimator.n_iter_ else ():
        place = int(step.feat_idx)
        if missing[place] is None:
            continue
        others = [table[int(other)] for other in step.neighbor_feat_idx]
        said = at.answer(step.estimator, Columns((joined(others),)))
        value = upright(said.asked("prediction").astype(np.float64))
        table[place] = np.where(missing[place], _within(estimator, place, value), table[place])
    if not any(rounded_columns(columns)):
        for part, mask in zip(table, missing, strict=True):
            part.imputed = mask
    return Answer(table=with_indicators(estimator, columns, table, at))


def _first(estimator: Any, columns: Columns, at: Converting) -> Columns:
    """What stands in the gaps before the first round."""
    table = at.answer(estimator.initial_imputer_, columns).asked("table")
    return Columns((table.matrix(np.float64),))


def _missing(estimator: Any, columns: Columns) -> list[Any]:
    """Where each column that is kept is missing; None for those that fit had no value of."""
    empty = estimator._is_empty_feature.tolist()  # no public way
    found: list[Any] = []
    for place, column in enumerate(single_columns(columns)):
        if not empty[place]:
            found.append(gaps(column.astype(np.float64), estimator.missing_values))
        elif estimator.keep_empty_features:
            found.append(None)
    return found


def _within(estimator: Any, place: int, value: Var) -> Var:
    """A value within the limits of its column."""
    least = float(estimator._min_value[place])  # no public way
    most = float(estimator._max_value[place])
    if np.isfinite(least):
        value = np.maximum(value, least)
    if np.isfinite(most):
        value = np.minimum(value, most)
    return value

"""Converter of IterativeImputer: each column is predicted from the others, for some rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.impute import gaps, with_indicators
from modelkit.convert.lookup import single_columns
from modelkit.convert.tensors import (
    Answer,
    Columns,
    Var,
    cast,
    doubles,
    joined,
    op,
    upright,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting


def filled(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """IterativeImputer: the first values, then what the estimators of fit say, one by one."""
    if estimator.sample_posterior:
        raise ConversionError(
            "IterativeImputer(sample_posterior=True) draws at random, and gives the same rows "
            "another answer each time; use sample_posterior=False",
            step="IterativeImputer",
        )
    first = at.answer(estimator.initial_imputer_, columns).asked("table")
    table = single_columns(Columns((first.matrix(np.float64),)))
    empty = estimator._is_empty_feature  # noqa: SLF001 - no public way
    kept = [
        place for place in range(len(empty)) if estimator.keep_empty_features or not empty[place]
    ]
    rows = columns.take(kept).matrix(np.float64)
    missing = single_columns(Columns((cast(gaps(rows, estimator.missing_values), np.float64),)))
    for step in estimator.imputation_sequence_ if estimator.n_iter_ else ():
        place = int(step.feat_idx)
        if empty[kept[place]]:
            continue
        others = joined([table[int(other)] for other in step.neighbor_feat_idx])
        said = at.answer(step.estimator, Columns((others,))).asked("prediction")
        value = _within(estimator, place, upright(cast(said, np.float64)))
        gone = cast(missing[place], np.bool_)
        table[place] = op.where(gone, value, table[place])
    return Answer(table=with_indicators(estimator, columns, [joined(table)]))


def _within(
    estimator: Any,
    place: int,
    value: Var,
) -> Var:
    """A value within the limits of its column."""
    least = float(estimator._min_value[place])  # noqa: SLF001 - no public way
    most = float(estimator._max_value[place])  # noqa: SLF001
    if np.isfinite(least):
        value = op.max([value, doubles(least)])
    if np.isfinite(most):
        value = op.min([value, doubles(most)])
    return value


ESTIMATORS = {
    "sklearn.IterativeImputer": filled,
}

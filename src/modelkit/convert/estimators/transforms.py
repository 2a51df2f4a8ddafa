"""What a step in the middle of a pipeline gives: its table, whatever else it could answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.projections import discriminating
from modelkit.convert.estimators.selection import is_selector, kept
from modelkit.convert.estimators.tensors import Columns

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def transformed(
    step: Any,
    columns: Columns,
    at: Converting,
) -> Columns:
    """The table that a step makes of columns.

    An estimator that predicts as well is not asked to: its prediction may have no converter.
    """
    if isinstance(step, str) or step is None:
        return columns
    with at.inside(step):
        return _transformed(step, columns, at)


def _transformed(
    step: Any,
    columns: Columns,
    at: Converting,
) -> Columns:
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            columns = transformed(inner, columns, at)
        return columns
    if is_selector(step):
        return kept(step, columns)
    name = f"{type(step).__module__.partition('.')[0]}.{type(step).__name__}"
    if name in TRANSFORMS:
        return TRANSFORMS[name](step, columns)
    table: Columns = at.answer(step, columns).asked("table")
    return table


def _discriminated(step: Any, columns: Columns) -> Columns:
    return Columns((discriminating(step, columns.matrix(np.float64)),))


TRANSFORMS: dict[str, Callable[[Any, Columns], Columns]] = {
    "sklearn.LinearDiscriminantAnalysis": _discriminated,
}

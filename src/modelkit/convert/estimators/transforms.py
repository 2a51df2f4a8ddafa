"""What a step in the middle of a pipeline gives: its table, whatever else it could answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

    A selector that predicts as well is not asked to: its prediction may have no converter.
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
        at.guard(step, columns)
        return kept(step, columns)
    table: Columns = at.answer(step, columns).asked("table")
    return table

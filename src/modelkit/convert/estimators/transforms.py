"""What a step in the middle of a pipeline gives: its table, whatever else it could answer.

Two values of a sine that are equal but for the last bit are two values to the trees behind it. So
what is a function of one column with few values, such as the hour, gets its source's own values.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.asking import allowed_to_fail
from modelkit.convert.estimators.arithmetic import choose
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.rounding import origins, rounded_columns
from modelkit.convert.estimators.selection import is_selector, kept
from modelkit.convert.estimators.tensors import Columns, Var, cast, constant, doubles, op
from modelkit.convert.gate.rows import Table, rows_of
from modelkit.convert.outputs import ask
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.cast import Array
    from modelkit.convert.estimators.converting import Converting

FEW_VALUES = 1024  # of a column, at most, for which a table is written


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
        table = _transformed(step, columns, at)
    if hasattr(step, "steps") or at.rows_of(columns) is None:
        return table
    if at.jumps:
        table = _with_own_values(step, columns, table, at)
    at.show(table, cache(lambda: ask(step, "transform", at.rows_of(columns))))
    return table


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
    table: Columns = at.answer(step, columns).asked("table")
    return table


def _with_own_values(
    step: Any,
    columns: Columns,
    table: Columns,
    at: Converting,
) -> Columns:
    """The table of a step, with the source's own values where a column is a function of few.

    They are looked up by the values of the one column that it is a function of; for others than
    those of the example, and whole numbers between them, what was computed stays.
    """
    rows = rows_of(at.rows_of(columns))
    made = origins(table, columns)
    if type(step).__name__ == "QuantileTransformer":  # whose columns share one operator
        made = [replace(origin, columns=frozenset([at])) for at, origin in enumerate(made)]
    if not any(origin.rounded for origin in made) or not isinstance(rows, Table):
        return table
    exact = [not rounded for rounded in rounded_columns(columns)]
    known: dict[int, tuple[Var, Array] | None] = {}
    parts: list[Var] = []
    changed = False
    for place, origin in enumerate(made):
        (part,) = table.take([place]).parts
        parts.append(part)
        if not origin.rounded or len(origin.columns) != 1:
            continue
        (source,) = origin.columns
        if source not in known:
            known[source] = _looked_up(step, columns, source, rows, at) if exact[source] else None
        found = known[source]
        if found is None:
            continue
        number, values = found
        own = op.gather(doubles(np.append(values[:, place], 0.0)), number)
        other = op.equal(number, constant(len(values), np.int64))
        parts[-1] = choose(other, cast(part, np.float64), own)
        changed = True
    return Columns(tuple(parts)) if changed else table


def _looked_up(
    step: Any,
    columns: Columns,
    source: int,
    rows: Table,
    at: Converting,
) -> tuple[Var, Array] | None:
    """The number of each row's value in one column, and what the source makes of each, (values, columns).

    A value without a number has that of their count. None where there are too many, or the source
    refuses some.
    """
    values = _few_values(rows, source)
    if values is None:
        return None
    asked = rows.repeated(np.arange(len(values)) % len(rows)).with_columns({source: values})
    try:
        with allowed_to_fail():
            answer = np.asarray(ask(step, "transform", asked.raw), np.float64)
    except (ConversionError, ValueError):
        return None
    (part,) = columns.take([source]).parts
    return looked_up(part, values.tolist(), np.arange(len(values)), len(values), at), answer


def _few_values(rows: Table, column: int) -> Array | None:
    """The values of a column, and the whole numbers between them; None for one of many, or of others."""
    if not isinstance(rows.dtypes[column], np.dtype) or rows.dtypes[column].kind not in "iuf":
        return None
    values = np.unique(rows.values(column))
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = values[0], values[-1]
    if (values == np.rint(values)).all() and high - low < FEW_VALUES:
        return np.arange(low, high + 1, dtype=values.dtype)
    return values if len(values) <= FEW_VALUES else None

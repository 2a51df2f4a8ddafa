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
from modelkit.convert.estimators.arithmetic import choose, equal
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.rounding import origins, rounded_columns
from modelkit.convert.estimators.selection import is_selector, kept
from modelkit.convert.estimators.tensors import Columns, Var, constant, dtype_of, op
from modelkit.convert.gate.rows import Table, rows_of
from modelkit.convert.outputs import ask
from modelkit.convert.steps import does_nothing, found_by_search
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.cast import Array
    from modelkit.convert.estimators.converting import Converting

FEW_VALUES = 1024  # of a column, at most, for which a table is written
# Steps that give a sparse table of what is not 0, whatever they are given, or where an option says so.
SPARSE = ("CountVectorizer", "HashingVectorizer", "TfidfVectorizer")
SPARSE_WHERE = {
    "KBinsDiscretizer": ("encode", "onehot"),
    "MissingIndicator": ("sparse", True),
    "OneHotEncoder": ("sparse_output", True),
    "RandomTreesEmbedding": ("sparse_output", True),
}
# Steps that store some zeros, by no rule that a graph follows.
STORES_ZEROS = {
    "HashingVectorizer": ("alternate_sign", True),
    "SplineTransformer": ("sparse_output", True),
}
# Steps that make of a sparse table one of what is not 0, of the same numbers, or of others.
SPARSE_OF_SPARSE = ("Binarizer", "MissingIndicator")
SAME_STORED = ("MaxAbsScaler", "Normalizer", "RobustScaler", "StandardScaler", "TfidfTransformer")
OTHER_STORED = (
    "AdditiveChi2Sampler",
    "FunctionTransformer",
    "PolynomialFeatures",
    "QuantileTransformer",
    "SimpleImputer",
    "SparseRandomProjection",
)
CSR_DEGREE = 3  # up to which products are made of the numbers that are stored


def transformed(
    step: Any,
    columns: Columns,
    at: Converting,
) -> Columns:
    """The table that a step makes of columns.

    A selector that predicts as well is not asked to: its prediction may have no converter.
    """
    if does_nothing(step):
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
    inner = found_by_search(getattr(step, "estimator", step) if _is_frozen(step) else step)
    if inner is not step:
        return transformed(inner, columns, at)
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            columns = transformed(inner, columns, at)
        return columns
    if is_selector(step):
        at.guard(step, columns)
        return kept(step, columns)
    table: Columns = at.answer(step, columns).asked("table")
    if table is columns or table.stored is not None:
        return table
    return replace(table, stored=_stored(step, columns, table, at))


def _is_frozen(step: Any) -> bool:
    return type(step).__name__ == "FrozenEstimator"


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
        own = op.gather(constant(np.append(values[:, place], 0.0), dtype_of(part)), number)
        other = op.equal(number, constant(len(values), np.int64))
        parts[-1] = choose(other, part, own)
        changed = True
    return replace(table, parts=tuple(parts)) if changed else table


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


def _stored(
    step: Any,
    columns: Columns,
    table: Columns,
    at: Converting,
) -> Columns | str | None:
    """Which numbers of the table that a step gives are stored in the source: see `Columns.stored`."""
    kind = type(step)
    name = kind.__name__ if kind.__module__.startswith("sklearn.") else ""
    given = columns.stored
    if _has(step, STORES_ZEROS.get(name)):
        return name
    if name in SPARSE or _has(step, SPARSE_WHERE.get(name)):
        return Columns(table.parts)
    if given is None:
        return Columns(columns.parts) if name == "TfidfTransformer" else None
    if name in SPARSE_OF_SPARSE:
        return Columns(table.parts)
    if isinstance(given, str):
        return given if name in (*SAME_STORED, *OTHER_STORED) else None
    if name in SAME_STORED or isinstance(getattr(step, "func", None), np.ufunc):
        return given
    if (
        name == "SimpleImputer"
        and not step.add_indicator
        and sum(table.widths) == sum(columns.widths)
    ):
        return given
    if name == "PolynomialFeatures" and step.powers_.sum(axis=1).max() <= CSR_DEGREE:
        present = op.not_(equal(given.matrix(np.float64), 0.0))
        products: Columns = at.answer(step, Columns((present,))).asked("table")
        return products
    return name if name in OTHER_STORED else None


def _has(step: Any, option: tuple[str, Any] | None) -> bool:
    """Whether a step has an option with a value; False where its class has no such option."""
    return option is not None and getattr(step, option[0]) == option[1]

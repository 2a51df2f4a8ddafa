"""What a step in the middle of a pipeline gives: its table, whatever else it could answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import equal
from modelkit.convert.estimators.selection import is_selector, kept
from modelkit.convert.estimators.tensors import Columns, op
from modelkit.convert.steps import does_nothing, found_by_search

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

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
        return _transformed(step, columns, at)


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

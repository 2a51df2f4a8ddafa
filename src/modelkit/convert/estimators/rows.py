"""Converters that are functions of numpy: given rows they compute what an estimator answers.

Given the `Rows` of a conversion, they write its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial, wraps
from typing import Any

import numpy as np

from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.tensors import Columns, Function, Traced, Var, affine, converts


class Rows(Traced):
    """The matrix of the columns that an estimator is given, written where something reads it."""

    def __init__(self, columns: Columns, at: Converting, dtype: Any) -> None:
        self.columns = columns
        self.at = at
        self._dtype = dtype

    @cached_property
    def matrix(self) -> Var:
        """The matrix itself."""
        return self.columns.matrix(self._dtype)

    @cached_property
    def _var_info(self) -> Any:  # type: ignore[override]
        return self.matrix._var_info

    @cached_property
    def _value(self) -> Any:  # type: ignore[override]
        return self.matrix._value

    def astype(self, dtype: Any) -> Any:
        """The matrix in another dtype, of columns that may have it."""
        return self if self._dtype == dtype else self.columns.matrix(dtype)


def of_doubles(*classes: str) -> Callable[[Function], Function]:
    """Convert classes by a function of an estimator and rows of float64, that gives an Answer or a table."""
    return partial(_converted, classes, lambda *_: np.float64)


def of_floats(*classes: str) -> Callable[[Function], Function]:
    """The same, of rows in the dtype that scikit-learn computes in."""
    return partial(_converted, classes, Converting.float_dtype)


def _converted(classes: Sequence[str], dtype_of: Callable[..., Any], formula: Function) -> Function:
    @converts(*classes)
    @wraps(formula)
    def convert(estimator: Any, columns: Columns, at: Converting) -> Any:
        return formula(estimator, Rows(columns, at, dtype_of(at, columns)))

    return formula


def is_sparse(x: Any) -> bool:
    """Whether rows are a sparse matrix in the source."""
    return x.columns.stored is not None if isinstance(x, Rows) else hasattr(x, "toarray")


def shown(x: Any) -> Any:
    """The rows of the example as the source has them; None if not known."""
    return x.columns.table() if isinstance(x, Rows) else x


def note_single(x: Any, fitted: Any) -> None:
    """Note that a source computes in float32, in another order, with what it was fitted to."""
    if isinstance(x, Rows):
        x.at.rounds |= fitted.dtype == np.float32


def sparse_affine(x: Any, weights: Any, shift: Any) -> Any:
    """The same as `affine`; of columns most of which are zero it reads the others alone."""
    return (
        x.at.product(x.columns, weights, shift)
        if isinstance(x, Rows)
        else affine(x, weights, shift)
    )

"""What categories stand for: each value of a column is looked up in a table, in one operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelkit.cast import MISSING, Array, is_missing
from modelkit.convert.tensors import STRING, Columns, Var, cast, dtype_of, ml
from modelkit.errors import ConversionError


def single_columns(columns: Columns) -> list[Var]:
    """Each column as (n, 1)."""
    places = range(sum(columns.widths))
    return [columns.take([place]).parts[0] for place in places]


def looked_up(
    column: Var,
    categories: Sequence[Any],
    values: Any,
    otherwise: Any,
) -> Var:
    """The value that each category of a column stands for, (n, 1), and another for all else.

    A missing category is what is missing in the column, whether None or NaN.
    """
    table = np.asarray(values)
    return ml.label_encoder(
        column if dtype_of(column) == STRING else cast(column, np.float64),
        keys_tensor=_keys(column, categories),
        values_tensor=table,
        default_tensor=np.array([otherwise], table.dtype),
    )


def _keys(column: Var, categories: Sequence[Any]) -> Array:
    """The categories as they arrive in a graph, where a missing string is a marker."""
    if dtype_of(column) == STRING:
        return np.array([MISSING if is_missing(value) else str(value) for value in categories])
    return np.array([np.nan if is_missing(value) else value for value in categories], np.float64)


def check_one_missing(encoder: Any) -> None:
    """Raise ConversionError if an encoder tells None from NaN, which a package does not."""
    for place, categories in enumerate(encoder.categories_):
        missing = [value for value in categories.tolist() if is_missing(value)]
        if len(missing) > 1:
            name = type(encoder).__name__
            raise ConversionError(
                f"{name} has None and NaN as two categories of {column_name(encoder, place)}, and "
                "a package has one missing value; "
                "give fit and example X.fillna(np.nan)",
                step=name,
            )


def column_name(estimator: Any, place: int) -> str:
    """A column as fit knew it: by its name, or else by its place."""
    names = getattr(estimator, "feature_names_in_", None)
    return f"column {place}" if names is None else f"column {str(names[place])!r}"

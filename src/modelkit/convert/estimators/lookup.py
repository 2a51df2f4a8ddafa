"""What categories stand for: each value of a column is looked up in a table, in one operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.tensors import STRING, Columns, Var, ml, refuse
from modelkit.signature.cast import MISSING, is_missing

Lookup = Callable[[Any, Any], Any]  # of the value of each category, and another for all else


def single_columns(columns: Columns) -> list[Var]:
    """Each column as (n, 1)."""
    count = sum(columns.widths)
    return [columns.take([place]).parts[0] for place in range(count)]


def looked_up(column: Var, categories: Sequence[Any], values: Any, otherwise: Any) -> Var:
    """The value that each category of a column stands for, (n, 1), and another for all else.

    A missing category is what is missing in the column, whether None or NaN. A text that an imputer
    puts in place of a marker is looked up by the marker, and the imputer needs no operator.
    """
    keys = _keys(column, categories)
    table = np.asarray(values)
    unknown = np.array([otherwise], table.dtype)
    fill = column.fill
    if fill is not None:
        filled = table[keys == fill.text]
        others = keys != fill.marker
        column = fill.column
        keys = np.append(keys[others], fill.marker)
        table = np.append(table[others], filled if len(filled) else unknown)
    return ml.label_encoder(
        column if column.dtype == STRING else column.astype(np.float64),
        keys_tensor=keys,
        values_tensor=table,
        default_tensor=unknown,
    )


def lookups(encoder: Any, columns: Columns, at: Converting) -> list[Lookup]:
    """For each column of an encoder, the function that looks up values of its categories, and one for all else.

    Rows with other categories are refused where the encoder refuses them, and no signature does.
    """
    found: list[Lookup] = []
    for place, column in enumerate(single_columns(columns)):
        known = encoder.categories_[place].tolist()
        _check_one_missing(encoder, place, column)
        look = partial(looked_up, column, known)
        found.append(look)
        refuses = getattr(encoder, "handle_unknown", None) == "error"
        if refuses and not at.is_closed(column, known):
            beyond = look(np.zeros(len(known), np.int64), 1)
            at.refuse(
                beyond.astype(np.bool_),
                f"{type(encoder).__name__} does not know the category that an earlier step gives "
                f"this row in {column_name(encoder, place)}",
            )
    return found


def _keys(column: Var, categories: Sequence[Any]) -> Array:
    """The categories as they arrive in a graph, where a missing string is a marker."""
    missing, dtype = (MISSING, np.str_) if column.dtype == STRING else (np.nan, np.float64)
    return np.array([missing if is_missing(value) else value for value in categories], dtype)


def _check_one_missing(encoder: Any, place: int, column: Var) -> None:
    """Raise ConversionError where an encoder distinguishes None from NaN, which a package does not.

    None is a category of its own, also behind an imputer that fills what is NaN.
    """
    missing = sum(map(is_missing, encoder.categories_[place].tolist()))
    fill = column.fill
    if fill is not None and MISSING == fill.marker != fill.text:
        missing += 1
    if missing > 1:
        given = (column if fill is None else fill.column).input
        where = column_name(encoder, place) if given is None else f"column {given!r}"
        refuse(
            encoder,
            f" has None as a category of {where}, beside NaN, and a package has one "
            "missing value; give fit and example X.fillna(np.nan)",
        )


def column_name(estimator: Any, place: int) -> str:
    """A column as fit knew it: by its name, or else by its place."""
    names = getattr(estimator, "feature_names_in_", None)
    return f"column {place}" if names is None else f"column {str(names[place])!r}"

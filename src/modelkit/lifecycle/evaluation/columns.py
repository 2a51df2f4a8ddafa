"""The columns of the caller's rows that say what rows are, and that a model need not take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError, UsageError
from modelkit.signature import frames
from modelkit.signature.cast import is_missing
from modelkit.signature.signature import Signature


def column_named(X: Any, name: str, what: str) -> Any:
    """A column of the caller's rows. Raises UsageError where they have none of that name."""
    names, columns = _named_columns(X, what)
    if name not in names:
        raise UsageError(
            f"{what} names the column {name!r}, and the rows have {sorted(map(str, names))!r:.300}"
        )
    return columns[list(names).index(name)]


def _named_columns(X: Any, what: str) -> tuple[list[Any], list[Any]]:
    if isinstance(X, np.ndarray):
        raise UsageError(
            f"{what} names a column, and the rows are an array without names: pass its values, (n,)"
        )
    names, columns = frames.read_frame(X)
    return list(names), list(columns)


def grouping_values(X: Any, groups: Any, what: str) -> Any:
    """Values (n,), or the column that a text names. Raises UsageError."""
    return column_named(X, groups, what) if isinstance(groups, str) else groups


def without_columns(X: Any, names: Sequence[str], signature: Signature) -> Any:
    """Rows without those of these columns that the model does not take."""
    taken = {spec.name for spec in signature.inputs}
    taken.update(signature.column_names, signature.ignored)
    extra = [name for name in names if name not in taken]
    if not extra:
        return X
    found, columns = _named_columns(X, "evaluate")
    return {name: column for name, column in zip(found, columns, strict=True) if name not in extra}


def slice_columns(X: Any, slices: Any) -> dict[str, Any]:
    """The values of the columns to slice by, by name. Raises UsageError.

    Args:
        X: the rows.
        slices: the names of columns of X, or a dict of values (n,) by name; None for none.
    """
    if slices is None:
        return {}
    if isinstance(slices, Mapping):
        return {str(name): values for name, values in slices.items()}
    if not all(isinstance(name, str) for name in slices):
        raise UsageError(
            f"slices is a list of names of columns, or a dict of values by name, not {slices!r:.80}"
        )
    return {name: column_named(X, name, "slices") for name in slices}


def read_column(name: str, values: Any) -> Array:
    """One value a row in any form, (n,), also as a frame of one column. Raises UsageError."""
    try:
        if isinstance(values, Mapping) or hasattr(values, "columns"):
            names, columns = frames.read_frame(values)
            if len(names) != 1:
                raise UsageError(f"{name} is one column, and this is a table of {len(names)}")
            return frames.as_column(columns[0])
        return frames.as_column(values)
    except SignatureError as error:
        raise UsageError(f"{name} has one value a row: {error}") from None


def texts_of(name: str, values: Any) -> Array:
    """Values in any form as texts, (n,); a missing one is "missing". Raises UsageError."""
    column = read_column(name, values)
    if isinstance(column, np.ma.MaskedArray):
        texts = column.data.astype(str).astype(object)
        texts[np.ma.getmaskarray(column)] = "missing"
        return texts
    named = ["missing" if is_missing(value) else str(value) for value in column.tolist()]
    return np.array(named, object)

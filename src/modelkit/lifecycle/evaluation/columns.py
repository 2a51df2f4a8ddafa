"""The columns of the caller's rows that say what rows are, and that a model need not take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.names import did_you_mean
from modelkit.errors import SignatureError, UsageError
from modelkit.signature import frames
from modelkit.signature.cast import is_missing
from modelkit.signature.signature import Signature


def column_named(X: Any, name: str, what: str) -> Any:
    """A column of the caller's rows. Raises UsageError where they have none of that name."""
    names, columns = _named_columns(X, what)
    if name not in names:
        raise UsageError(
            f"{what} names the column {name!r}{did_you_mean(name, names)}, and the rows have "
            f"{sorted(map(str, names))!r:.300}"
        )
    return columns[list(names).index(name)]


def _named_columns(X: Any, what: str) -> tuple[list[Any], list[Any]]:
    if isinstance(X, np.ndarray):
        raise UsageError(
            f"{what} names a column, and the rows are an array without names: pass its values, (n,)"
        )
    names, columns = frames.read_frame(X)
    return list(names), list(columns)


def without_columns(X: Any, names: Sequence[str], signature: Signature) -> Any:
    """Rows without these columns, except the ones that the model takes."""
    taken = {spec.name for spec in signature.inputs}
    taken.update(signature.column_names, signature.ignored)
    extra = [name for name in names if name not in taken]
    if not extra:
        return X
    found, columns = _named_columns(X, "evaluate")
    return {name: column for name, column in zip(found, columns, strict=True) if name not in extra}


def read_column(name: str, values: Any) -> tuple[Array, Array]:
    """One value a row in any form, (n,), also as a frame of one column; and which are missing, (n,).

    Raises UsageError.
    """
    try:
        if isinstance(values, Mapping) or hasattr(values, "columns"):
            names, columns = frames.read_frame(values)
            if len(names) != 1:
                raise UsageError(f"{name} is one column, and this is a table of {len(names)}")
            values = columns[0]
        column = frames.as_column(values)
    except SignatureError as error:
        raise UsageError(f"{name} has one value a row: {error}") from None
    gone = np.ma.getmaskarray(column)
    column = np.ma.getdata(column)
    if column.dtype.kind in "fmM":
        gone = gone | (column != column)  # only NaN and NaT differ from themselves
    elif column.dtype == object:
        gone = gone | np.array([is_missing(value) for value in column], bool)
    return column, gone


def texts_of(name: str, values: Any) -> Array:
    """Values in any form as texts, (n,); a missing one is "missing". Raises UsageError."""
    column, gone = read_column(name, values)
    texts = np.array([str(value) for value in column.tolist()], object)
    texts[gone] = "missing"
    return texts

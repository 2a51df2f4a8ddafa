"""The columns of example rows: their names, and their dtypes as a signature has them."""

from __future__ import annotations

import re
import sys
from math import prod
from typing import Any

import numpy as np

from modelkit.errors import ConversionError
from modelkit.signature.cast import is_missing
from modelkit.signature.spec import GRAPH_DTYPES, MIXED, TIMES, ZONE, Column

TEXT_DTYPES = ("str", "large_string", "dictionary<values=string", "dictionary<values=large_string")
USUAL_NAMES = {"boolean": "bool", "double": "float64", "float": "float32"}
# As numpy, pandas and Arrow write times: "datetime64[us, Europe/Berlin]", "timestamp[us, tz=UTC]".
TIME_PATTERN = re.compile(r"(datetime64|timestamp|timedelta64|duration)\[(s|ms|us|ns)(,.*)?\]")
PLAIN_OBJECTS = str | int | float | np.generic  # a boolean is an integer
ADVICE = {
    "integer": "make it one of numbers before fit: astype('Int64'), or float where there are gaps",
    "floating": "make it one of numbers before fit: astype(float)",
    "mixed-integer-float": "make it one of numbers before fit: astype(float)",
    "date": "make it one of times before fit: pandas.to_datetime",
    "decimal": "make it one of numbers before fit: astype(float)",
}
OTHER_ADVICE = (
    "give all of its values one type before fit, such as astype(str), or leave the column out"
)


def columns_of(example: Any, *, native: bool) -> list[Column]:
    """The columns of an array or a frame. Raises ConversionError for a dtype that is not taken.

    Only estimators that are packaged as they are take times with a zone and objects of several
    types: `native`.
    """
    if isinstance(example, np.ndarray):
        return [Column(f"x{i}", str(example.dtype)) for i in range(example.shape[1])]
    return [
        Column(str(name), _column_dtype(str(name), values, native=native))
        for name, values in example.items()
    ]


def dtypes_of(example: Any) -> list[np.dtype[Any]]:
    """The dtype in which scikit-learn reads each column of an array or a frame.

    It computes in float64 with what is in a dtype of an extension.
    """
    if isinstance(example, np.ndarray):
        return [example.dtype] * prod(example.shape[1:])
    wide = np.dtype(np.float64)
    return [dtype if isinstance(dtype, np.dtype) else wide for dtype in example.dtypes]


def categories_of(rows: Any) -> dict[str, tuple[Any, ...]]:
    """The categories of the columns of a frame that have some, by column; none of an array."""
    return {
        str(name): tuple(dtype.categories.tolist())
        for name, dtype in getattr(rows, "dtypes", {}).items()
        if hasattr(dtype, "categories")
    }


def _column_dtype(name: str, column: Any, *, native: bool) -> str:
    """The dtype of a column of a frame, as a signature has it. Raises ConversionError."""
    dtype = column.dtype
    values = column
    if hasattr(dtype, "categories"):
        values = dtype.categories
        dtype = values.dtype
    dtype = getattr(dtype, "subtype", dtype) if hasattr(dtype, "fill_value") else dtype  # sparse
    if dtype == np.dtype(object):
        return _dtype_of_objects(name, values, native=native)
    text = str(dtype).lower().removesuffix("[pyarrow]")
    if text.startswith(TEXT_DTYPES):
        return "string"
    text = USUAL_NAMES.get(text, text)
    times = _time_dtype(text)
    if text in GRAPH_DTYPES or (times and (native or isinstance(column.dtype, np.dtype))):
        return times or text
    if times is not None:
        plain = "Series.dt.tz_localize(None)" if ZONE in times else f"Series.astype('{times}')"
        fix = f"give it numpy's dtype before fit, {plain}, or save with format='joblib'"
    else:
        fix = "astype(str) before fit" if text.startswith("interval") else "turn it into numbers"
    raise ConversionError(
        f"column {name!r} has dtype {column.dtype}, which {'a package' if native else 'a graph'} "
        f"cannot take; {fix}, or leave it out",
        column=name,
    )


def _time_dtype(text: str) -> str | None:
    """The dtype of times as a signature has it; None for any other."""
    found = TIME_PATTERN.fullmatch(text)
    if found is None:
        return None
    kind, unit, zone = found.groups()
    spans = kind in ("timedelta64", "duration")
    dtype = f"timedelta64[{unit}]" if spans else f"datetime64[{unit}{ZONE if zone else ''}]"
    return dtype if dtype in TIMES else None


def _dtype_of_objects(name: str, column: Any, *, native: bool) -> str:
    """The dtype of a column of objects: texts, or values of several types.

    Raises ConversionError.
    """
    held = sys.modules["pandas"].api.types.infer_dtype(column, skipna=True)
    if held in ("string", "empty"):
        gaps = {value is None for value in column if is_missing(value)}
        # Only a mixed column keeps None and NaN apart.
        return MIXED if native and len(gaps) > 1 else "string"
    present = [value for value in column if not is_missing(value)]
    if native and all(isinstance(value, PLAIN_OBJECTS) for value in present):
        return MIXED
    if held == "boolean":  # as read_csv gives booleans with gaps
        return "bool"
    other = next(value for value in present if not isinstance(value, str))
    raise ConversionError(
        f"column {name!r} has Python objects in it, such as {other!r:.60}, of type "
        f"{type(other).__name__}; {ADVICE.get(held, OTHER_ADVICE)}",
        column=name,
    )

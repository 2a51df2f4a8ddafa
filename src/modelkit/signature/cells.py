"""Cells of CSV: each text becomes a value of its column, and an empty one a missing value.

So does what R, SQL and spreadsheets write for one, unless the column may hold it as a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isinf
from typing import Any

from modelkit.errors import SignatureError
from modelkit.signature.signature import Signature
from modelkit.signature.spec import MIXED, ZONE, Column, TensorSpec
from modelkit.signature.times import read_span, reader_of_times

Parse = Callable[[str], Any]
Parser = tuple[str, Parse]  # the dtype of a column, and what turns a cell into a value of it
GAPS = frozenset({"", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null", "None"})


def parsers_of(signature: Signature) -> dict[str, Parser]:
    """What parses the cells of each column."""
    return {
        column.name: _with_gaps(column, *_parser_of(column, spec))
        for spec in signature.inputs
        for column in spec.columns
    }


def parse_record(
    names: Sequence[str], cells: Sequence[str], parsers: Sequence[Parser], row: int
) -> dict[str, Any]:
    """One line as a record. Raises SignatureError for a cell that does not parse, and for their number."""
    if len(cells) != len(names):
        raise SignatureError(f"row {row} has {len(cells)} cells, and {len(names)} are expected")
    record: dict[str, Any] = {}
    for name, cell, (dtype, parse) in zip(names, cells, parsers, strict=True):
        try:
            record[name] = None if cell == "" else parse(cell)
        except (ValueError, KeyError):
            raise SignatureError(
                f"row {row}, column {name!r}: {cell!r:.80} is not {dtype}"
            ) from None
    return record


def _with_gaps(column: Column, dtype: str, parse: Parse) -> Parser:
    """A parser that takes the texts for a missing value, too, but for those that may be meant."""
    if parse in (str, _parse_text) and not column.categories:
        return dtype, parse
    gaps = GAPS.difference(map(str, column.categories or ()))
    return dtype, lambda cell: None if cell in gaps else parse(cell)


def _parser_of(column: Column, spec: TensorSpec) -> Parser:
    kind = column.dtype.partition("[")[0].rstrip("0123456789")
    if "int" in kind and spec.dtype.startswith("float"):
        return column.dtype + HINTS["float"], _parse_number
    if kind == "datetime":
        zoned = ZONE in column.dtype
        return column.dtype + HINTS["zoned" if zoned else "local"], reader_of_times(zoned=zoned)
    if kind == MIXED:
        return "surely a text, and this column takes numbers, too: send JSON", _parse_text
    return column.dtype + HINTS.get(kind, ""), PARSERS[kind]


def _parse_int(cell: str) -> int:
    """An integer. Raises ValueError for 1_0 and for digits of other scripts, too, which Python takes."""
    if "_" in cell or not cell.isascii():
        raise ValueError
    return int(cell)


def _parse_float(cell: str) -> float:
    """A float, as `_parse_int`. Raises ValueError for 1e999, too, which Python takes for infinite."""
    value = float(cell)
    if "_" in cell or not cell.isascii() or (isinf(value) and "n" not in cell.lower()):
        raise ValueError
    return value


def _parse_number(cell: str) -> float:
    """An integer or a float: pandas writes 100.0 where a column of integers has gaps."""
    try:
        return _parse_int(cell)
    except ValueError:
        return _parse_float(cell)


def _parse_text(cell: str) -> str:
    """A text of a column of anything. Raises ValueError for one that may be another value."""
    try:
        float(cell)
    except ValueError:
        if cell.lower() not in ("true", "false"):
            return cell
    raise ValueError


def _parse_truth(cell: str) -> bool:
    """A boolean in the usual spellings. Raises KeyError for others."""
    return {"true": True, "false": False, "1": True, "0": False}[cell.strip().lower()]


def _parse_span(cell: str) -> Any:
    """A span of time, in seconds."""
    return read_span(_parse_number(cell))


HINTS = {
    "float": ": write a number as 1.5, a boolean as 1 or 0",
    "int": ": write a number as 12, a boolean as 1 or 0",
    "zoned": ": write a time with a time zone, as 2026-01-31T12:30:00Z",
    "local": ": write a time without a time zone, as 2026-01-31T12:30:00",
}
PARSERS: dict[str, Parse] = {
    "float": _parse_float,
    "int": _parse_int,
    "uint": _parse_int,
    "bool": _parse_truth,
    "string": str,
    "timedelta": _parse_span,
}

"""Rows of a file: of Parquet, or of CSV, each cell parsed to the type of its column."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from modelkit.errors import SignatureError
from modelkit.signature.frames import read_parquet
from modelkit.signature.signature import Signature
from modelkit.signature.spec import Column, TensorSpec

Parse = Callable[[str], Any]
PARQUET = (".parquet", ".pq")


def read_rows(path: str, signature: Signature, named: Collection[str | None] = ()) -> Any:
    """The rows of a file as a Model takes them: a table of Arrow for Parquet, records for CSV.

    The index that pandas puts into Parquet is left out, unless the model takes a column of its
    name, or it is among `named`, the columns that somebody asks for.

    Raises SignatureError for a file without rows, or of another form.
    """
    if not path.lower().endswith(PARQUET):
        return read_csv(path, signature)
    table = read_parquet(path, {*named, *signature.ignored, *signature.column_names})
    if not len(table):
        raise SignatureError(f"{path} has no rows")
    return table


def read_csv(path: str, signature: Signature) -> list[dict[str, Any]]:
    """The rows of a CSV file as records, without its blank lines.

    Raises SignatureError for a file without rows, and for a cell that does not parse.
    """
    header, rows = _read_cells(path)
    twice = next((name for name, times in Counter(header).items() if times > 1), None)
    if twice is not None:
        raise SignatureError(f"{path} has more than one column {twice!r}")
    if not rows:
        raise SignatureError(f"{path} has no rows")
    parsers = {
        column.name: _parser_of(column, spec)
        for spec in signature.inputs
        for column in spec.columns
    }
    unknown = ("string", str)  # a column that the model does not know stays text
    in_order = [parsers.get(name, unknown) for name in header]
    return [_parse_record(header, row, in_order, number) for number, row in enumerate(rows)]


def known_columns(rows: Any, signature: Signature, more: Collection[str] = ()) -> Any:
    """Rows of `read_rows` without the columns that the model does not take, but for those in `more`.

    Such columns may be keys of rows, which differ in any two files.
    """
    known = {*more, *signature.column_names}
    if not known.difference(more):
        return rows
    if not isinstance(rows, list):
        return rows.select([name for name in rows.column_names if name in known])
    kept = [name for name in rows[0] if name in known]
    return [{name: record[name] for name in kept} for record in rows]


def _read_cells(path: str) -> tuple[list[str], list[list[str]]]:
    """The header of a CSV file, and the cells of the lines that have some."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as text:
            rows = csv.reader(text)
            header = next(rows, [])
            return header, [row for row in rows if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SignatureError(
            f"{path} is not CSV in UTF-8: {error}; the name of a file of Parquet ends in {PARQUET[0]}"
        ) from error


def _parse_record(
    header: list[str], cells: list[str], parsers: list[tuple[str, Parse]], row: int
) -> dict[str, Any]:
    """One line with its cells parsed; an empty cell is a missing value."""
    if len(cells) != len(header):
        raise SignatureError(f"row {row} has {len(cells)} cells, and the header {len(header)}")
    record: dict[str, Any] = {}
    for name, cell, (dtype, parse) in zip(header, cells, parsers, strict=True):
        try:
            if "_" in cell and dtype != "string":  # Python takes 1_0 for 10
                raise ValueError
            record[name] = None if cell == "" else parse(cell)
        except (ValueError, KeyError):
            raise SignatureError(f"row {row}, column {name!r}: {cell!r} is not {dtype}") from None
    return record


def _parser_of(column: Column, spec: TensorSpec) -> tuple[str, Parse]:
    """The dtype of a column, and what turns a cell into a value of it."""
    kind = column.dtype.partition("[")[0].rstrip("0123456789")
    if "int" in kind and spec.dtype.startswith("float"):
        return column.dtype, _parse_number
    return column.dtype, PARSERS[kind]


def _parse_number(cell: str) -> float:
    """An integer or a float: pandas writes 100.0 where a column of integers has gaps."""
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def _parse_truth(cell: str) -> bool:
    """A boolean in the usual spellings. Raises KeyError for others."""
    return {"true": True, "false": False, "1": True, "0": False}[cell.strip().lower()]


def _parse_span(cell: str) -> timedelta:
    """A span of time, in seconds."""
    return timedelta(seconds=float(cell))


PARSERS: dict[str, Parse] = {
    "float": float,
    "int": int,
    "uint": int,
    "bool": _parse_truth,
    "string": str,
    "mixed": str,
    "datetime": datetime.fromisoformat,
    "timedelta": _parse_span,
}

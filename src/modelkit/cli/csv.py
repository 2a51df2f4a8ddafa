"""Rows of a file: of Parquet, or of CSV, each cell parsed to the type of its column."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from modelkit.errors import SignatureError
from modelkit.signature.cells import Parser, parse_record, parsers_of
from modelkit.signature.frames import read_parquet
from modelkit.signature.signature import Signature

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
    parsers = parsers_of(signature)
    unknown: Parser = ("string", str)  # a column that the model does not know stays text
    in_order = [parsers.get(name, unknown) for name in header]
    return [parse_record(header, row, in_order, number) for number, row in enumerate(rows)]


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

"""Rows of a file or of the standard input: CSV, JSON, JSON lines or Parquet, compressed or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from modelkit._internal.names import did_you_mean
from modelkit.errors import SignatureError, UsageError

if TYPE_CHECKING:
    from modelkit.signature.signature import Signature

Columns = dict[str, Any]
STANDARD = "-"  # what stands for the standard input and output
DELIMITERS = ",;\t"
CSV, JSON, PARQUET = "CSV in UTF-8", "JSON", "Parquet"
ENDINGS = {
    ".csv": CSV,
    ".tsv": CSV,
    ".json": JSON,
    ".jsonl": JSON,
    ".ndjson": JSON,
    ".parquet": PARQUET,
    ".pq": PARQUET,
}
MARK = b"\xef\xbb\xbf"  # of UTF-8, before a text


def read_rows(path: str, signature: Signature, named: Collection[str | None] = ()) -> Columns:
    """The rows of a file as columns by name.

    The index that pandas puts into Parquet is left out, unless the model takes a column of its
    name, or it is among `named`, the columns that somebody asks for.

    Raises SignatureError for a file without rows, or of another form.
    """
    (columns,) = read_chunks(path, signature, named, None)
    return columns


def read_chunks(
    path: str, signature: Signature, named: Collection[str | None], size: int | None
) -> Iterator[Columns]:
    """The rows of a file as `read_rows` gives them, `size` at a time."""
    from modelkit.signature.frames import read_frame

    some = False
    source: Any = sys.stdin.buffer if path == STANDARD else open(path, "rb")  # noqa: SIM115
    with source:
        kind = "gzip"
        try:
            file = source
            if source.peek(2)[:2] == b"\x1f\x8b":
                file = gzip.GzipFile(fileobj=source)
            kind = _kind_of(path, file.peek(64).removeprefix(MARK).lstrip())
            for part in _parts(file, kind, signature, named, size):
                if len(part):
                    some = True
                    names, columns = read_frame(part)
                    _check_names(names)
                    yield dict(zip(names, columns, strict=True))
        except SignatureError:
            raise
        except (
            ValueError,
            RecursionError,
            csv.Error,
            EOFError,
            zlib.error,
            gzip.BadGzipFile,
        ) as error:
            raise SignatureError(f"{path} cannot be read as {kind}: {error}") from error
    if not some:
        raise SignatureError(f"{path} is empty; it needs at least one row")


def _kind_of(path: str, start: bytes) -> str:
    """What a file holds by the ending of its name, or else by how it starts."""
    ending = PurePath(path.lower().removesuffix(".gz")).suffix
    if ending in ENDINGS:
        return ENDINGS[ending]
    if start.startswith(b"PAR1"):
        return PARQUET
    return JSON if start.startswith((b"[", b"{")) else CSV


def _parts(
    file: Any, kind: str, signature: Signature, named: Collection[str | None], size: int | None
) -> Iterator[Any]:
    """The rows of an open file, as tables of Arrow or lists of records."""
    if kind == PARQUET:
        from modelkit.signature.frames import read_parquet

        known = {*named, *signature.ignored, *signature.column_names}
        whole = file if file.seekable() else io.BytesIO(file.read())
        yield from read_parquet(whole, known, size)
        return
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        records = _read_csv(text, signature) if kind == CSV else _read_json(text, signature)
        while part := list(islice(records, size)):
            yield part


def _check_names(names: Iterable[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise ValueError(f"there is more than one column {name!r}")


def _read_csv(text: Iterator[str], signature: Signature) -> Iterator[dict[str, Any]]:
    """The rows of CSV as records, without blank lines; a comma, a semicolon or a tab parts cells.

    Raises SignatureError for a cell that does not parse.
    """
    from modelkit.signature.cells import Parser, parse_record, parsers_of

    first = next(text, "")
    widths = {mark: len(next(csv.reader([first], delimiter=mark), ())) for mark in DELIMITERS}
    mark = max(DELIMITERS, key=widths.__getitem__)
    rows = csv.reader(chain([first], text), delimiter=mark, strict=True)
    header = next(rows, [])
    _check_names(header)
    parsers = parsers_of(signature)
    unknown: Parser = ("string", str)  # a column that the model does not know stays text
    in_order = [parsers.get(name, unknown) for name in header]
    for number, row in enumerate(filter(None, rows)):
        yield parse_record(header, row, in_order, number)


def _read_json(text: Iterator[str], signature: Signature) -> Iterator[dict[str, Any]]:
    """The records of JSON: a list of them, or one on each line; times are texts in ISO 8601."""
    from modelkit._internal.json import from_plain, parse_json
    from modelkit.signature.cells import parsers_of

    readers = {
        name: read for name, (dtype, read) in parsers_of(signature).items() if "datetime" in dtype
    }

    first = next(text, "")
    if first.lstrip().startswith("["):
        records: Iterable[Any] = parse_json("".join([first, *text]))
    else:
        records = _parsed_lines(chain([first], text))
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(f"row {row} is {json.dumps(record):.40}, and not an object")
        for name in readers.keys() & record.keys():
            if isinstance(record[name], str):
                try:
                    record[name] = readers[name](record[name])
                except ValueError as error:
                    raise ValueError(f"row {row}, column {name!r}: {error}") from None
        yield from_plain(record)


def _parsed_lines(lines: Iterable[str]) -> Iterator[Any]:
    from modelkit._internal.json import parse_json

    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                yield parse_json(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None


def values_of(columns: Columns, name: str) -> list[Any]:
    """The values of a column. Raises UsageError for one that is not there."""
    if name not in columns:
        raise UsageError(
            f"the rows lack the column {name!r}{did_you_mean(name, columns)}; their columns are "
            f"{', '.join(columns)}"
        )
    values = columns[name]
    return values.to_pylist() if hasattr(values, "to_pylist") else list(values)


def set_aside(
    columns: Columns, ids: Collection[str], signature: Signature
) -> tuple[Columns, Columns]:
    """Columns without the ones that only identify rows, and the latter. Raises UsageError."""
    simple = (str, int, float, type(None))
    kept = {
        name: [each if isinstance(each, simple) else str(each) for each in values_of(columns, name)]
        for name in ids
    }
    spare = kept.keys() - {*signature.column_names}
    return {name: values for name, values in columns.items() if name not in spare}, kept


def beside(ids: Columns, answers: Columns) -> Columns:
    """Ids and answers as one table. Raises UsageError for an id that has the name of an answer."""
    for name in ids.keys() & answers.keys():
        raise UsageError(f"--id {name}: the answers have a column of that name; rename yours")
    return ids | answers


def known_columns(
    columns: Columns, signature: Signature, more: Collection[str | None] = ()
) -> Columns:
    """Columns without those that the model does not take, but for those in `more`.

    Such columns may be keys of rows, which differ in any two files.
    """
    if not signature.column_names:
        return columns
    known = {*more, *signature.column_names}
    return {name: values for name, values in columns.items() if name in known}

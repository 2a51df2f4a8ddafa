"""What commands write: tables and reports, in the form that `--format` or the ending of a file names."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from modelkit.cli.rows import STANDARD, Columns
from modelkit.errors import ModelkitError, UsageError, importing
from modelkit.report.html import printable

# The methods of a report that give it in a form.
METHODS = {
    "txt": "__str__",
    "json": "to_json",
    "html": "to_html",
    "xml": "to_junit",
    "csv": "to_csv",
}


def write_rows(args: Namespace, chunks: Iterable[Columns]) -> Iterator[str]:
    """Write a table to the file that `--output` names; gives the lines for the standard output."""
    path, *more = args.output or [STANDARD]
    if more:
        raise UsageError("rows go to one file: pass --output once")
    return _table(chunks, path, _form_of(path, args.format, "csv", TABLES))


def write_report(args: Namespace, report: Any) -> Iterator[str]:
    """Write a report, whose methods give its forms, and its figures as a table."""
    methods = METHODS.items()
    forms = {form: getattr(report, name) for form, name in methods if hasattr(report, name)}
    return write_forms(args, forms, partial(_figures_of, report))


def write_forms(
    args: Namespace,
    forms: Mapping[str, Callable[[], str]],
    table: Callable[[], Columns] | None = None,
) -> Iterator[str]:
    """Write a report to each `--output`, by its ending; gives the lines for the standard output."""
    known = [*forms, *(TABLES if table else ())]
    asked = [(path, _form_of(path, None, "html", known)) for path in args.output]
    for path, form in [*asked, (STANDARD, args.format or "txt")]:
        if form in forms:
            text = forms[form]()
            yield from _lines([printable(text) if path == STANDARD else text], path)
        elif table is not None:
            yield from _table([table()], path, form)


def _form_of(path: str, form: str | None, default: str, known: Collection[str]) -> str:
    """The form that is asked for, or that the ending of a file names, or the default.

    Raises UsageError for one that is not known.
    """
    if form is None:
        ending = PurePath(path.lower().removesuffix(".gz")).suffix[1:]
        form = default if path == STANDARD else ending
    if form not in known:
        raise UsageError(
            f"the output {path!r} has the format {form!r}, and this command writes "
            f"{', '.join(dict.fromkeys(known))}: give the file one of these endings"
        )
    return form


def _figures_of(report: Any) -> Columns:
    """The table of a report: its figures, or of a Verdict its checks."""
    if hasattr(report, "to_dataframe"):
        return {name: values.tolist() for name, values in report.to_dataframe().items()}
    checks = [asdict(check) for check in report.checks]
    return {name: [check[name] for check in checks] for name in checks[0]}


@contextmanager
def _new_file(path: str) -> Iterator[Any]:
    """A file that replaces another one when it is whole, compressed where its name ends in .gz."""
    target = Path(os.path.realpath(path))
    whole = target.is_file() or not target.exists()  # a pipe is written as it is
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp") if whole else target
    opened: Any = gzip.open if path.endswith(".gz") else open
    try:
        with opened(part, "wb") as file:
            yield file
        if whole:
            part.replace(target)
    finally:
        if whole:
            part.unlink(missing_ok=True)


def _lines(lines: Iterable[str], path: str) -> Iterator[str]:
    if path != STANDARD:
        with _new_file(path) as file:
            file.writelines((line.removesuffix("\n") + "\n").encode() for line in lines)
    elif sys.stdout.isatty():
        yield from map(printable, lines)
    else:  # a file gets what the model gave
        yield from lines


def _table(chunks: Iterable[Columns], path: str, form: str) -> Iterator[str]:
    if form != "parquet":
        return _lines(TABLES[form](chunks), path)
    if path == STANDARD and sys.stdout.isatty():
        raise UsageError("a terminal does not show Parquet; write it by --output FILE.parquet")
    with nullcontext(sys.stdout.buffer) if path == STANDARD else _new_file(path) as file:
        _write_parquet(chunks, file)
    return iter(())


def _csv_lines(chunks: Iterable[Columns]) -> Iterator[str]:
    """CSV, with a column for each place of a vector, and a line of names above the first chunk."""
    for number, chunk in enumerate(chunks):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = dict(_flat(chunk))
        if not number:
            writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        yield text.getvalue().removesuffix("\n")


def _flat(chunk: Columns) -> Iterator[tuple[str, Any]]:
    for name, values in chunk.items():
        if getattr(values, "ndim", 1) == 2:
            yield from ((f"{name}_{i}", part.tolist()) for i, part in enumerate(values.T))
        else:
            yield name, values.tolist() if hasattr(values, "tolist") else values


def _json_lines(chunks: Iterable[Columns]) -> Iterator[str]:
    from modelkit._internal.json import to_plain

    for chunk in chunks:
        plain = to_plain(chunk)
        for row in zip(*plain.values(), strict=True):
            yield json.dumps(dict(zip(plain, row, strict=True)), allow_nan=False)


def _json_list(chunks: Iterable[Columns]) -> Iterator[str]:
    """One list of objects, with a line for each."""
    before = "["
    for line in _json_lines(chunks):
        yield before + line
        before = ","
    yield "]"


def _write_parquet(chunks: Iterable[Columns], file: Any) -> None:
    with importing("pyarrow", "writing Parquet", "frames"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    writer = None
    try:
        for chunk in chunks:
            parts = {
                name: list(values) if getattr(values, "ndim", 1) > 1 else values
                for name, values in chunk.items()
            }
            table = pa.table(parts, writer and writer.schema)
            writer = writer or pq.ParquetWriter(file, table.schema)
            writer.write_table(table)
    except pa.ArrowException as error:
        raise ModelkitError(f"these values do not fit into Parquet: {error}") from error
    finally:
        if writer is not None:
            writer.close()


TABLES: dict[str, Any] = {
    "csv": _csv_lines,
    "jsonl": _json_lines,
    "json": _json_list,
    "parquet": None,  # the one that is not made of lines
}

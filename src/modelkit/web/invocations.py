"""The bodies of SageMaker's /invocations: plain JSON, instances, or CSV without a header.

The answer has the form of the request, unless its header Accept names the other one.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import StringIO
from itertools import chain
from math import prod
from types import SimpleNamespace
from typing import Any, TextIO, cast

from modelkit._internal.arrays import Array
from modelkit.signature.cells import parse_record, parsers_of
from modelkit.signature.signature import Signature
from modelkit.web import instances, json, plain
from modelkit.web.instances import AT_ONCE
from modelkit.web.layout import layout_of
from modelkit.web.query import Limits, Query, check_rows
from modelkit.web.replies import JSON, Headers, Refused, Reply
from modelkit.web.request import CSV, Turns

CELLS_AT_ONCE = 1 << 10  # that are parsed at a time: about a millisecond
ANY = (b"", b"*/*")


def read(
    body: bytes | memoryview, headers: Headers, signature: Signature, limits: Limits
) -> Turns[Query]:
    """A request in any of the three forms. Raises Refused, as `plain.read`; 406 for another Accept."""
    data = bytes(body)
    if _type_in(headers.get(b"content-type", b"")) == CSV:
        X = yield from _read_csv(data, signature, limits)
        query, form = Query(X, signature.output_names), "csv"
    else:
        request = json.parse_object(data)
        yield
        if "instances" in request:
            query, form = instances.query_in(request, data, signature, limits), "instances"
        else:
            query, form = plain.query_in(request, data, signature, limits), "predict"
    form = _form_of_answer(headers.get(b"accept", b""), form)
    if form != "predict":
        instances.check_by_rows(query.outputs, signature)
    return query._replace(form=form)


def _type_in(header: bytes) -> bytes:
    """A media type without its parameters."""
    return header.partition(b";")[0].strip().lower()


def _form_of_answer(accept: bytes, form: str) -> str:
    """The first that a client accepts, of those there are; `form` is that of its request."""
    for kind in map(_type_in, accept.split(b",")):
        if kind in ANY:
            return form
        if kind == CSV:
            return "csv"
        if kind == JSON[1]:
            return "instances" if form == "csv" else form
    shown = accept[:80].decode("latin-1")
    raise Refused(406, f"the answer is application/json or text/csv, and Accept is {shown!r}")


def _read_csv(data: bytes, signature: Signature, limits: Limits) -> Turns[list[dict[str, Any]]]:
    """The records of lines without a header. Raises Refused; SignatureError for what does not parse."""
    if not layout_of(signature).has_columns:
        raise Refused(415, "the inputs of this model are no columns, so it takes no CSV: send JSON")
    names = [*signature.column_names]
    parsers = [*parsers_of(signature).values()]
    step = max(1, CELLS_AT_ONCE // len(names))
    records: list[dict[str, Any]] = []
    try:
        lines = csv.reader(StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        for row, cells in enumerate(lines):
            if row == 0 and cells == names and len(names) > 1:
                raise Refused(400, "row 0 has the names of the columns: leave out the header")
            check_rows(row + 1, limits)
            records.append(parse_record(names, cells, parsers, row))
            if row % step == 0:
                yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(400, f"the body is not CSV in UTF-8: {error}") from None
    if not records:
        raise Refused(400, "the body is empty; CSV has a line for each row")
    return records


def write(
    query: Query, answers: Mapping[str, Array], _model_name: str, _version: str
) -> Turns[Reply]:
    """A line for each row: the values of its outputs, in the order of the signature, without a header."""
    outputs = [json.plain_array(answers[name]) for name in query.outputs]
    tables = [values.reshape(len(values), prod(values.shape[1:])) for values in outputs]
    step = max(1, AT_ONCE // max(1, sum(table.shape[1] for table in tables)))
    lines: list[str] = []
    # It quotes a text for the ends of lines in it only if it ends its own by both of their letters.
    writer = csv.writer(cast("TextIO", SimpleNamespace(write=lines.append)))
    for start in range(0, len(tables[0]), step):
        parts = [table[start : start + step] for table in tables]
        writer.writerows(chain.from_iterable(row) for row in zip(*parts, strict=True))
        yield
    text = "".join(line.removesuffix("\r\n") + "\n" for line in lines)
    return Reply(200, [(b"content-type", CSV)], text.encode())

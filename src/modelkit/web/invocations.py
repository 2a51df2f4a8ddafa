"""The bodies of SageMaker's /invocations: plain JSON, instances, or CSV.

The answer has the form of the request, unless its header Accept names the other one.
"""

from __future__ import annotations

import csv
import re
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
QUALITY = re.compile(rb";\s*q=([01](?:\.\d*)?)")


def read(body: bytes, headers: Headers, signature: Signature, limits: Limits) -> Turns[Query]:
    """A request in any of the three forms. Raises Refused, as `plain.read`; 406 for another Accept."""
    content = headers.get(b"content-type", b"").lower()
    if _type_in(content) == CSV:
        X = yield from _read_csv(body, signature, limits, named=b"header=present" in content)
        query, form = Query(X, signature.output_names), "csv"
    else:
        request = json.parse_object(body)
        yield
        if "instances" in request:
            query, form = instances.query_in(request, body, signature, limits), "instances"
        else:
            query, form = plain.query_in(request, body, signature, limits), "predict"
    form = _form_of_answer(headers.get(b"accept", b""), form)
    if form != "predict":
        instances.check_by_rows(query.outputs, signature)
    return query._replace(write=WRITERS[form])


def _type_in(header: bytes) -> bytes:
    """A media type without its parameters."""
    return header.partition(b";")[0].strip().lower()


def _form_of_answer(accept: bytes, form: str) -> str:
    """The form of answer that a client likes best; `form` is the form of its request."""
    accepted = filter(_quality, accept.lower().split(b","))
    for kind in map(_type_in, sorted(accepted, key=_quality, reverse=True)):
        if kind in ANY:
            return form
        if kind in (CSV, b"text/*"):
            return "csv"
        if kind in (JSON[1], b"application/*"):
            return "instances" if form == "csv" else form
    shown = accept[:80].decode("latin-1")
    raise Refused(f"the answer is application/json or text/csv, and Accept is {shown!r}", 406)


def _quality(accepted: bytes) -> float:
    """How much a client likes a type, from 0, for never, to 1."""
    found = QUALITY.search(accepted)
    return 1.0 if found is None else float(found[1])


def _read_csv(
    data: bytes, signature: Signature, limits: Limits, *, named: bool
) -> Turns[list[dict[str, Any]]]:
    """The records of lines, below a line of names where they are `named`.

    Raises Refused; SignatureError for what does not parse.
    """
    if not layout_of(signature).has_columns:
        raise Refused(
            "the inputs of this model are not columns, so it cannot read CSV: send JSON", 415
        )
    names = [*signature.column_names]
    parsers = parsers_of(signature)
    step = max(1, CELLS_AT_ONCE // len(names))
    records: list[dict[str, Any]] = []
    try:
        lines = csv.reader(StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        if named:
            names = next(lines, [])
            if sorted(names) != sorted(parsers):
                raise Refused(f"the header is to name the columns {[*parsers]!s:.300}")
        in_order = [parsers[name] for name in names]
        for row, cells in enumerate(lines):
            if row == 0 and sorted(cells) == sorted(names) and len(names) > 1:
                raise Refused(
                    "row 0 has the names of the columns: leave it out, or say text/csv; header=present"
                )
            check_rows(row + 1, limits)
            records.append(parse_record(names, cells, in_order, row))
            if row % step == 0:
                yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"the body is not CSV in UTF-8: {error}") from None
    if not records:
        raise Refused("the body is empty; CSV has a line for each row")
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
    return Reply(text.encode(), [(b"content-type", CSV)])


WRITERS = {"predict": plain.write, "instances": instances.write, "csv": write}

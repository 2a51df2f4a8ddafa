"""Plain JSON: rows as records, columns or arrays by name, and answers by the names of outputs."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from itertools import chain
from math import nan
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.signature import Signature
from modelkit.web import json
from modelkit.web.layout import Layout, Naming, layout_of, naming_of, read_array, read_values
from modelkit.web.query import (
    Limits,
    Query,
    check_known,
    check_output_names,
    check_rows,
    check_width,
    query_of,
    read_text,
    refuse_values,
)
from modelkit.web.replies import Headers, Refused, Reply
from modelkit.web.request import Turns
from modelkit.web.tensors import nested_array

ALL_FORMS = ("rows", "columns", "inputs")
TENSOR_FORMS = ("inputs",)  # of a model that has inputs without columns
OPTIONS = ("outputs", "timeout", "priority", "key", "id")
SECONDS = 1.0


def read(body: bytes, _headers: Headers, signature: Signature, limits: Limits) -> Turns[Query]:
    """A request: `rows` (records), `columns` or `inputs` (arrays by name), and options.

    Raises:
        Refused: 400 for another request, and one for what there is not; 413 for more rows
            than `limits` allow; 422 for values that their column does not take.
    """
    request = json.parse_object(body)
    yield
    return query_in(request, body, signature, limits)


def read_to_explain(
    body: bytes, headers: Headers, signature: Signature, limits: Limits
) -> Turns[Query]:
    """As `read`, of a request for an explanation, which cannot be of some outputs alone."""
    query = yield from read(body, headers, signature, limits)
    if query.outputs is not signature.output_names:  # as they are where none are named
        raise Refused("an explanation is of the answer as a whole: leave out 'outputs'")
    return query


def query_in(request: dict[str, Any], data: bytes, signature: Signature, limits: Limits) -> Query:
    """What a request asks that was parsed. Raises Refused, as `read`."""
    X, keys = read_rows(request, data, signature, limits)
    json.check_keys(data, len(request) + keys)
    return with_options(X, request, signature)


def read_rows(
    request: dict[str, Any], data: bytes, signature: Signature, limits: Limits
) -> tuple[Any, int]:
    """The rows of a request, and how many keys they have. Raises Refused, as `read`."""
    layout = layout_of(signature)
    form = _form(request, layout)
    values = request[form]
    if form == "rows":
        keys = _check_records(values, layout, limits)
        return _read_records(values, keys, data, layout), keys
    keys = _check_arrays(values, form, layout, limits)
    return _read_arrays(values, data, layout), keys


def with_options(X: Any, options: dict[str, Any], signature: Signature) -> Query:
    """What a request with these rows and options asks. Raises Refused, 400."""
    outputs = _outputs(options, signature) if "outputs" in options else signature.output_names
    query = query_of(X, outputs, options, SECONDS)
    return query._replace(id=read_text(options, "id")) if "id" in options else query


def _form(request: Mapping[str, Any], layout: Layout) -> str:
    """In which form the rows are. Raises Refused, 400."""
    forms = ALL_FORMS if layout.has_columns else TENSOR_FORMS
    only = request.keys() - OPTIONS
    if len(only) == 1 and (form := only.pop()) in forms:
        return form
    given = [name for name in request if name not in OPTIONS]
    _check_outermost(given, layout)
    check_known(given, (*forms, *OPTIONS), "a request to this model")
    several = [form for form in forms if form in given]
    raise Refused(f"a request has one of {[*forms]}, and this has {several or 'none'}")


def _check_outermost(given: list[str], layout: Layout) -> None:
    """Raise Refused, 400, for what is right in another place."""
    if "instances" in given:
        raise Refused("instances are asked for at POST /models/{model}/instances")
    for name in given:
        if name in layout.names and name not in ALL_FORMS:
            form = '{"rows": [{...}]}' if layout.has_columns else '{"inputs": {...}}'
            raise Refused(f"{json.quoted(name)} belongs to a row, and rows come as {form}")


def _outputs(request: Mapping[str, Any], signature: Signature) -> tuple[str, ...]:
    names = request["outputs"]
    if type(names) is not list or not names:
        raise Refused(f"outputs are {json.shown(names)}; they are a list of names")
    if {*map(type, names)} != {str}:
        raise Refused("outputs are a list of names, each a string")
    return check_output_names(names, signature)


# Records.


def _check_records(rows: Any, layout: Layout, limits: Limits) -> int:
    """The number of fields of all records. Raises Refused."""
    if type(rows) is not list:
        raise Refused(f"rows are {json.shown(rows)}; they are a list of records: [{{...}}]")
    check_rows(len(rows), limits)
    kinds = {*map(type, rows)}
    if kinds <= {dict}:
        count = sum(map(len, rows))
        if count > len(rows) * len(layout.names):
            check_width(max(map(len, rows)), layout.names)
        return count
    if kinds <= {str, type(None)} and layout.is_text:
        return 0
    odd = next(row for row, record in enumerate(rows) if type(record) is not dict)
    raise Refused(
        f"row {odd} is {json.shown(rows[odd])}; a row is an object with the columns as fields; rows "
        "that are lists of values are asked for at POST /models/{model}/instances"
    )


def _read_records(rows: list[Any], keys: int, data: bytes, layout: Layout) -> Any:
    if layout.exact and rows:
        block = _records_of_floats(rows, keys, data, layout)
        if block is not None:
            return block
    naming = layout.columns_first
    json.check_integers(data)
    problems: list[str] = []
    if naming.numbers and json.may_hold_booleans(data):
        _find_truths_in_records(rows, naming, problems)
    for name, reader in naming.read.items():
        if all(name in record for record in rows):
            values = read_values([row[name] for row in rows], reader, name, problems)
            for record, value in zip(rows, values, strict=True):
                record[name] = value
    refuse_values(problems)
    return rows


def _find_truths_in_records(
    rows: list[dict[str, Any]], naming: Naming, problems: list[str]
) -> None:
    """As `_find_truths`, for each column: value by value, since records may lack most of them."""
    odd: dict[str, list[tuple[int, Any]]] = {}
    for row, record in enumerate(rows):
        for name, value in record.items():
            if type(value) in (bool, list):
                odd.setdefault(name, []).append((row, value))
    for name in naming.numbers:
        _find_truths(odd.get(name, []), name, problems)


def _find_truths(cells: list[tuple[int, Any]], name: str, problems: list[str]) -> None:
    """Add to `problems` that a column of numbers, or a tensor of them, holds true or false.

    The cells are rows and values, of which those that are neither booleans nor lists may be left
    out.
    """
    for row, value in cells:
        if type(value) in (bool, list) and json.holds_boolean([value]):
            found = json.shown(value) if type(value) is bool else "a boolean"
            problems.append(
                f"{name!r}: {found} in row {row}, where numbers are expected: send 1 or 0"
            )
            return


# Arrays by name.


def _check_arrays(arrays: Any, form: str, layout: Layout, limits: Limits) -> int:
    """The number of names. Raises Refused."""
    if type(arrays) is not dict:
        raise Refused(f"{form} are {json.shown(arrays)}; they are an object of lists by name")
    check_width(len(arrays), layout.names)
    if {*map(type, arrays.values())} == {list} and layout.axes.keys().isdisjoint(arrays):
        check_rows(max(map(len, arrays.values())), limits)
        return len(arrays)
    for name, values in arrays.items():
        if type(values) is dict:
            raise Refused(f"{name!r} is an object in {form}; send a list of values")
        check_rows(_count_rows(values, layout.axes.get(name, 0)), limits)
    return len(arrays)


def _count_rows(values: Any, axis: int | None) -> int:
    """The number of rows of nested lists that have them on an axis."""
    for _ in range(axis or 0):
        values = values[0] if type(values) is list and values else None
    return len(values) if axis is not None and type(values) is list else 0


def _read_arrays(arrays: dict[str, Any], data: bytes, layout: Layout) -> Any:
    if layout.exact and len(arrays) == len(layout.names):
        block = _columns_of_floats(arrays, data, layout)
        if block is not None:
            return block
    json.check_integers(data)
    naming = naming_of(layout, arrays)
    problems: list[str] = []
    if json.may_hold_booleans(data):
        for name in naming.numbers:
            values = arrays.get(name)
            cells = [*enumerate(values)] if type(values) is list else [(0, values)]
            _find_truths(cells, name, problems)
    read = {}
    for name, values in arrays.items():
        read[name] = _read_lists(values, name, naming, problems)
    refuse_values(problems)
    return read


def _read_lists(values: Any, name: str, naming: Naming, problems: list[str]) -> Any:
    """The values of a column as a list, the values of a tensor as an array."""
    spec = naming.tensors.get(name)
    reader = naming.read.get(name)
    if type(values) is list and spec is not None and spec.shape:
        array_of_values = nested_array(values, spec)
        if array_of_values.ndim < len(spec.shape):
            _find_uneven(values, name, problems)
        return read_array(array_of_values, name, naming, problems) if reader else array_of_values
    if reader is None or type(values) is not list:
        return values
    return read_values(values, reader, name, problems)


def _find_uneven(values: list[Any], name: str, problems: list[str]) -> None:
    """Add to `problems` that the rows of a tensor are lists of different lengths."""
    sizes = [len(each) if type(each) is list else None for each in values]
    odd = next((row for row, size in enumerate(sizes) if size != sizes[0]), 0)
    if odd and sizes[odd] is not None and sizes[0] is not None:
        problems.append(
            f"{name!r}: row {odd} has {sizes[odd]} values, and row 0 has {sizes[0]}; all rows of a "
            "tensor are of one size"
        )


# Columns of floats alone, as one array: the most common rows, read the quickest way. Each function
# gives None where the rows need a closer look, which takes values one by one.


def _records_of_floats(
    rows: list[dict[str, Any]], keys: int, data: bytes, layout: Layout
) -> Array | None:
    """Records as one array, (rows, columns)."""
    try:
        items = list(chain.from_iterable(map(layout.pick, rows)))
    except KeyError:
        return None
    if keys != len(items):
        return None
    flat = _exactly(items, data, layout)
    return None if flat is None else flat.reshape(-1, len(layout.names))


def _columns_of_floats(arrays: dict[str, Any], data: bytes, layout: Layout) -> Array | None:
    """All columns as one array, (rows, columns)."""
    try:
        columns = layout.pick(arrays)
        lengths = {*map(len, columns)}
        items = list(chain.from_iterable(columns))
    except (KeyError, TypeError):
        return None
    if len(lengths) > 1 or not items:
        return None
    flat = _exactly(items, data, layout)
    return None if flat is None else flat.reshape(len(columns), -1).T


def _exactly(items: list[Any], data: bytes, layout: Layout) -> Array | None:
    """Values that float64 holds exactly."""
    if json.may_hold_booleans(data) and bool in {*map(type, items)}:
        return None
    flat = _floats(items)
    if flat is None and layout.nullable and None in items:
        flat = _floats([nan if item is None else item for item in items])
    if flat is None:
        return None
    if not np.vdot(flat, flat) < layout.exact**2:
        large = np.flatnonzero(np.abs(flat) >= layout.exact)
        if any(type(items[place]) is not float for place in large):
            return None
        json.check_integers(data)
    return flat


def _floats(items: list[Any]) -> Array | None:
    """Numbers as an array; None where one is not a number, or beyond the range of float64."""
    try:
        return np.frombuffer(array("d", items))
    except (TypeError, OverflowError):
        return None


# Answers.


def write(
    query: Query, answers: Mapping[str, Array], model_name: str, version: str
) -> Turns[Reply]:
    """The outputs by name, as lists. Raises Refused, 406, for an infinity."""
    answer: dict[str, Any] = {"model_name": model_name, "model_version": version}
    if query.id is not None:
        answer["id"] = query.id
    outputs: dict[str, Any] = {}
    for name in query.outputs:
        outputs[name] = yield from json.encode(answers[name])
    answer["outputs"] = outputs
    return Reply(json.dump_finite(answer, query.outputs, answers))


def write_explanation(query: Query, explanation: Any) -> Reply:
    """An Explanation as the record that `Explanation.to_json` makes of it, with the request's id."""
    record: bytes = explanation.to_json().encode()
    if query.id is not None:
        record = b'{"id": %s, %s' % (json.dump(query.id), record[1:])
    return Reply(record)

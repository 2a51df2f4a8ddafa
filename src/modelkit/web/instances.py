"""The JSON of Vertex AI, TF Serving and KServe's protocol V1: instances in, predictions out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from modelkit._internal.arrays import Array
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec
from modelkit.web import json, plain
from modelkit.web.query import Limits, Query, check_known
from modelkit.web.replies import Headers, Refused, Reply
from modelkit.web.request import Turns

FIELDS = ("instances", "parameters")
AT_ONCE = json.LONG // 4  # numbers of objects that are encoded at a time: about a millisecond


def read(body: bytes, _headers: Headers, signature: Signature, limits: Limits) -> Turns[Query]:
    """A request `{"instances": [...], "parameters": {...}}`, of the same options as plain JSON.

    An instance is a record of columns, or their values in order; a text; or the values of one row of
    the input, or an object of these where there are several. Raises Refused, as `plain.read`.
    """
    request = json.parse_object(body)
    yield
    return query_in(request, body, signature, limits)


def query_in(request: dict[str, Any], data: bytes, signature: Signature, limits: Limits) -> Query:
    """What a request asks that was parsed. Raises Refused, as `plain.read`."""
    check_known(request, FIELDS, "a request")
    instances = request.get("instances")
    if type(instances) is not list:
        raise Refused(f"instances are {json.shown(instances)}; they are a list")
    options = request.get("parameters", {})
    if type(options) is not dict:
        raise Refused(f"parameters are {json.shown(options)}; they are an object")
    check_known(options, plain.OPTIONS, "the object of parameters")
    keys = sum(len(instance) for instance in instances if type(instance) is dict)
    try:
        json.check_keys(data, len(request) + len(options) + keys)
        X, _ = plain.read_rows(_rows(instances, signature), data, signature, limits)
        query = plain.with_options(X, options, signature)
    except Refused:
        json.check_integers(data)  # one beyond 64 bits was parsed as a float
        raise
    check_by_rows(query.outputs, signature)
    return query


def check_by_rows(names: Collection[str], signature: Signature) -> None:
    """Raise Refused, 400, for an output that lacks a value of its own for each instance."""
    for spec in signature.outputs:
        if spec.name in names and not has_rows(spec):
            raise Refused(
                f"the output {spec.name!r} does not have one value for each instance: name the outputs that you "
                'want in {"parameters": {"outputs": [...]}}, or ask .../predict'
            )


def has_rows(spec: TensorSpec) -> bool:
    """Whether an output has a value of its own for each instance."""
    return isinstance(next(iter(spec.shape), None), str)


def _rows(instances: list[Any], signature: Signature) -> dict[str, Any]:
    """Instances in one of the forms of plain JSON. Raises Refused."""
    kinds = {*map(type, instances)}
    names = [spec.name for spec in signature.inputs]
    columns = signature.column_names
    if columns and kinds == {list}:
        return {"rows": [_record(row, values, columns) for row, values in enumerate(instances)]}
    if columns:
        return {"rows": instances}
    if kinds == {dict}:
        return {"inputs": {name: _tensor(instances, name) for name in names}}
    if len(names) > 1 or dict in kinds:
        raise Refused(f"each instance of this model is an object with the inputs {names}")
    return {"inputs": {names[0]: instances}}


def _record(row: int, values: list[Any], columns: tuple[str, ...]) -> dict[str, Any]:
    """The values of a row, in the order of the columns, by their names. Raises Refused."""
    if len(values) != len(columns):
        raise Refused(
            f"instance {row} has {len(values)} values, and there are {len(columns)} columns"
        )
    return dict(zip(columns, values, strict=True))


def _tensor(instances: list[dict[str, Any]], name: str) -> list[Any]:
    for row, instance in enumerate(instances):
        if name not in instance:
            raise Refused(f"instance {row} lacks {name!r}")
    return [instance[name] for instance in instances]


def write(
    query: Query, answers: Mapping[str, Array], _model_name: str, _version: str
) -> Turns[Reply]:
    """One prediction for each instance: the output, or an object of outputs where there are several.

    Raises Refused, 406, for an infinity.
    """
    outputs = {name: json.plain_array(answers[name]) for name in query.outputs}
    rows = max(map(len, outputs.values()))
    numbers = sum(values.size for values in outputs.values())
    if len(outputs) == 1:
        (values,) = outputs.values()
        predictions = yield from json.encode(values)
    else:
        step = max(1, AT_ONCE * rows // max(1, numbers))
        predictions = yield from json.encode_rows(partial(_objects, outputs), rows, step)
    body = json.dump_finite({"predictions": predictions}, outputs, answers)
    return Reply(body)


def _objects(outputs: Mapping[str, Array], rows: slice) -> list[dict[str, Any]]:
    """An object of outputs for each of some rows."""
    columns = [_by_row(values[rows]) for values in outputs.values()]
    return [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]


def _by_row(values: Array) -> list[Any]:
    """What each row of an output has, as `json.dump` takes it."""
    is_short = values.dtype.kind == "f" and values.itemsize < 8  # and so has fewer digits
    return [*json.dumpable(values)] if is_short else values.tolist()

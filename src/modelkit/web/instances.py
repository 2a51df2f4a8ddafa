"""The JSON of Vertex AI, TF Serving and KServe's protocol V1: instances in, predictions out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from modelkit._internal.arrays import Array
from modelkit.signature.signature import Signature
from modelkit.web import json, plain
from modelkit.web.answers import Steps
from modelkit.web.instance_schema import has_rows
from modelkit.web.options import check_known, check_type
from modelkit.web.query import Limits, Query
from modelkit.web.reply import JSON, Headers, Refused, Reply

FIELDS = ("instances", "parameters")
AT_ONCE = json.LONG // 4  # numbers that are written, read and written again: about a millisecond
BEGIN, END = b'{"predictions":[', b"]}"


def read(body: bytes | memoryview, headers: Headers, signature: Signature, limits: Limits) -> Query:
    """A request `{"instances": [...], "parameters": {...}}`, of the same options as plain JSON.

    An instance is a record of columns, or their values in order; a text; or the values of one row of
    the input, or an object of these where there are several. Raises Refused, as `plain.read`.
    """
    check_type(headers)
    data = bytes(body)
    request = json.parse_object(data)
    check_known(request, FIELDS, "a request")
    instances = request.get("instances")
    if type(instances) is not list:
        raise Refused(400, f"instances are {json.shown(instances)}; they are a list")
    options = request.get("parameters", {})
    if type(options) is not dict:
        raise Refused(400, f"parameters are {json.shown(options)}; they are an object")
    check_known(options, plain.OPTIONS, "the object of parameters")
    records = [instance for instance in instances if type(instance) is dict]
    json.check_integers(data)
    json.check_keys(data, len(request) + len(options) + sum(map(len, records)))
    asked = {**options, **_rows(instances, signature)}
    query = plain.read(json.dump(asked), {}, signature, limits)
    _check_by_rows(query.outputs, signature)
    return query


def _check_by_rows(names: Collection[str], signature: Signature) -> None:
    """Raise Refused, 400, for an output that has no value of its own for each instance."""
    for spec in signature.outputs:
        if spec.name in names and not has_rows(spec):
            raise Refused(
                400,
                f"the output {spec.name!r} has no value for each instance: name the outputs that you "
                'want in {"parameters": {"outputs": [...]}}, or ask .../predict',
            )


def _rows(instances: list[Any], signature: Signature) -> dict[str, Any]:
    """Instances in one of the forms of plain JSON. Raises Refused."""
    kinds = {*map(type, instances)}
    names = [spec.name for spec in signature.inputs]
    columns = [column.name for spec in signature.inputs for column in spec.columns]
    if columns and kinds == {list}:
        return {"rows": [_record(row, values, columns) for row, values in enumerate(instances)]}
    if columns:
        return {"rows": instances}
    if kinds == {dict}:
        return {"inputs": {name: _tensor(instances, name) for name in names}}
    if len(names) > 1 or dict in kinds:
        raise Refused(400, f"each instance of this model is an object with the inputs {names}")
    return {"inputs": {names[0]: instances}}


def _record(row: int, values: list[Any], columns: list[str]) -> dict[str, Any]:
    """The values of a row, in the order of the columns, by their names. Raises Refused."""
    if len(values) != len(columns):
        raise Refused(
            400, f"instance {row} has {len(values)} values, and there are {len(columns)} columns"
        )
    return dict(zip(columns, values, strict=True))


def _tensor(instances: list[dict[str, Any]], name: str) -> list[Any]:
    for row, instance in enumerate(instances):
        if name not in instance:
            raise Refused(400, f"instance {row} has no {name!r}")
    return [instance[name] for instance in instances]


def write(query: Query, answers: Mapping[str, Array], model_name: str, version: str) -> Reply:
    """One prediction for each instance: the output, or an object of outputs where there are several.

    Raises Refused, 406, for an infinity.
    """
    return _predictions(plain.write(query, answers, model_name, version))


def write_in_steps(
    query: Query, answers: Mapping[str, Array], model_name: str, version: str
) -> Steps:
    """The answer as of `write`, in steps of some rows, so that others have a turn between."""
    rows = max(len(answers[name]) for name in query.outputs)
    numbers = sum(answers[name].size for name in query.outputs)
    step = max(1, AT_ONCE * rows // max(1, numbers))
    parts = []
    for start in range(0, rows, step):
        some = {name: answers[name][start : start + step] for name in query.outputs}
        body = write(query, some, model_name, version).body
        parts.append(body.removeprefix(BEGIN).removesuffix(END))
        yield
    return Reply(200, [JSON], BEGIN + b",".join(parts) + END)


def _predictions(reply: Reply) -> Reply:
    outputs = json.parse_object(reply.body)["outputs"]
    rows = zip(*outputs.values(), strict=True)
    if len(outputs) == 1:
        predictions = [value for (value,) in rows]
    else:
        predictions = [dict(zip(outputs, values, strict=True)) for values in rows]
    return Reply(reply.status, reply.headers, json.dump({"predictions": predictions}))

"""The OpenAPI document of an App: what its models take and give, as their signatures say it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.model.model import Model
from modelkit.model.wrapper import layer_of
from modelkit.signature.schema import Schema
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec
from modelkit.web import plain
from modelkit.web.examples import instances_example, plain_example, v2_example
from modelkit.web.outcomes import COUNTED, EXAMPLE, REQUEST
from modelkit.web.tensors import DATATYPES, datatype_of

VERSION = "3.1.0"
ERRORS = {
    "400": "What came is not a request, or asks for what there is not",
    "401": "No credentials, or wrong ones",
    "403": "Who asks may not",
    "404": "No such model, version or path",
    "405": "The path does not take this method",
    "406": "The answer holds what the format asked for cannot say",
    "409": "No rollout is under way that takes losses; where one has just begun, come back",
    "413": "The body, or the number of rows, is too large",
    "415": "The content is of another type or encoding",
    "422": "The rows do not fit the model; `problems` says everything that is wrong",
    "429": "Too many requests; come back after Retry-After seconds",
    "500": "A failure of the server",
    "501": "The server lacks a library that this needs",
    "503": "Not ready, or closing; come back after Retry-After seconds",
    "504": "The deadline passed before the answer came",
}
HEADERS = {"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After", "503": "Retry-After"}
OF_OUTCOMES = "409"
OF_ASKING = tuple(status for status in ERRORS if status != OF_OUTCOMES)
LOOKED_AT = ("401", "403", "404", "405", "500", "503")
TEXT: Schema = {"type": "string"}
TRUTH: Schema = {"type": "boolean"}
LIST: Schema = {"type": "array", "items": {}}
MAYBE_OBJECT = ["object", "null"]


def document(models: Mapping[str, Model], root: str = "") -> dict[str, Any]:
    """The OpenAPI 3.1 document of these models by name, mounted at the path `root`."""
    paths = {
        "/v2": _looking("server", "The server", _fields(name=TEXT, version=TEXT)),
        "/v2/health/live": _looking("live", "Whether the server answers", _fields(live=TRUTH)),
        "/v2/health/ready": _looking("ready", "Whether models answer", _fields(ready=TRUTH)),
        "/v2/models": _looking("models", "The models", {"type": "object"}),
    }
    for name, place in zip(models, _places(models), strict=True):
        paths |= _paths_of(name, models[name], place)
    return {
        "openapi": VERSION,
        "info": {"title": ", ".join(models) or "no models", "version": _versions(models)},
        "servers": [{"url": quote(root) or "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Error": _error()},
            "responses": {status: _refusal(status) for status in ERRORS},
        },
    }


def _places(models: Iterable[str]) -> list[str]:
    """What the operations of each model begin with: its name, or else its number."""
    names = [re.sub("[^0-9A-Za-z]+", "_", name).strip("_") for name in models]
    if len({*names, ""}) == len(names) + 1:
        return names
    return [f"model{at}" for at in range(len(names))]


def _versions(models: Mapping[str, Model]) -> str:
    versions = [model.version or "-" for model in models.values()]
    return ", ".join(versions) or "-"


def _paths_of(name: str, model: Model, place: str) -> dict[str, Any]:
    """The paths of one model, those of its version too."""
    signature = model.signature
    part = quote(name, safe="")
    roots = {f"/v2/models/{part}": place}
    version = model.version
    if version:
        roots[f"/v2/models/{part}/versions/{quote(version, safe='')}"] = f"{place}_version"
    paths: dict[str, Any] = {}
    for root, called in roots.items():
        about = f"{name}: {signature}"
        paths[root] = _looking(f"{called}_about", about, {"type": "object"})
        paths[f"{root}/ready"] = _looking(
            f"{called}_ready", f"Whether {name} answers", _fields(name=TEXT, ready=TRUTH)
        )
        paths[f"{root}/infer"] = _asking(
            f"{called}_infer",
            f"Answers of {name} in the Open Inference Protocol",
            _v2_request(signature),
            v2_example(signature),
            _v2_answer(signature),
        )
    request = _plain_request(signature)
    example = plain_example(signature)
    paths[f"/models/{part}/predict"] = _asking(
        f"{place}_predict", f"Answers of {name}", request, example, _plain_answer(signature)
    )
    paths[f"/models/{part}/instances"] = _asking(
        f"{place}_instances",
        f"Predictions of {name} in the form of Vertex AI and TF Serving",
        _instances_request(request, signature),
        instances_example(example, signature),
        _fields(predictions=LIST),
    )
    known = dict(request["properties"])
    del known["outputs"]  # it is the answer as a whole that is explained
    paths[f"/models/{part}/explain"] = _asking(
        f"{place}_explain",
        f"Why {name} answers so",
        {**request, "properties": known},
        example,
        _explanation(),
    )
    if layer_of(model, Rollout) is not None:
        summary = f"How far off answers of {name} were, when that is known"
        outcome = _asking(f"{place}_outcome", summary, REQUEST, EXAMPLE, COUNTED)
        outcome["post"]["responses"] |= _refusals((OF_OUTCOMES,))
        paths[f"/models/{part}/outcome"] = outcome
    return paths


# Operations.


def _looking(called: str, summary: str, schema: Schema) -> dict[str, Any]:
    responses = {"200": _content("What there is", schema)} | _refusals(LOOKED_AT)
    if called == "ready" or called.endswith("_ready"):
        responses["503"] = _content("Not ready", {"type": "object"})
    return {"get": {"operationId": called, "summary": summary, "responses": responses}}


def _asking(
    called: str, summary: str, request: Schema, example: Any, answer: Schema
) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": request}
    if example is not None:
        content["example"] = example
    answered = _content("The answer", answer)
    if called.endswith("_infer"):
        answered["content"]["application/octet-stream"] = {}
    return {
        "post": {
            "operationId": called,
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {"200": answered} | _refusals(OF_ASKING),
        }
    }


def _content(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusals(statuses: Iterable[str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _refusal(status: str) -> dict[str, Any]:
    response = _content(ERRORS[status], {"$ref": "#/components/schemas/Error"})
    if status in HEADERS:
        response["headers"] = {HEADERS[status]: {"schema": TEXT}}
    return response


# Schemas.


def _fields(**properties: Schema) -> Schema:
    """An object that has these fields, and maybe others."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _error() -> Schema:
    schema = _fields(error=TEXT)
    schema["properties"]["problems"] = {"type": "array", "items": TEXT}
    return schema


def _options(unit: Schema) -> dict[str, Schema]:
    """What a request may have beside its rows, but for its outputs."""
    return {
        "timeout": {"exclusiveMinimum": 0} | unit,
        "priority": {"enum": [0, -1], "description": "-1 for work that may wait"},
        "key": TEXT | {"description": "what a rollout routes by"},
    }


def _v2_request(signature: Signature) -> Schema:
    unit: Schema = {"type": "number", "description": "microseconds"}
    known = _options(unit) | {"binary_data_output": TRUTH}
    parameters: Schema = {"type": MAYBE_OBJECT, "properties": known}
    named = _fields(name={"enum": list(signature.output_names)})
    named["properties"]["parameters"] = {"type": MAYBE_OBJECT, "properties": {"binary_data": TRUTH}}
    tensors: list[Schema] = []
    for spec in signature.inputs:
        tensors.append(_tensor(spec, "data"))
        tensors += [_column_tensor(column.name, spec, at) for at, column in enumerate(spec.columns)]
    schema = _fields(inputs={"type": "array", "minItems": 1, "items": {"anyOf": tensors}})
    schema["properties"] |= {
        "id": {"type": ["string", "null"]},
        "parameters": parameters,
        "outputs": {"type": ["array", "null"], "items": named},
    }
    return schema


def _tensor(spec: TensorSpec, *data: str) -> Schema:
    """A tensor of the protocol, in JSON."""
    nullable = any(column.nullable for column in spec.columns) or not (spec.columns or spec.finite)
    return _described(spec.name, spec, spec.shape, nullable=nullable, needed=data)


def _column_tensor(name: str, spec: TensorSpec, at: int) -> Schema:
    """A column as a tensor of its own."""
    nullable = spec.columns[at].nullable
    return _described(name, spec, ("n", 1), nullable=nullable, needed=("data",))


def _described(
    name: str,
    spec: TensorSpec,
    sizes: tuple[int | str, ...],
    *,
    nullable: bool,
    needed: Iterable[str],
) -> Schema:
    datatype = datatype_of(spec.dtype)
    takes_flat = bool(spec.columns) and sizes[1:] == (1,)  # a column may have one dimension
    shape = {
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "minItems": len(sizes) - takes_flat,
        "maxItems": len(sizes),
        "description": ", ".join(map(str, sizes)),
    }
    schema = _fields(name={"const": name}, datatype={"const": datatype}, shape=shape)
    schema["properties"]["data"] = {"type": "array", "items": _item(datatype, nullable=nullable)}
    schema["required"] += needed
    return schema


def _item(datatype: str, *, nullable: bool) -> Schema:
    """The schema of one value of a tensor."""
    dtype = DATATYPES.get(datatype)
    schema: Schema = {"type": "string"}
    if dtype is not None:
        if dtype.kind == "b":
            return {"type": "boolean"}
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}
        schema = {"type": "number"}
        if dtype.itemsize < 8:  # a number of JSON may be beyond the float
            most = float(np.finfo(dtype).max)
            schema |= {"minimum": -most, "maximum": most}
    if nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


def _v2_answer(signature: Signature) -> Schema:
    tensors = [_tensor(spec) for spec in signature.outputs]
    schema = _fields(
        model_name=TEXT, outputs={"type": "array", "items": {"anyOf": [*map(_answered, tensors)]}}
    )
    schema["properties"] |= {"model_version": TEXT, "id": TEXT}
    return schema


def _answered(tensor: Schema) -> Schema:
    """The schema of an output; of one that is sent as bytes, `parameters` say how many."""
    tensor["properties"]["parameters"] = {"type": "object"}
    return tensor


def _plain_request(signature: Signature) -> Schema:
    schema = signature.json_schema()
    schema.pop("$schema")
    if schema["type"] == "object":
        for spec in signature.inputs:
            if not (spec.columns or spec.finite):
                _allow_null(schema["properties"][spec.name])
        forms = {"inputs": schema}
    else:
        tensors: Schema = {"type": "object", "description": "lists of rows by the names of inputs"}
        forms = {"rows": schema, "columns": _by_column(schema["items"]), "inputs": tensors}
        if len(schema["items"]["properties"]) == 1:
            forms["rows"] = _with_texts(schema)
    outputs = {"type": "array", "items": {"enum": list(signature.output_names)}, "minItems": 1}
    unit: Schema = {"type": "number", "description": "seconds"}
    options = {"outputs": outputs | {"uniqueItems": True}, **_options(unit), "id": TEXT}
    return {
        "type": "object",
        "properties": forms | options,
        "oneOf": [{"required": [form]} for form in forms],
        "additionalProperties": False,
    }


def _allow_null(values: Schema) -> None:
    """Let the numbers or texts of nested lists be missing."""
    while values.get("type") == "array":
        values = values["items"]
    if values.get("type") in ("number", "string"):
        values["type"] = [values["type"], "null"]


def _by_column(row: Schema) -> Schema:
    """The schema of columns from that of a row."""
    columns = {}
    for name, value in row["properties"].items():
        columns[name] = {"type": "array", "items": value}
    return row | {"properties": columns}


def _with_texts(rows: Schema) -> Schema:
    """The schema of rows of one column; texts of it need no name."""
    (value,) = rows["items"]["properties"].values()
    if "string" not in value.get("type", ()):
        return rows
    return rows | {"items": {"anyOf": [rows["items"], value]}}


def _instances_request(request: Schema, signature: Signature) -> Schema:
    """The schema of `{"instances": [...]}`, where `request` is that of plain JSON."""
    known = request["properties"]
    parameters = {
        "type": "object",
        "properties": {name: known[name] for name in plain.OPTIONS},
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"instances": _instances(known, signature), "parameters": parameters},
        "required": ["instances"],
        "additionalProperties": False,
    }


def _instances(known: Schema, signature: Signature) -> Schema:
    """The schema of the list."""
    if "rows" in known:
        columns = known["columns"]["properties"]
        names = signature.column_names
        values = [columns[name]["items"] for name in names]
        size = len(names)
        row = {"type": "array", "prefixItems": values, "minItems": size, "maxItems": size}
        return {"anyOf": [known["rows"], {"type": "array", "items": row}]}
    tensors = known["inputs"]["properties"]
    if len(signature.inputs) == 1:
        only: Schema = tensors[signature.inputs[0].name]
        return only
    return {"type": "array", "items": {"type": "object"}}


def _plain_answer(signature: Signature) -> Schema:
    outputs: dict[str, Schema] = {}
    for spec in signature.outputs:
        item = _item(datatype_of(spec.dtype), nullable=True)
        for _ in spec.shape:
            item = {"type": "array", "items": item}
        outputs[spec.name] = item
    schema = _fields(model_name=TEXT, model_version=TEXT, outputs={"type": "object"})
    schema["properties"]["outputs"]["properties"] = outputs
    schema["properties"]["id"] = TEXT
    return schema


def _explanation() -> Schema:
    return _fields(
        values=LIST,
        base_values=LIST,
        data=LIST,
        feature_names=LIST,
        output_names=LIST,
        output_space=TEXT,
        method=TEXT,
        exact=TRUTH,
    )

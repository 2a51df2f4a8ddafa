"""The OpenAPI document of an App: what its models take and give, as their signatures say it.

`openapi.json` has what is the same for every model. It has a hole, such as `<name>`, wherever a model
has something of its own, and a field whose hole is None is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.model.model import Model
from modelkit.model.wrapper import layer_of
from modelkit.signature.schema import Schema
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec
from modelkit.web.examples import instances_example, plain_example, v2_example
from modelkit.web.routes import TEXTS
from modelkit.web.tensors import datatype_of
from modelkit.web.texts import text_models

HOLE = re.compile("<([a-z0-9_]+)>")
NULLABLE = ("number", "string")


def document(models: Mapping[str, Model], root: str = "") -> dict[str, Any]:
    """The OpenAPI 3.1 document of these models by name, mounted at the path `root`."""
    versions = [model.version or "-" for model in models.values()]
    about = {
        "title": ", ".join(models) or "no models",
        "versions": ", ".join(versions) or "-",
        "root": quote(root) or "/",
    }
    filled: dict[str, Any] = _fill(_template()["document"], about)
    for name, operation in zip(models, _operations(models), strict=True):
        filled["paths"] |= _paths_of(name, models[name], operation, alone=len(models) == 1)
    for verb in TEXTS:
        names = text_models(models, verb)
        if names:
            holes = {"ids": names, "names": [*names, None], "first": names[0]}
            filled["paths"] |= _fill(_template()[verb], holes)
    return filled


@cache
def _template() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("openapi.json").read_text("utf-8")
    template: dict[str, Any] = json.loads(text)
    return template


def _operations(models: Iterable[str]) -> list[str]:
    """What the operations of each model begin with: its name, or else its number."""
    names = [re.sub("[^0-9A-Za-z]+", "_", name).strip("_") for name in models]
    if len({*names, ""}) == len(names) + 1:
        return names
    return [f"model{at}" for at in range(len(names))]


def _paths_of(name: str, model: Model, operation: str, *, alone: bool) -> dict[str, Any]:
    """The paths of one model and of its version, and SageMaker's paths where it is alone."""
    template = _template()
    signature = model.signature
    part = quote(name, safe="")
    holes = {
        "name": name,
        "part": part,
        "path": f"/v2/models/{part}",
        "operation": operation,
        "signature": signature,
    }
    holes |= _schemas(signature)
    paths: dict[str, Any] = _fill(template["v2"], holes)
    if model.version:
        path = f"/v2/models/{part}/versions/{quote(model.version, safe='')}"
        versioned = {"path": path, "operation": f"{operation}_version"}
        paths |= _fill(template["v2"], holes | versioned)
    paths |= _fill(template["model"], holes)
    if alone:
        paths |= _fill(template["only"], holes)
    if layer_of(model, Rollout) is not None:
        paths |= _fill(template["rollout"], holes)
    return paths


def _fill(template: Any, holes: Mapping[str, Any]) -> Any:
    """A part of the template with its holes filled: a text that is one hole becomes its value."""
    if isinstance(template, dict):
        fields = {_fill(key, holes): _fill(value, holes) for key, value in template.items()}
        return {key: value for key, value in fields.items() if value is not None}
    if isinstance(template, list):
        return [_fill(value, holes) for value in template]
    if not isinstance(template, str):
        return template
    whole = HOLE.fullmatch(template)
    if whole is not None:
        return holes[whole[1]]
    return HOLE.sub(lambda hole: str(holes[hole[1]]), template)


def _schemas(signature: Signature) -> dict[str, Any]:
    """What a signature fills in."""
    output_names = list(signature.output_names)
    options = _fill(_template()["options"], {"output_names": output_names})
    forms = _forms(signature)
    known = forms | options
    example = plain_example(signature)
    return {
        "output_names": output_names,
        "tensors": _inputs(signature),
        "answered": [_output(spec) for spec in signature.outputs],
        "v2_example": v2_example(signature),
        "options": options,
        "forms": [{"required": [form]} for form in forms],
        "predicted": known,
        "explained": {field: known[field] for field in known if field != "outputs"},
        "example": example,
        "outputs": {spec.name: _nested(spec) for spec in signature.outputs},
        "instances": _instances(forms, signature),
        "instances_example": instances_example(example, signature),
    }


# Tensors of the Open Inference Protocol.


def _inputs(signature: Signature) -> list[Schema]:
    """The schemas of all inputs, and of each column as a tensor of its own."""
    tensors: list[Schema] = []
    for spec in signature.inputs:
        tensors.append(_tensor(spec.name, spec, spec.shape, nullable=_takes_null(spec)))
        tensors += [
            _tensor(column.name, spec, ("n", 1), nullable=column.nullable)
            for column in spec.columns
        ]
    for tensor in tensors:
        tensor["required"].append("data")
    return tensors


def _output(spec: TensorSpec) -> Schema:
    """The schema of an output; of one that is sent as bytes, `parameters` say how many."""
    tensor = _tensor(spec.name, spec, spec.shape, nullable=_takes_null(spec))
    tensor["properties"]["parameters"] = {"type": "object"}
    return tensor


def _takes_null(spec: TensorSpec) -> bool:
    return any(column.nullable for column in spec.columns) or not (spec.columns or spec.finite)


def _tensor(name: str, spec: TensorSpec, sizes: tuple[int | str, ...], *, nullable: bool) -> Schema:
    takes_flat = bool(spec.columns) and sizes[1:] == (1,)  # a column may have one dimension
    holes = {
        "name": name,
        "datatype": datatype_of(spec.dtype),
        "least": len(sizes) - takes_flat,
        "most": len(sizes),
        "sizes": ", ".join(map(str, sizes)),
        "item": _value(spec, nullable=nullable),
    }
    tensor: Schema = _fill(_template()["tensor"], holes)
    return tensor


def _value(spec: TensorSpec, *, nullable: bool) -> Schema:
    """The schema of one value of a tensor."""
    schema: Schema = _template()["values"][datatype_of(spec.dtype)]
    kind = schema["type"]
    return schema | {"type": [kind, "null"]} if nullable and kind in NULLABLE else schema


# Plain JSON.


def _forms(signature: Signature) -> dict[str, Schema]:
    """The schemas of the rows, by the forms that they may have."""
    schema = signature.json_schema()
    schema.pop("$schema")
    if schema["type"] == "object":
        for spec in signature.inputs:
            if not (spec.columns or spec.finite):
                _allow_null(schema["properties"][spec.name])
        return {"inputs": schema}
    row = schema["items"]
    columns = {name: {"type": "array", "items": one} for name, one in row["properties"].items()}
    if len(columns) == 1:
        (value,) = row["properties"].values()
        if "string" in value.get("type", ()):  # texts of an only column need no name
            schema = schema | {"items": {"anyOf": [row, value]}}
    tensors: Schema = {"type": "object", "description": "lists of rows by the names of inputs"}
    return {"rows": schema, "columns": row | {"properties": columns}, "inputs": tensors}


def _allow_null(values: Schema) -> None:
    """Let the numbers or texts of nested lists be missing."""
    while values.get("type") == "array":
        values = values["items"]
    if values.get("type") in NULLABLE:
        values["type"] = [values["type"], "null"]


def _instances(forms: Mapping[str, Schema], signature: Signature) -> Schema:
    """The schema of a list of instances, from the schemas of plain JSON."""
    if "rows" in forms:
        columns = forms["columns"]["properties"]
        names = signature.column_names
        values = [columns[name]["items"] for name in names]
        size = len(names)
        row = {"type": "array", "prefixItems": values, "minItems": size, "maxItems": size}
        return {"anyOf": [forms["rows"], {"type": "array", "items": row}]}
    if len(signature.inputs) == 1:
        only: Schema = forms["inputs"]["properties"][signature.inputs[0].name]
        return only
    return {"type": "array", "items": {"type": "object"}}


def _nested(spec: TensorSpec) -> Schema:
    """The schema of an output, as lists within lists."""
    item = _value(spec, nullable=True)
    for _ in spec.shape:
        item = {"type": "array", "items": item}
    return item

"""What the OpenAPI document says of instances, from what it says of plain JSON."""

from __future__ import annotations

from typing import Any

from modelkit.signature.schema import Schema
from modelkit.signature.signature import Signature
from modelkit.signature.spec import TensorSpec
from modelkit.web import plain

PREDICTIONS: Schema = {
    "type": "object",
    "properties": {"predictions": {"type": "array", "items": {}}},
    "required": ["predictions"],
}


def instances_request(request: Schema, signature: Signature) -> Schema:
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
        names = [column.name for spec in signature.inputs for column in spec.columns]
        values = [columns[name]["items"] for name in names]
        size = len(names)
        row = {"type": "array", "prefixItems": values, "minItems": size, "maxItems": size}
        return {"anyOf": [known["rows"], {"type": "array", "items": row}]}
    tensors = known["inputs"]["properties"]
    if len(signature.inputs) == 1:
        only: Schema = tensors[signature.inputs[0].name]
        return only
    return {"type": "array", "items": {"type": "object"}}


def instances_example(example: Any, signature: Signature) -> Any:
    """A request with instances, from one in plain JSON; None where there is none, or it would differ."""
    by_rows = [spec.name for spec in signature.outputs if has_rows(spec)]
    if example is None or not by_rows:
        return None
    asked: dict[str, Any] = {}
    if len(by_rows) < len(signature.outputs):
        asked["parameters"] = {"outputs": by_rows}
    if "rows" in example:
        return {"instances": example["rows"], **asked}
    tensors = [*example["inputs"].values()]
    return {"instances": tensors[0], **asked} if len(tensors) == 1 else None


def has_rows(spec: TensorSpec) -> bool:
    """Whether an output has a value of its own for each instance."""
    return isinstance(next(iter(spec.shape), None), str)

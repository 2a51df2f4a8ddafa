"""One row that a signature accepts, as the requests of the documentation have it."""

from __future__ import annotations

import json
from math import prod
from typing import Any

from modelkit.signature.signature import Signature
from modelkit.signature.spec import MIXED, ZONE, Column, TensorSpec, numpy_dtype
from modelkit.web.instances import has_rows
from modelkit.web.tensors import datatype_of

MOST_VALUES = 1000  # of an example that is still read
FREE = 2  # the size of an open dimension that counts no rows
WORDS = {"O": "text", "m": 60.0, "b": True, "i": 1, "u": 1, "f": 0.5}


def plain_example(signature: Signature) -> Any:
    """A request in plain JSON; None where it would be long."""
    if _size_of(signature) > MOST_VALUES:
        return None
    if all(spec.columns for spec in signature.inputs):
        columns = [(column, spec) for spec in signature.inputs for column in spec.columns]
        return {"rows": [{column.name: _value(column, spec) for column, spec in columns}]}
    inputs: dict[str, Any] = {}
    for spec in signature.inputs:
        inputs |= {column.name: [_value(column, spec)] for column in spec.columns}
        if not spec.columns:
            inputs[spec.name] = _nested(spec, signature)
    return {"inputs": inputs}


def v2_example(signature: Signature) -> Any:
    """A request of the Open Inference Protocol; None where it would be long."""
    if _size_of(signature) > MOST_VALUES:
        return None
    return {"inputs": [_tensor(spec, signature) for spec in signature.inputs]}


def instances_example(example: Any, signature: Signature) -> Any:
    """A request with instances, from one in plain JSON; None where there is none, or it would differ."""
    by_rows = [spec.name for spec in signature.outputs if has_rows(spec)]
    if example is None or not by_rows:
        return None
    parameters: dict[str, Any] = {}
    if len(by_rows) < len(signature.outputs):
        parameters["parameters"] = {"outputs": by_rows}
    if "rows" in example:
        return {"instances": example["rows"], **parameters}
    tensors = [*example["inputs"].values()]
    return {"instances": tensors[0], **parameters} if len(tensors) == 1 else None


def _tensor(spec: TensorSpec, signature: Signature) -> dict[str, Any]:
    datatype = datatype_of(spec.dtype)
    shape = _shape(spec, signature)
    columns = spec.columns or (Column(spec.name, spec.dtype),)
    values = [_value(column, spec) for column in columns]
    if datatype.startswith("FP"):  # where truths are numbers
        values = list(map(float, values))
    for at, column in enumerate(columns):
        if column.dtype == MIXED:
            values[at] = json.dumps(values[at])
    data = values * (prod(shape) // len(values))
    return {"name": spec.name, "datatype": datatype, "shape": shape, "data": data}


def _size_of(signature: Signature) -> int:
    return sum(prod(_shape(spec, signature)) for spec in signature.inputs)


def _shape(spec: TensorSpec, signature: Signature) -> list[int]:
    free = {signature.row_dim: 1}
    return [size if isinstance(size, int) else free.get(size, FREE) for size in spec.shape]


def _nested(spec: TensorSpec, signature: Signature) -> Any:
    values = _value(Column(spec.name, spec.dtype), spec)
    for size in reversed(_shape(spec, signature)):
        values = [values] * size
    return values


def _value(column: Column, spec: TensorSpec) -> Any:
    """A value of a column in JSON."""
    if column.categories:
        known = column.categories[0]
        return bool(known) if column.dtype == "bool" else known
    kind = numpy_dtype(spec.dtype).kind
    if kind == "M":
        return "2026-01-31T12:30:00" + ("+00:00" if ZONE in spec.dtype else "")
    if kind == "f":  # as it was in training, where integers and truths became floats
        kind = numpy_dtype(column.dtype).kind
    return WORDS[kind]

"""The JSON Schema of a request: the rows of a model as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from modelkit.signature.spec import MIXED, ZONE, Column, TensorSpec, numpy_dtype

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def request_schema(
    inputs: Iterable[TensorSpec], ignored: Iterable[str], *, takes_extra: bool
) -> Schema:
    """The schema of a batch: a list of records where all inputs have columns, else arrays by name."""
    specs = list(inputs)
    if not all(spec.columns for spec in specs):
        tensors: Schema = {}
        for spec in specs:
            tensors |= _arrays(spec)
        return {"$schema": DIALECT, **_object(tensors, tensors, takes_extra=takes_extra)}
    columns: Schema = {}
    for spec in specs:
        for column in spec.columns:
            columns[column.name] = _value(column, spec)
    unread = {name: {"description": "not read"} for name in ignored}
    row = _object(columns | unread, columns, takes_extra=takes_extra)
    return {"$schema": DIALECT, "type": "array", "items": row}


def _object(properties: Schema, required: Iterable[str], *, takes_extra: bool) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": takes_extra,
    }


def _arrays(spec: TensorSpec) -> Schema:
    """The arrays of an input by name: one of its columns each, or one of as many levels as it has."""
    if spec.columns:
        return {
            column.name: {"type": "array", "items": _value(column, spec)} for column in spec.columns
        }
    schema = _value(Column(spec.name, spec.dtype), spec)
    for size in reversed(spec.shape):
        schema = {"type": "array", "items": schema}
        if isinstance(size, int):
            schema |= {"minItems": size, "maxItems": size}
    return {spec.name: schema}


def _value(column: Column, spec: TensorSpec) -> Schema:
    """The schema of one value of a column."""
    target = numpy_dtype(spec.dtype)
    kinds = _types(column, target)
    nulls: list[Any] = [None] if column.nullable else []
    if column.categories is not None:
        known: list[Any] = list(column.categories)
        if column.dtype == "bool":  # whose categories stand as 0 and 1
            known += [bool(value) for value in known]
        return {"enum": known + nulls}
    schema: Schema = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if nulls:
        schema["type"] = [*kinds, "null"]
    if target.kind in "iu":
        info = np.iinfo(target)
        schema |= {"minimum": int(info.min), "maximum": int(info.max)}
    if ZONE in spec.dtype:
        schema["format"] = "date-time"
    elif target.kind == "M":
        schema["description"] = "ISO 8601, without a time zone"
    if target.kind == "m":
        schema["description"] = "seconds"
    return schema


def _types(column: Column, target: np.dtype[Any]) -> list[str]:
    """The types of JSON that a column takes."""
    if column.dtype == MIXED:
        return ["string", "number", "boolean"]
    if target.kind in "OM":
        return ["string"]
    if target.kind == "b":
        return ["boolean"]
    if target.kind in "iu":
        return ["integer"]
    return ["boolean", "number"] if column.dtype == "bool" else ["number"]

"""Rows that are objects of Python, as records by field, and tensors of torch as arrays.

No library is imported to find out what an object is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from modelkit._internal.arrays import Array, is_a
from modelkit.errors import SignatureError

Reader = Callable[[Any], dict[str, Any]]


def plain_rows(X: Any) -> Any:
    """Objects in a list as records, a tensor of torch as an array; anything else as it is.

    Objects are dataclasses, named tuples, models of pydantic and classes of attrs. Raises
    SignatureError for a tensor that numpy cannot share.
    """
    if is_a(X, "torch", "Tensor"):
        return array_of_tensor(X)
    if not isinstance(X, list | tuple) or not X or reader_of(X[0]) is None:
        return X
    return [_record(row) for row in X]


def _record(row: Any) -> Any:
    read = reader_of(row)
    if read is None:
        return row
    return {name: _plain(value) for name, value in read(row).items()}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def reader_of(row: Any) -> Reader | None:
    """What reads the fields of an object by name; None for a value without fields."""
    kind = type(row)
    if kind in (dict, str, int, float, bool, list, tuple) or isinstance(row, type | Mapping):
        return None
    if dataclasses.is_dataclass(kind):
        return _of_dataclass
    if isinstance(row, tuple) and hasattr(kind, "_fields"):
        return _of_named_tuple
    if is_a(row, "pydantic", "BaseModel"):
        return _of_pydantic
    return _of_attrs if hasattr(kind, "__attrs_attrs__") else None


def _of_dataclass(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def _of_named_tuple(row: Any) -> dict[str, Any]:
    return dict(zip(row._fields, row, strict=True))


def _of_attrs(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in type(row).__attrs_attrs__}


def _of_pydantic(row: Any) -> dict[str, Any]:
    """Fields by their alias where they have one: a column's name need not be one of Python."""
    found = {}
    for name, about in type(row).model_fields.items():
        found[about.serialization_alias or name] = getattr(row, name)
    return found | (row.model_extra or {})


def array_of_tensor(tensor: Any) -> Array:
    """A tensor of torch as an array that shares its memory. Raises SignatureError."""
    fix = None
    if tensor.requires_grad:
        fix = "a torch tensor that requires a gradient; pass X.detach()"
    elif tensor.device.type != "cpu":
        fix = f"a torch tensor on {tensor.device}; pass X.cpu()"
    if fix is None:
        try:
            array: Array = tensor.numpy()
        except (TypeError, RuntimeError):
            fix = f"a torch tensor of {tensor.dtype} and {tensor.layout}; pass X.to_dense().float()"
        else:
            return array
    raise SignatureError(f"cannot read rows from {fix}", problems=(fix,))

"""Rows that are objects of Python, as records by field, and tensors of torch as arrays.

No library is imported to find out what an object is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from modelkit._internal.arrays import Array, is_a
from modelkit.errors import SignatureError


def plain_rows(X: Any) -> Any:
    """Objects in a list as records, a tensor of torch as an array; anything else as it is.

    Objects are dataclasses, named tuples, models of pydantic and classes of attrs. Raises
    SignatureError for a tensor that numpy cannot share.
    """
    if is_a(X, "torch", "Tensor"):
        return array_of_tensor(X)
    if not isinstance(X, list | tuple) or not X or fields_of(X[0]) is None:
        return X
    return [_record(row) for row in X]


def _record(row: Any) -> Any:
    values = fields_of(row)
    if values is None:
        return row
    return {name: v.value if isinstance(v, Enum) else v for name, v in values.items()}


def fields_of(row: Any) -> dict[str, Any] | None:
    """The fields of an object by name, of pydantic by alias, if any; None for other values."""
    kind = type(row)
    if kind in (dict, str, int, float, bool, list, tuple) or isinstance(row, type | Mapping):
        return None
    if is_a(row, "pydantic", "BaseModel"):  # a column's name need not be one of Python
        fields = kind.model_fields.items()
        found = {field.serialization_alias or name: getattr(row, name) for name, field in fields}
        return found | (row.model_extra or {})
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(row)]
    elif isinstance(row, tuple) and hasattr(kind, "_fields"):
        names = kind._fields
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
    else:
        return None
    return {name: getattr(row, name) for name in names}


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

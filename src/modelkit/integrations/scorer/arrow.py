"""Arrow's form of what a Scorer reads and adds: the only place of a Scorer that needs pyarrow."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError, importing
from modelkit.integrations.scorer.columns import ScoredOutput
from modelkit.signature.frames import as_column
from modelkit.signature.spec import TensorSpec, no_rows

MOST_LISTED = 2**31 - 1  # values: lists are found by int32 numbers


def pyarrow() -> Any:
    """The library. Raises MissingExtraError."""
    with importing("pyarrow", "a Scorer over Arrow tables", "frames"):
        import pyarrow as pa
    return pa


def arrow_field(output: ScoredOutput) -> Any:
    """The field of an output: its dtype, or a list of it."""
    pa = pyarrow()
    plain = pa.string() if output.is_text else pa.from_numpy_dtype(output.dtype)
    kind = plain if output.is_single else pa.list_(plain)
    return pa.field(output.name, kind)


def arrow_column(values: Array, output: ScoredOutput) -> Any:
    """The column of an output, of (n,) or (n, width) values."""
    pa = pyarrow()
    field = arrow_field(output)
    if values.ndim == 1:
        return pa.array(values, field.type)
    rows, width = values.shape
    if values.size > MOST_LISTED:
        raise SignatureError(
            f"output {output.name!r} has {values.size:,} values in one table, more than a list "
            "column of Arrow holds; score fewer rows at once"
        )
    starts = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    flat = pa.array(values.reshape(-1), field.type.value_type)
    return pa.ListArray.from_arrays(pa.array(starts), flat)


def is_list(column: Any) -> bool:
    """Whether a column has several values a row; encoded ones have a type of values too."""
    kind = column.type
    if not hasattr(kind, "storage_type"):
        return hasattr(kind, "value_field")
    # Ray keeps tensors of different shapes as a struct; a uuid is a tensor of neither kind.
    stored = kind.storage_type
    return hasattr(stored, "value_field") or pyarrow().types.is_struct(stored)


def as_tensor(column: Any, spec: TensorSpec) -> Any:
    """A column as a tensor, where it has several values a row.

    Raises SignatureError for lists that are missing or of different lengths.
    """
    if not len(column):
        return no_rows(spec)
    return as_block(column, spec.name) if is_list(column) else column


def as_block(column: Any, name: str) -> Array:
    """A column of lists, of lists in lists or of tensors as an array (n, ...).

    It is masked where a value in a list is missing. Raises SignatureError for lists that are missing
    or of different lengths.
    """
    if column.null_count:  # asked first: a tensor's bytes say nothing of what is missing
        raise SignatureError(
            f"column {name!r} has {column.null_count} missing lists or tensors, and a row without "
            "one is neither scored nor counted: drop such rows, or fill them in"
        )
    if hasattr(column.type, "storage_type"):
        return _of_tensors(column, name)
    whole = column.combine_chunks() if hasattr(column, "chunks") else column
    lengths = set(whole.value_lengths().to_pylist())
    if len(lengths) > 1:
        raise SignatureError(
            f"column {name!r} has lists of {min(lengths)} to {max(lengths)} values; a tensor has "
            "one length"
        )
    flat = whole.flatten()
    inner = as_block(flat, name) if is_list(flat) else as_column(flat)
    return inner.reshape(len(whole), *lengths, *inner.shape[1:])


def _of_tensors(column: Any, name: str) -> Array:
    """Arrow's own tensors, or Ray's, as an array. Raises SignatureError for different shapes.

    It is masked where a value in a tensor is missing.
    """
    parts = [_tensors_in(chunk, name) for chunk in column.chunks]
    if len({(part.dtype, part.shape[1:]) for part in parts}) > 1 or parts[0].dtype == object:
        raise SignatureError(f"column {name!r} has tensors of different shapes; a tensor has one")
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        joined: Array = np.ma.concatenate(parts)  # type: ignore[no-untyped-call]
        return joined
    return np.concatenate(parts)


def _tensors_in(chunk: Any, name: str) -> Array:
    """The tensors of a chunk, masked where a value in one is missing.

    Raises SignatureError for axes in an order that pyarrow writes in one way and reads in another.
    """
    kind = chunk.type
    if not hasattr(kind, "permutation"):
        return _with_gaps(chunk, np.asarray(chunk.to_numpy()))
    # Arrow's own tensors are lists; their type tells the shape, and the order of the axes.
    axes = [*range(len(kind.shape))]
    order = kind.permutation or axes
    if [order[axis] for axis in order] != axes:
        raise SignatureError(
            f"column {name!r} has tensors whose axes are stored in the order {order}, which says in "
            "two ways what they are; write them from np.ascontiguousarray(values)"
        )
    flat = as_block(chunk.storage, name)
    stored = flat.reshape(len(chunk), *kind.shape)
    places = [axis + 1 for axis in order]
    return stored.transpose(0, *places)


def _with_gaps(chunk: Any, values: Array) -> Array:
    """The values of a chunk of tensors, masked where one in its storage is missing."""
    stored = chunk.storage
    if not hasattr(stored.type, "value_field"):
        return values
    flat = stored.flatten()
    if not flat.null_count:
        return values
    missing = flat.is_null().to_numpy(zero_copy_only=False)
    return np.ma.MaskedArray(values, missing.reshape(values.shape))

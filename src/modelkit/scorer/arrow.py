"""Arrow's form of what a Scorer reads and adds: the only place of a Scorer that needs pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.errors import SignatureError, importing
from modelkit.scorer.outputs import ScoredOutput
from modelkit.scorer.tensors import no_rows
from modelkit.spec import TensorSpec

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
    flat = pa.array(
        values.reshape(-1),
        field.type.value_type,
    )
    return pa.ListArray.from_arrays(pa.array(starts), flat)


def select(
    table: Any,
    names: Sequence[str],
) -> Any:
    """The columns of a table that have one of the names; what is absent is left to `coerce`.

    Raises SignatureError for a column that is there twice.
    """
    known = table.column_names
    found = [name for name in names if name in known]
    twice = [name for name in found if known.count(name) > 1]
    if twice:
        raise SignatureError(f"the rows have several columns of the names {twice}")
    return table.select(found)


def is_list(column: Any) -> bool:
    """Whether a column has several values a row; encoded ones have a type of values too."""
    return hasattr(column.type, "storage_type") or hasattr(column.type, "value_field")


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
    if hasattr(column.type, "storage_type"):
        return np.concatenate([_tensors(chunk) for chunk in column.chunks])
    whole = column.combine_chunks() if hasattr(column, "chunks") else column
    if whole.null_count:
        raise SignatureError(f"column {name!r} has {whole.null_count} missing lists")
    lengths = set(whole.value_lengths().to_pylist())
    if len(lengths) > 1:
        raise SignatureError(
            f"column {name!r} has lists of {min(lengths)} to {max(lengths)} values; a tensor has "
            "one length"
        )
    flat = whole.flatten()
    inner = as_block(flat, name) if is_list(flat) else _masked(flat)
    return inner.reshape(len(whole), *lengths, *inner.shape[1:])


def _masked(flat: Any) -> Array:
    """Values as an array, masked where some are missing."""
    if not flat.null_count:
        return np.asarray(flat.to_numpy(zero_copy_only=False))
    missing = flat.is_null().to_numpy(zero_copy_only=False)
    whole = pyarrow().types.is_integer(flat.type)  # these stay whole where they are filled
    filled = flat.fill_null(0) if whole else flat
    return np.ma.MaskedArray(filled.to_numpy(zero_copy_only=False), missing)


def _tensors(chunk: Any) -> Array:
    """Arrow's own tensors, or those of Ray, as an array."""
    read = getattr(chunk, "to_numpy_ndarray", chunk.to_numpy)
    return np.asarray(read())

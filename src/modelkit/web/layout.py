"""What the codec asks a signature, found once for each."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.rule import exact_bits
from modelkit.signature import Signature
from modelkit.spec import MIXED, TIMES, ZONE, TensorSpec, numpy_dtype
from modelkit.web.forms import read_mixed, read_span, reader_of_times

Read = Callable[[Any], Any]


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """What the codec asks a signature.

    Attributes:
        names: every column, and every tensor without columns, in order.
        axes: the axis on which each tensor has its rows, by name; None for one without rows.
        only: the only input, or None.
        exact: of an only input of floats that takes all columns alike, the number below which
            they hold each integer exactly; 0 for other inputs.
        nullable: whether that input takes missing values.
        has_columns: whether all inputs have columns.
        is_text: whether the only column is one of strings.
        inputs: the tensors by name.
        pick: the values of a record in the order of `names`.
        numbers: the columns and tensors of numbers alone, of which true and false are none.
        read: what reads the values of a column or tensor of times or spans, by name.
        mixed: for a column of anything, or a tensor with such columns: which of them are, by name.
    """

    names: tuple[str, ...]
    axes: Mapping[str, int | None]
    only: TensorSpec | None
    exact: float
    nullable: bool
    has_columns: bool
    is_text: bool
    inputs: Mapping[str, TensorSpec]
    pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    numbers: frozenset[str]
    read: Mapping[str, Read]
    mixed: Mapping[str, tuple[bool, ...]]


# By the identity of the signature: to compare two takes longer than to read a row.
_known: dict[int, tuple[weakref.ref[Signature], Layout]] = {}


def layout_of(signature: Signature) -> Layout:
    """The Layout of a signature."""
    key = id(signature)
    found = _known.get(key)
    if found is not None and found[0]() is signature:
        return found[1]
    layout = _lay_out(signature)
    _known[key] = (weakref.ref(signature, lambda _: _known.pop(key, None)), layout)
    return layout


def _lay_out(signature: Signature) -> Layout:
    names: list[str] = []
    read: dict[str, Read] = {}
    mixed: dict[str, tuple[bool, ...]] = {}
    numbers: set[str] = set()
    for spec in signature.inputs:
        columns = [column.name for column in spec.columns]
        names += columns or [spec.name]
        if numpy_dtype(spec.dtype).kind in "iuf":
            numbers |= {column.name for column in spec.columns if column.dtype != "bool"}
            if not any(column.dtype == "bool" for column in spec.columns):
                numbers.add(spec.name)
        reader = _reader(spec.dtype)
        if reader is not None:
            read |= dict.fromkeys([spec.name, *columns], reader)
        which = tuple(column.dtype == MIXED for column in spec.columns)
        if any(which):
            mixed[spec.name] = which
            mixed |= {column.name: (True,) for column in spec.columns if column.dtype == MIXED}
    inputs = signature.inputs
    exact, nullable = _exactly(signature)
    return Layout(
        tuple(names),
        {spec.name: _row_axis(spec, signature.row_dim) for spec in inputs},
        inputs[0] if len(inputs) == 1 else None,
        exact,
        nullable,
        all(spec.columns for spec in inputs),
        len(names) == 1 and inputs[0].dtype == "string",
        {spec.name: spec for spec in inputs},
        _picker(names),
        frozenset(numbers),
        read,
        mixed,
    )


def _reader(dtype: str) -> Read | None:
    if dtype not in TIMES:
        return None
    return reader_of_times(zoned=ZONE in dtype) if dtype.startswith("d") else read_span


def _picker(names: list[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda record: (record[names[0]],)


def _row_axis(spec: TensorSpec, row_dim: str | None) -> int | None:
    return spec.shape.index(row_dim) if row_dim is not None and row_dim in spec.shape else None


def _exactly(signature: Signature) -> tuple[float, bool]:
    """Of floats in columns that are cast alike: which integers are exact, and whether NaN may be."""
    block = signature.block
    if block is None or not signature.inputs[0].columns or block.rule.target.kind != "f":
        return 0.0, False
    rule = block.rule
    bits = min(exact_bits(rule.declared), exact_bits(rule.target))
    return float(2**bits), rule.nullable


def rows_in(layout: Layout, name: str, shape: Any) -> int:
    """The number of rows of an input of this shape; a column has them on its first axis."""
    axis = layout.axes.get(name, 0)
    return shape[axis] if axis is not None and axis < len(shape) else 0


def read_array(
    values: Array,
    name: str,
    layout: Layout,
    problems: list[str],
) -> Array:
    """An array with its texts, seconds and JSON as the values they stand for."""
    reader = layout.read.get(name)
    if reader is not None:
        return _objects(read_values(values.reshape(-1).tolist(), reader, name, problems), values)
    mixed = layout.mixed.get(name)
    if mixed is None or values.dtype != object:
        return values
    if all(mixed):
        flat = values.reshape(-1).tolist()
        return _objects(read_values(flat, read_mixed, name, problems), values)
    if values.ndim != 2 or values.shape[1] != len(mixed):
        return values  # which the signature refuses
    out = values.copy()
    for j in np.flatnonzero(mixed):
        out[:, j] = read_values(values[:, j].tolist(), read_mixed, name, problems)
    return out


def _objects(items: list[Any], like: Array) -> Array:
    flat = np.empty(len(items), object)
    flat[:] = items
    return flat.reshape(like.shape)


def read_values(
    values: list[Any],
    reader: Read,
    name: str,
    problems: list[str],
) -> list[Any]:
    """Values of one column, read; the first that cannot be is added to `problems`."""
    read = []
    for row, value in enumerate(values):
        try:
            read.append(None if value is None else reader(value))
        except ValueError as error:
            problems.append(f"column {name!r}: {error} in row {row}")
            return [None] * len(values)
    return read

"""What the codec asks a signature, found once for each."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.rule import exact_bits
from modelkit.signature.signature import Signature
from modelkit.signature.spec import MIXED, TIMES, ZONE, Column, TensorSpec, numpy_dtype
from modelkit.web.values import ReadValue, read_mixed, read_span, read_values, reader_of_times

Named = tuple[TensorSpec, tuple[Column, ...]]  # a tensor, and those of its columns that are meant


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
        by_columns: the same for rows by columns, where a tensor is called as some column is; or None.
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
    numbers: tuple[str, ...]
    read: Mapping[str, ReadValue]
    mixed: Mapping[str, tuple[bool, ...]]
    by_columns: Layout | None


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


def for_columns(layout: Layout) -> Layout:
    """The Layout for rows whose names are those of columns."""
    return layout.by_columns or layout


def for_names(layout: Layout, names: Container[str]) -> Layout:
    """The Layout for rows by these names: `coerce` takes them for columns if all columns are there."""
    if layout.by_columns is None or not all(name in names for name in layout.names):
        return layout
    return layout.by_columns


def _lay_out(signature: Signature) -> Layout:
    columns = signature.column_names
    shared = {spec.name for spec in signature.inputs if spec.name in columns and not _is_one(spec)}
    by_columns = _lay_out_apart(signature, shared, None) if shared else None
    return _lay_out_apart(signature, set(), by_columns)


def _is_one(spec: TensorSpec) -> bool:
    """Whether a tensor has one column, which is called as it is, so that the two are the same."""
    return len(spec.columns) == 1 and spec.columns[0].name == spec.name


def _lay_out_apart(
    signature: Signature, shared: Collection[str], by_columns: Layout | None
) -> Layout:
    """The Layout in which a name is that of a tensor before that of a column, but for `shared` ones."""
    inputs = signature.inputs
    tensors = {spec.name: spec for spec in inputs if spec.name not in shared}
    names = _names_of(inputs)
    exact, nullable = _exactly(signature)
    named: dict[str, Named] = {}
    for spec in inputs:
        named |= {column.name: (spec, (column,)) for column in spec.columns}
    named |= {name: (spec, spec.columns) for name, spec in tensors.items()}
    return Layout(
        names=tuple(names),
        axes={spec.name: _row_axis(spec, signature.row_dim) for spec in inputs},
        only=inputs[0] if len(inputs) == 1 else None,
        exact=exact,
        nullable=nullable,
        has_columns=all(spec.columns for spec in inputs),
        is_text=len(names) == 1 and inputs[0].dtype == "string",
        inputs=tensors,
        pick=_picker(names),
        numbers=tuple(name for name, known in named.items() if _are_numbers(*known)),
        read=_readers(named),
        mixed=_mixed(named),
        by_columns=by_columns,
    )


def _readers(named: Mapping[str, Named]) -> dict[str, ReadValue]:
    """What reads the times and spans of those that hold some."""
    dtypes = {name: spec.dtype for name, (spec, _) in named.items()}
    return {name: _reader(dtype) for name, dtype in dtypes.items() if dtype in TIMES}


def _reader(dtype: str) -> ReadValue:
    return reader_of_times(zoned=ZONE in dtype) if dtype.startswith("d") else read_span


def _mixed(named: Mapping[str, Named]) -> dict[str, tuple[bool, ...]]:
    """Which columns are of anything, for those that have one that is."""
    found = {}
    for name, (_, columns) in named.items():
        which = tuple(column.dtype == MIXED for column in columns)
        if any(which):
            found[name] = which
    return found


def _are_numbers(spec: TensorSpec, columns: tuple[Column, ...]) -> bool:
    """Whether these columns of a tensor, or the tensor if it has none, hold numbers only."""
    has_numbers = numpy_dtype(spec.dtype).kind in "iuf"
    return has_numbers and all(column.dtype != "bool" for column in columns)


def _names_of(inputs: Iterable[TensorSpec]) -> list[str]:
    """Every column, and every tensor without columns, in order."""
    names: list[str] = []
    for spec in inputs:
        names += [column.name for column in spec.columns] or [spec.name]
    return names


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


def read_array(values: Array, name: str, layout: Layout, problems: list[str]) -> Array:
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

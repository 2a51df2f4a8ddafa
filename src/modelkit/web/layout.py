"""What the codec asks a signature, found once for each; and the values that JSON writes in forms of its own."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.cast import exact_bits
from modelkit.signature.signature import Signature
from modelkit.signature.spec import MIXED, TIMES, ZONE, Column, TensorSpec, names_of, numpy_dtype
from modelkit.signature.times import read_span, reader_of_times
from modelkit.web.json import shown

ReadValue = Callable[[Any], Any]  # reads one value; raises ValueError, which says what it is not
Named = tuple[TensorSpec, tuple[Column, ...]]  # a tensor, and those of its columns that are meant


class Naming(NamedTuple):
    """What the names in a request stand for.

    Attributes:
        tensors: the tensors by name.
        numbers: the columns and tensors of numbers alone, of which true and false are none.
        read: what reads the values of a column or tensor of times or spans, by name.
        mixed: for a column of anything, or a tensor with such columns: which of them are, by name.
    """

    tensors: Mapping[str, TensorSpec]
    numbers: tuple[str, ...]
    read: Mapping[str, ReadValue]
    mixed: Mapping[str, tuple[bool, ...]]


class Layout(NamedTuple):
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
        pick: the values of a record in the order of `names`.
        tensors_first: the meaning of names, where a tensor may be called as some column is.
        columns_first: their meaning where they name all columns.
    """

    names: tuple[str, ...]
    axes: Mapping[str, int | None]
    only: TensorSpec | None
    exact: float
    nullable: bool
    has_columns: bool
    is_text: bool
    pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    tensors_first: Naming
    columns_first: Naming


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


def naming_of(layout: Layout, names: Container[str]) -> Naming:
    """What these names stand for: `coerce` takes them for columns if all columns are there."""
    if layout.columns_first is layout.tensors_first or all(name in names for name in layout.names):
        return layout.columns_first
    return layout.tensors_first


def _lay_out(signature: Signature) -> Layout:
    inputs = signature.inputs
    dim = signature.row_dim
    names = names_of(inputs)
    exact, nullable = _exactly(signature)
    columns: dict[str, Named] = {
        column.name: (spec, (column,)) for spec in inputs for column in spec.columns
    }
    tensors_first = _naming(columns, inputs)
    others = [spec for spec in inputs if spec.name not in columns or _is_one(spec)]
    shares_names = len(others) < len(inputs)
    return Layout(
        names=tuple(names),
        axes={spec.name: spec.shape.index(dim) if dim in spec.shape else None for spec in inputs},
        only=inputs[0] if len(inputs) == 1 else None,
        exact=exact,
        nullable=nullable,
        has_columns=all(spec.columns for spec in inputs),
        is_text=len(names) == 1 and inputs[0].dtype == "string",
        pick=_picker(names),
        tensors_first=tensors_first,
        columns_first=_naming(columns, others) if shares_names else tensors_first,
    )


def _is_one(spec: TensorSpec) -> bool:
    """Whether a tensor has one column, which is called as it is, so the two are the same."""
    return len(spec.columns) == 1 and spec.columns[0].name == spec.name


def _naming(columns: Mapping[str, Named], tensors: Iterable[TensorSpec]) -> Naming:
    """The meaning of the names of columns and tensors, where a tensor's comes first."""
    numbers: list[str] = []
    read: dict[str, ReadValue] = {}
    mixed: dict[str, tuple[bool, ...]] = {}
    named = {**columns, **{spec.name: (spec, spec.columns) for spec in tensors}}
    for name, (spec, own) in named.items():
        has_numbers = numpy_dtype(spec.dtype).kind in "iuf"
        if has_numbers and all(column.dtype != "bool" for column in own):
            numbers.append(name)
        if spec.dtype in TIMES:
            is_date = spec.dtype.startswith("d")
            read[name] = reader_of_times(zoned=ZONE in spec.dtype) if is_date else read_span
        which = tuple(column.dtype == MIXED for column in own)
        if any(which):
            mixed[name] = which
    return Naming({spec.name: spec for spec in tensors}, tuple(numbers), read, mixed)


def _picker(names: list[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda record: (record[names[0]],)


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


def read_mixed(text: Any) -> Any:
    """A value of a column of anything, from the JSON of it. Raises ValueError for other texts."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise ValueError('not the JSON of a value, such as "\\"text\\"" or "1.5"') from None


def read_values(values: list[Any], reader: ReadValue, name: str, problems: list[str]) -> list[Any]:
    """Values of one column, read; the first that cannot be is added to `problems`."""
    read = []
    for row, value in enumerate(values):
        try:
            read.append(None if value is None else reader(value))
        except ValueError as error:
            problems.append(f"column {name!r}: {shown(value)} is {error} in row {row}")
            return [None] * len(values)
    return read


def read_array(values: Array, name: str, naming: Naming, problems: list[str]) -> Array:
    """An array with its texts, seconds and JSON as the values they stand for."""
    reader = naming.read.get(name)
    mixed = naming.mixed.get(name, ()) if values.dtype == object else ()
    if mixed and all(mixed):
        reader = read_mixed
    if reader is not None:
        objects = np.empty(values.size, object)
        objects[:] = read_values(values.reshape(-1).tolist(), reader, name, problems)
        return objects.reshape(values.shape)
    if values.ndim != 2 or values.shape[1] != len(mixed):
        return values  # which need no reading, or which the signature refuses
    out = values.copy()
    for j in np.flatnonzero(mixed):
        out[:, j] = read_values(values[:, j].tolist(), read_mixed, name, problems)
    return out

"""Rows that an example lacks and an application will have: at thresholds, between, far away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.parity.rows import Rows, Table, Tensors
from modelkit.signature.signature import Signature

if TYPE_CHECKING:
    import onnx

SIZED_ROWS = 3  # that are compared in other sizes
PROBE_ROWS = 256  # at most, of one probe
ENDLESS = 1e38  # CatBoost writes an infinity as the largest float32
ZERO = 1e-34  # LightGBM writes zero as a threshold of 1e-35, and numbers below that are zero to it
FLOAT = 1  # the element type of float32
INT = 2  # the type of an attribute that is one whole number
SMALL = 4096  # numbers of a constant, whose shape alone is of interest
EQUAL = 4  # modes of TreeEnsemble from here on compare by equality


@dataclass(frozen=True)
class Splits:
    """Column and threshold of splits, and the dtype that each compares in; None for equality.

    A split by equality is of a category's code, and has no values next to it.
    """

    columns: list[Array] = field(default_factory=list)
    values: list[Array] = field(default_factory=list)
    dtypes: list[Any] = field(default_factory=list)

    def add(self, columns: Array, values: Array, dtype: Any) -> None:
        """Add splits that compare in one dtype, if there are any."""
        if len(columns):
            self.columns.append(columns)
            self.values.append(values)
            self.dtypes.append(dtype)

    def beside(self, toward: Array) -> tuple[Array, Array]:
        """Columns and values: each threshold, or the number next to it.

        `toward` says which, for the splits in turn: 0 for the threshold, -1 for the number below,
        1 for the one above.
        """
        found = []
        start = 0
        for values, dtype in zip(self.values, self.dtypes, strict=True):
            places = np.arange(start, start + len(values))
            side = toward[places % len(toward)]
            start += len(values)
            found.append(values if dtype is None else _moved(values, side, dtype))
        return np.concatenate(self.columns), np.concatenate(found)


def _moved(values: Array, side: Array, dtype: Any) -> Array:
    """Each value, or its neighbour below or above among the numbers of a dtype."""
    near = values.astype(dtype)
    far = np.where(side > 0, dtype(np.inf), dtype(-np.inf))
    with np.errstate(over="ignore"):  # an infinity is written as the largest number
        moved = np.nextafter(near, far)
    return np.where(side == 0, values, moved.astype(np.float64))


def at_thresholds(proto: onnx.ModelProto, signature: Signature, rows: Rows) -> Rows | None:
    """Rows in which one column equals a threshold of a tree, or the number next to one.

    Only columns are looked at that a tree reads as they are: behind a scaler a threshold is no value
    of a column. None if there are no such columns of numbers.
    """
    if not isinstance(rows, Table):
        return None
    splits = _splits(proto, signature)
    if not splits.values:
        return None
    columns, values = splits.beside(np.array([0, -1, 1]))
    size = np.abs(values)
    numbers = [i for i, dtype in enumerate(rows.dtypes) if getattr(dtype, "kind", "O") in "iuf"]
    usable = np.flatnonzero((size > ZERO) & (size < ENDLESS) & np.isin(columns, numbers))
    if not len(usable):
        return None
    most = min(PROBE_ROWS, len(usable))
    chosen = usable[np.linspace(0, len(usable) - 1, most).astype(int)]
    base = rows.doubled(np.arange(most) % len(rows))
    altered = {}
    for column in np.unique(columns[chosen]).tolist():
        mask = columns[chosen] == column
        altered[column] = np.where(mask, values[chosen], base.values(column))
    return base.with_columns(altered)


def _splits(proto: onnx.ModelProto, signature: Signature) -> Splits:
    """The splits of trees on columns of the inputs, by kind of comparison."""
    found = Splits()
    read = _columns_read(proto, signature)
    for node in proto.graph.node:
        if not _is_ensemble(node) or node.input[0] not in read:
            continue
        places, single = read[node.input[0]]
        columns, values, ordered = _of_node(node)
        for narrow in (False, True):
            known = (places[columns] >= 0) & (single[columns] == narrow)
            dtype = np.float32 if narrow else np.float64
            for chosen, kind in ((known & ordered, dtype), (known & ~ordered, None)):
                found.add(places[columns[chosen]], values[chosen], kind)
    return found


def has_trees(proto: onnx.ModelProto) -> bool:
    """Whether a graph compares with the thresholds of trees."""
    return any(map(_is_ensemble, proto.graph.node))


def _is_ensemble(node: onnx.NodeProto) -> bool:
    return bool(node.op_type.startswith("TreeEnsemble"))


def _columns_read(proto: onnx.ModelProto, signature: Signature) -> dict[str, tuple[Array, Array]]:
    """For each tensor of columns: the positions of these columns in the rows, and whether in float32.

    The place of a column that was computed is -1.
    """
    from onnx import numpy_helper

    widths = _widths(proto)
    single = {each.name: each.type.tensor_type.elem_type == FLOAT for each in proto.graph.input}
    constants = {each.name: each for each in proto.graph.initializer}
    read: dict[str, tuple[Array, Array]] = {}
    start = 0
    for spec in signature.inputs:
        places = np.arange(start, start + len(spec.columns))
        start += len(spec.columns)
        read[spec.name] = places, np.full(len(places), single.get(spec.name, False))
    for node in proto.graph.node:
        known = [name for name in node.input if name in read]
        if not known:
            continue
        places, narrow = read[known[0]]
        if node.op_type in ("Cast", "Identity"):
            narrow = narrow | _narrows(node)
        elif node.op_type in ("ArrayFeatureExtractor", "Gather") and node.input[1] in constants:
            at = numpy_helper.to_array(constants[node.input[1]]).ravel()
            places, narrow = places[at], narrow[at]
        elif node.op_type == "Concat" and all(widths.get(name) for name in node.input):
            computed = {name: _computed(widths[name]) for name in node.input}
            parts = [read.get(name, computed[name]) for name in node.input]
            places, narrow = (np.concatenate(each) for each in zip(*parts, strict=True))
        elif node.op_type != "Where" or len(known) > 1:  # by which an imputer fills gaps
            continue
        if widths.get(node.output[0]) == len(places):
            read[node.output[0]] = places, narrow
    return read


def _computed(width: int) -> tuple[Array, Array]:
    return np.full(width, -1), np.zeros(width, bool)


def _widths(proto: onnx.ModelProto) -> dict[str, int]:
    """How many columns each matrix of a graph has, as far as that is known."""
    import onnx

    bare = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    bare.graph.input.extend(proto.graph.input)
    bare.graph.initializer.extend(
        each for each in proto.graph.initializer if np.prod(each.dims) < SMALL
    )
    for node in proto.graph.node:
        small = [each for each in node.attribute if not _is_ensemble(node) or each.type == INT]
        kept = onnx.NodeProto(op_type=node.op_type, domain=node.domain, attribute=small)
        kept.input.extend(node.input)
        kept.output.extend(node.output)
        bare.graph.node.append(kept)
    known = onnx.shape_inference.infer_shapes(bare).graph
    found = {}
    for value in (*known.input, *known.value_info):
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) == 2:
            found[value.name] = sizes[1].dim_value
    return found


def _narrows(node: onnx.NodeProto) -> bool:
    """Whether a node casts to float32."""
    return any(attribute.name == "to" and attribute.i == FLOAT for attribute in node.attribute)


def _of_node(node: onnx.NodeProto) -> tuple[Array, Array, Array]:
    """Column and threshold of the branches of an ensemble, and whether each compares by order."""
    from onnx import numpy_helper

    given = {attribute.name: attribute for attribute in node.attribute}
    columns = np.array(given["nodes_featureids"].ints)
    if node.op_type == "TreeEnsemble":
        values = numpy_helper.to_array(given["nodes_splits"].t).astype(np.float64)
        return columns, values, numpy_helper.to_array(given["nodes_modes"].t) < EQUAL
    modes = np.array(given["nodes_modes"].strings)
    split = modes != b"LEAF"
    ordered = ~np.isin(modes, (b"BRANCH_EQ", b"BRANCH_NEQ"))
    if "nodes_values_as_tensor" in given:
        values = numpy_helper.to_array(given["nodes_values_as_tensor"].t).astype(np.float64)
    else:
        values = np.array(given["nodes_values"].floats)
    return columns[split], values[split], ordered[split]


def enlarged(rows: Rows, by: float) -> Rows | None:
    """Rows whose numbers are `by` times as large, every second row with its sign turned.

    Columns of whole numbers stay as they are, for they may be codes of categories. None where
    nothing changes.
    """
    if isinstance(rows, Tensors):
        return rows.times(by)
    assert isinstance(rows, Table)  # for the type checker: rows are one or the other
    scale = np.where(np.arange(len(rows)) % 2, -by, by)
    chosen = [i for i in rows.floats() if not _is_whole(rows.numbers(i))]
    if not chosen:
        return None
    return rows.with_columns({i: rows.values(i) * scale for i in chosen})


def _is_whole(column: Array) -> bool:
    known = column[np.isfinite(column)]
    return bool((known == np.rint(known)).all())


def between(rows: Rows) -> Rows | None:
    """Rows whose floats lie halfway between two neighbours among a column's values.

    None where there are no columns of floats.
    """
    if not isinstance(rows, Table):
        return None
    first = rows.first(PROBE_ROWS)
    chosen = [i for i in rows.floats() if isinstance(rows.dtypes[i], np.dtype)]
    if not chosen:
        return None
    rng = np.random.default_rng(0)
    columns = {}
    for i in chosen:
        values = np.unique(rows.values(i))
        values = values[np.isfinite(values)]
        if len(values) > 1:
            columns[i] = _halfway(values, rng.integers(0, len(values) - 1, len(first)))
    return first.with_columns(columns)


def _halfway(values: Array, at: Array) -> Array:
    """The middle between values at some places and the next ones; of decimals a decimal."""
    gap = values[at + 1] - values[at]
    middle: Array = (values[at] + gap / 2).astype(values.dtype)
    decimal = np.array([f"{each:.12g}" for each in middle.tolist()]).astype(values.dtype)
    near = np.abs(decimal - middle) <= 4 * np.spacing(np.abs(middle))
    return np.where(near, decimal, middle)


def other_times(rows: Rows) -> Rows | None:
    """Rows of times at full hours and at the ends of months, and next to these.

    None where there are no columns of times.
    """
    if not isinstance(rows, Table):
        return None
    dtypes = enumerate(rows.dtypes)
    chosen = [i for i, dtype in dtypes if isinstance(dtype, np.dtype) and dtype.kind in "mM"]
    many = rows.repeated(np.arange(PROBE_ROWS) % len(rows))
    rng = np.random.default_rng(0)
    columns = {}
    for i in chosen:
        times = many.values(i)
        known = times[~np.isnat(times)]
        if len(known):
            columns[i] = _beside_hours(times, known, rng)
    return many.with_columns(columns) if columns else None


def _beside_hours(times: Array, known: Array, rng: np.random.Generator) -> Array:
    """A full hour of the day of each, or a tick beside it; of every second, of the end of a month."""
    hours = times.astype(f"{times.dtype.kind}8[D]").astype(f"{times.dtype.kind}8[h]")
    if times.dtype.kind == "M":
        months = known.astype("M8[M]")
        ends = rng.choice(months, len(times)).astype("M8[D]") - rng.integers(0, 2, len(times))
        hours[::2] = np.where(np.isnat(times), times, ends).astype("M8[h]")[::2]
    hours = hours + rng.integers(0, 25, len(times))
    return hours.astype(times.dtype) + rng.integers(-1, 2, len(times))


def not_finite(rows: Tensors, name: str, value: float) -> Tensors:
    """Rows with a value that is not finite in one input: at one place of most rows.

    Every fourth row stays as it is.
    """
    array = rows.raw[name].copy()
    flat = array.reshape(len(array), -1)
    places = np.random.default_rng(0).integers(0, flat.shape[1], len(flat))
    chosen = np.flatnonzero(np.arange(len(flat)) % 4 != 3)
    flat[chosen, places[chosen]] = value
    return rows.with_tensor(name, flat.reshape(array.shape))


def in_other_sizes(rows: Tensors, signature: Signature) -> Iterator[tuple[str, int, Tensors]]:
    """Few rows in other sizes: for each free dimension but that of the rows, several.

    Gives its name, its size, and the rows.
    """
    few = rows.at(slice(SIZED_ROWS))
    places: dict[str, list[tuple[str, int]]] = {}
    for spec in signature.inputs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and dim != signature.row_dim:
                places.setdefault(dim, []).append((spec.name, axis))
    for dim, axes in places.items():
        name, axis = axes[0]
        given = few.raw[name].shape[axis]
        others = {1, max(1, given // 2), given + 1, 2 * given} - {given}
        for size in sorted(others):
            changed = dict(few.raw)
            for name, axis in axes:
                changed[name] = changed[name].take(np.arange(size) % given, axis)
            yield dim, size, Tensors(changed)

"""Rows that an example lacks and an application will have: at thresholds, between, far away."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.parity.rows import at, count, dtypes_in, put, repeated
from modelkit.convert.source import Columns, Source
from modelkit.signature.signature import Signature

if TYPE_CHECKING:
    import onnx

SIZED_ROWS = 3  # that are compared in other sizes
PROBE_ROWS = 256  # at most, of one probe
THRESHOLD_ROWS = 2048
ENDLESS = 1e38  # CatBoost writes an infinity as the largest float32
ZERO = 1e-34  # LightGBM writes zero as a threshold of 1e-35, and numbers below that are zero to it
FLOAT = 1  # the element type of float32


def numeric(source: Source, rows: Columns, kinds: str) -> list[str]:
    """The columns or tensors whose dtype in the example is one of numbers of some kinds.

    Codes of categories are not.
    """
    if isinstance(source.rows, dict):
        return [name for name, array in rows.items() if array.dtype.kind in kinds]
    return [
        name
        for name, dtype in zip(rows, dtypes_in(source.rows), strict=True)
        if getattr(dtype, "kind", "O") in kinds and rows[name].dtype.kind != "O"
    ]


def at_thresholds(source: Source, rows: Columns) -> Columns | None:
    """Rows in which one column equals a threshold of a tree, or the number next to one.

    Only columns are looked at that a tree reads as they are: behind a scaler a threshold is not a
    value of a column. None if there are no such columns of numbers.
    """
    if isinstance(source.rows, dict):
        return None
    columns, values, single = _splits(source.proto, source.signature)
    names = list(rows)
    numbers = [names.index(name) for name in numeric(source, rows, "iuf")]
    size = np.abs(values)
    usable = np.flatnonzero((size > ZERO) & (size < ENDLESS) & np.isin(columns, numbers))
    if not len(usable):
        return None
    number = np.arange(THRESHOLD_ROWS)
    places, side = _cases(usable)
    columns = columns[places]
    beside = _beside(values[places], side, single[places])
    found: Columns = at(rows, (number + number // (3 * len(usable))) % count(rows))
    for column in np.unique(columns).tolist():
        mask = columns == column
        found[names[column]] = put(found[names[column]], mask, beside[mask])
    return found


def _cases(usable: Array) -> tuple[Array, Array]:
    """A split for each row, and the side that it is asked about.

    Some splits come in one row each, and then each number beside each split in as many rows as there
    are, for a row has to come as far as the split.
    """
    cases = 3 * len(usable)
    case = np.linspace(0, max(cases, THRESHOLD_ROWS) - 1, THRESHOLD_ROWS).astype(int) % cases
    places = usable[case // 3]
    side = case % 3 - 1
    most = min(PROBE_ROWS, len(usable))
    places[:most] = usable[np.linspace(0, len(usable) - 1, most).astype(int)]
    side[:most] = 1 - (places[:most] + 1) % 3
    return places, side


def _beside(values: Array, side: Array, single: Array) -> Array:
    """The numbers below (-1), at (0) and above (1) some values; the next float32 where `single`."""
    ends = np.where(side > 0, np.inf, -np.inf)
    with np.errstate(over="ignore"):  # an infinity is written as the largest number
        narrow = np.nextafter(values.astype(np.float32), ends.astype(np.float32))
    near = np.where(single, narrow, np.nextafter(values, ends))
    return np.asarray(np.where(side == 0, values, near))


def _splits(proto: onnx.ModelProto, signature: Signature) -> tuple[Array, ...]:
    """The columns and thresholds of splits on columns of the inputs, and whether each compares in float32."""
    from onnx import numpy_helper

    found: list[tuple[Array, ...]] = [tuple(np.zeros(0, kind) for kind in (int, float, bool))]
    read = _columns_read(proto, signature)
    for node in proto.graph.node:
        if _is_ensemble(node) and node.input[0] in read:
            given = {attribute.name: attribute for attribute in node.attribute}
            places, single = read[node.input[0]][:, given["nodes_featureids"].ints]
            values = numpy_helper.to_array(given["nodes_splits"].t).astype(np.float64)
            split = (places, values, single.astype(bool))
            found.append(tuple(each[places >= 0] for each in split))
    return tuple(map(np.concatenate, zip(*found, strict=True)))


def has_trees(proto: onnx.ModelProto) -> bool:
    """Whether a graph compares with the thresholds of trees."""
    return any(map(_is_ensemble, proto.graph.node))


def _is_ensemble(node: onnx.NodeProto) -> bool:
    return bool(node.op_type.startswith("TreeEnsemble"))


def _columns_read(proto: onnx.ModelProto, signature: Signature) -> dict[str, Array]:
    """For each tensor of columns, (2, columns): their places in the rows, and 1 for those in float32.

    The place of a column that was computed is -1.
    """
    widths = _widths(proto)
    constants = {each.name: each for each in proto.graph.initializer}
    places = itertools.count()
    read: dict[str, Array] = {}
    for spec in signature.inputs:
        its = np.array([next(places) for _ in spec.columns], int)
        read[spec.name] = np.stack([its, np.full_like(its, spec.dtype == "float32")])
    for node in proto.graph.node:
        found = _moved(node, read, widths, constants)
        if found is not None and widths.get(node.output[0]) == found.shape[1]:
            read[node.output[0]] = found
    return read


def _moved(
    node: onnx.NodeProto, read: dict[str, Array], widths: dict[str, int], constants: dict[str, Any]
) -> Any:
    """The columns of what a node makes, as in `_columns_read`; None where it computes them."""
    from onnx import numpy_helper

    known = [read[name] for name in node.input if name in read]
    if not known:
        return None
    if node.op_type in ("Cast", "Identity"):
        narrows = any(each.name == "to" and each.i == FLOAT for each in node.attribute)
        return known[0] | [[0], [narrows]]
    if node.op_type in ("ArrayFeatureExtractor", "Gather") and node.input[1] in constants:
        places = numpy_helper.to_array(constants[node.input[1]]).ravel()
        return known[0][:, places]
    if node.op_type == "Concat" and all(widths.get(name) for name in node.input):
        parts = [read.get(name, np.tile([[-1], [0]], widths[name])) for name in node.input]
        return np.concatenate(parts, axis=1)
    filled = node.op_type == "Where" and len(known) == 1  # as an imputer fills gaps
    return known[0] if filled else None


def _widths(proto: onnx.ModelProto) -> dict[str, int]:
    """How many columns each matrix of a graph has, as far as that is known."""
    from modelkit.runtimes.proto import inferred

    known = inferred(proto)
    sizes = {
        value.name: value.type.tensor_type.shape.dim for value in (*known.input, *known.value_info)
    }
    return {name: dims[1].dim_value for name, dims in sizes.items() if len(dims) == 2}


def enlarged(source: Source, rows: Columns, by: float) -> Columns | None:
    """Rows whose floats are `by` times as large, every second row with its sign turned.

    Columns of whole numbers stay as they are, for they may be codes of categories. None where
    nothing changes, or a tensor holds something other than floats.
    """
    chosen = numeric(source, rows, "f")
    scale = np.full(count(rows), by)
    if not isinstance(source.rows, dict):
        scale[1::2] = -by
        chosen = [name for name in chosen if not _is_whole(rows[name])]
    elif len(chosen) < len(rows):
        return None
    if not chosen:
        return None
    found = dict(rows)
    for name in chosen:
        factors = scale.reshape(-1, *[1] * (rows[name].ndim - 1))
        found[name] = (rows[name] * factors).astype(rows[name].dtype)
    return found


def _is_whole(column: Array) -> bool:
    known = column[np.isfinite(column)]
    return bool((known == np.rint(known)).all())


def between(source: Source, rows: Columns) -> Columns | None:
    """Rows whose floats lie halfway between two neighbours among a column's values.

    None without columns of floats.
    """
    chosen = numeric(source, rows, "f")
    first: Columns = at(rows, slice(PROBE_ROWS))
    rng = np.random.default_rng(0)
    for name in chosen:
        values = np.unique(rows[name])
        values = values[np.isfinite(values)]
        if len(values) > 1:
            first[name] = _halfway(values, rng.integers(0, len(values) - 1, count(first)))
    return first if chosen else None


def _halfway(values: Array, at: Array) -> Array:
    """The middle between values at some places and the next ones; of decimals a decimal."""
    gap = values[at + 1] - values[at]
    middle: Array = (values[at] + gap / 2).astype(values.dtype)
    decimal = np.array([f"{each:.12g}" for each in middle.tolist()]).astype(values.dtype)
    near = np.abs(decimal - middle) <= 4 * np.spacing(np.abs(middle))
    return np.where(near, decimal, middle)


def other_times(rows: Columns) -> Columns | None:
    """Rows of times at full hours and at the ends of months, and next to these.

    None without columns of times.
    """
    many = repeated(rows, PROBE_ROWS)
    rng = np.random.default_rng(0)
    changed = {}
    for name, times in many.items():
        known = times[~np.isnat(times)] if times.dtype.kind in "mM" else times[:0]
        if len(known):
            changed[name] = _beside_hours(times, known, rng)
    return many | changed if changed else None


def _beside_hours(times: Array, known: Array, rng: np.random.Generator) -> Array:
    """A full hour of the day of each, or a tick beside it; of every second, of the end of a month."""
    hours = times.astype(f"{times.dtype.kind}8[D]").astype(f"{times.dtype.kind}8[h]")
    if times.dtype.kind == "M":
        months = known.astype("M8[M]")
        ends = rng.choice(months, len(times)).astype("M8[D]")
        ends -= rng.integers(0, 2, len(times)).astype("m8[D]")
        hours[::2] = np.where(np.isnat(times), times, ends).astype("M8[h]")[::2]
    hours += rng.integers(0, 25, len(times)).astype("m8[h]")
    hours = hours.astype(times.dtype)
    hours += rng.integers(-1, 2, len(times)).astype(times.dtype.str.replace("M", "m"))
    return hours


def not_finite(rows: Columns, name: str, value: float) -> Columns:
    """Rows with a value that is not finite in one input: at one place of most rows.

    Every fourth row stays as it is.
    """
    array = rows[name].copy()
    flat = array.reshape(len(array), -1)
    places = np.random.default_rng(0).integers(0, flat.shape[1], len(flat))
    chosen = np.flatnonzero(np.arange(len(flat)) % 4 != 3)
    flat[chosen, places[chosen]] = value
    return rows | {name: flat.reshape(array.shape)}


def in_other_sizes(rows: Columns, signature: Signature) -> Iterator[tuple[str, int, Columns]]:
    """Few rows in other sizes: several for each free dimension, except the dimension of the rows.

    Gives its name, its size, and the rows.
    """
    few = at(rows, slice(SIZED_ROWS))
    places: dict[str, list[tuple[str, int]]] = {}
    for spec in signature.inputs:
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str) and dim != signature.row_dim:
                places.setdefault(dim, []).append((spec.name, axis))
    for dim, axes in places.items():
        name, axis = axes[0]
        given = few[name].shape[axis]
        others = {1, max(1, given // 2), given + 1, 2 * given} - {given}
        for size in sorted(others):
            changed = dict(few)
            for name, axis in axes:
                changed[name] = changed[name].take(np.arange(size) % given, axis)
            yield dim, size, changed

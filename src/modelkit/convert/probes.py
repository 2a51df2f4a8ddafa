"""Rows that an example does not hold and an application will: values at thresholds, between others, and far away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.source import Source

if TYPE_CHECKING:
    import onnx

MOST = 256  # rows of a probe
ENDLESS = 1e38  # CatBoost writes an infinity as the largest float32
ZERO = 1e-34  # LightGBM writes zero as a threshold of 1e-35, and numbers below that are zero to it
FLOAT = 1  # the element type of float32
EQUAL = 4  # modes of TreeEnsemble from here on compare by equality


@dataclass(frozen=True)
class Splits:
    """Column and threshold of splits, and the dtype in which each compares; None for one by equality.

    A split by equality is of a category's code, and has no values next to it.
    """

    columns: list[Array]
    values: list[Array]
    dtypes: list[Any]

    def beside(self, toward: Array) -> tuple[Array, Array]:
        """Columns and values: each threshold, or the number next to it below (-1) or above (1), by place in turn."""
        found = []
        start = 0
        for values, dtype in zip(self.values, self.dtypes, strict=True):
            side = toward[np.arange(start, start + len(values)) % len(toward)]
            start += len(values)
            if dtype is None:
                found.append(values)
                continue
            near = values.astype(dtype)
            with np.errstate(over="ignore"):  # an infinity is written as the largest number
                moved = np.nextafter(near, np.where(side > 0, dtype(np.inf), dtype(-np.inf)))
            found.append(np.where(side == 0, values, moved.astype(np.float64)))
        return np.concatenate(self.columns), np.concatenate(found)


def at_thresholds(source: Source, rows: Any) -> Any:
    """Rows in which one column equals a threshold of a tree, or the number next to one; None where there are none.

    Only trees that read the graph's one input are looked at: behind a scaler a threshold is no
    value of a column.
    """
    splits = _splits(source.proto)
    if not splits.values:
        return None
    columns, values = splits.beside(np.array([0, -1, 1]))
    usable = np.flatnonzero((np.abs(values) > ZERO) & (np.abs(values) < ENDLESS))
    if not len(usable):
        return None
    chosen = usable[np.linspace(0, len(usable) - 1, min(MOST, len(usable))).astype(int)]
    columns, values = columns[chosen], values[chosen]
    base = np.arange(len(values)) % len(rows)
    if isinstance(rows, np.ndarray):
        out = rows[base].astype(np.float64)
        out[np.arange(len(values)), columns] = values
        return out
    if not all(getattr(dtype, "kind", "O") in "iuf" for dtype in rows.dtypes):
        return None
    table = rows.to_numpy(np.float64)[base]
    table[np.arange(len(values)), columns] = values
    wide = rows.iloc[base].astype(np.float64).reset_index(drop=True)
    for i in range(table.shape[1]):
        wide.isetitem(i, table[:, i])
    return wide


def _splits(proto: onnx.ModelProto) -> Splits:
    """The splits of the trees that read the graph's one input, by kind of comparison."""
    graph = proto.graph
    single = len(graph.input) == 1 and graph.input[0].type.tensor_type.elem_type == FLOAT
    same = (
        {graph.input[0].name: np.float32 if single else np.float64} if len(graph.input) == 1 else {}
    )
    found = Splits([], [], [])
    for node in graph.node:
        if not node.input or node.input[0] not in same:
            continue
        dtype = same[node.input[0]]
        if node.op_type in ("Cast", "Identity"):
            narrow = any(
                attribute.name == "to" and attribute.i == FLOAT for attribute in node.attribute
            )
            same[node.output[0]] = np.float32 if narrow else dtype
        if node.op_type.startswith("TreeEnsemble"):
            columns, values, ordered = _of_node(node)
            for kept, kind in ((ordered, dtype), (~ordered, None)):
                if kept.any():
                    found.columns.append(columns[kept])
                    found.values.append(values[kept])
                    found.dtypes.append(kind)
    return found


def _of_node(node: onnx.NodeProto) -> tuple[Array, Array, Array]:
    """Column and threshold of the branches of an ensemble, and whether each compares by order."""
    given = {attribute.name: attribute for attribute in node.attribute}
    columns = np.array(given["nodes_featureids"].ints)
    if node.op_type == "TreeEnsemble":
        from onnx import numpy_helper

        values = numpy_helper.to_array(given["nodes_splits"].t).astype(np.float64)
        return columns, values, numpy_helper.to_array(given["nodes_modes"].t) < EQUAL
    modes = np.array(given["nodes_modes"].strings)
    split = modes != b"LEAF"
    ordered = ~np.isin(modes, (b"BRANCH_EQ", b"BRANCH_NEQ"))
    return columns[split], np.array(given["nodes_values"].floats)[split], ordered[split]


def enlarged(rows: Any, by: float) -> Any:
    """Rows whose numbers are `by` times as large, every second one with its sign turned.

    Columns of whole numbers stay as they are, for they may be codes of categories. None where
    nothing changes.
    """
    if isinstance(rows, dict):
        if not all(array.dtype.kind == "f" for array in rows.values()):
            return None
        return {name: array * array.dtype.type(by) for name, array in rows.items()}
    scale = np.where(np.arange(len(rows)) % 2, -by, by)
    if isinstance(rows, np.ndarray):
        if rows.dtype.kind != "f":
            return None
        broken = [not _is_whole(column) for column in rows.T]
        return (
            np.where(broken, rows * scale[:, None], rows).astype(rows.dtype)
            if any(broken)
            else None
        )
    kinds = [getattr(dtype, "kind", "O") for dtype in rows.dtypes]
    chosen = [
        i
        for i, kind in enumerate(kinds)
        if kind == "f" and not _is_whole(rows.iloc[:, i].to_numpy(np.float64))
    ]
    out = rows.copy()
    for i in chosen:
        out.isetitem(i, rows.iloc[:, i].to_numpy() * scale)
    return out if chosen else None


def _is_whole(column: Array) -> bool:
    known = column[np.isfinite(column)]
    return bool((known == np.rint(known)).all())


def zeroed(rows: Any) -> Any:
    """Rows whose numbers are all zero."""
    if isinstance(rows, dict):
        return {name: array * 0 for name, array in rows.items()}
    if isinstance(rows, np.ndarray):
        return rows if rows.dtype.kind not in "fiu" else np.zeros_like(rows)
    out = rows.copy()
    for i, dtype in enumerate(rows.dtypes):
        if getattr(dtype, "kind", "O") in "fiu":
            out.isetitem(i, rows.iloc[:, i] * 0)
    return out


def between(rows: Any) -> Any:
    """Rows whose floats lie halfway between two neighbours among the column's values; None where none are floats."""
    if isinstance(rows, dict):
        return None
    frame = not isinstance(rows, np.ndarray)
    out = rows.iloc[:MOST].copy() if frame else rows[:MOST].copy()
    kinds = list(rows.dtypes) if frame else [rows.dtype] * rows.shape[1]
    chosen = [
        i for i, dtype in enumerate(kinds) if isinstance(dtype, np.dtype) and dtype.kind == "f"
    ]
    rng = np.random.default_rng(0)
    for i in chosen:
        values = np.unique(rows.iloc[:, i].to_numpy() if frame else rows[:, i])
        values = values[np.isfinite(values)]
        if len(values) > 1:
            at = rng.integers(0, len(values) - 1, len(out))
            halfway = (values[at] + (values[at + 1] - values[at]) / 2).astype(values.dtype)
            if frame:
                out.isetitem(i, halfway)
            else:
                out[:, i] = halfway
    return out if chosen else None


def not_finite(rows: dict[str, Array], name: str, value: float) -> dict[str, Array]:
    """Rows of which all but each fourth hold this value somewhere in one input, each in another place."""
    array = rows[name].copy()
    flat = array.reshape(len(array), -1)
    places = np.random.default_rng(0).integers(0, flat.shape[1], len(flat))
    chosen = np.flatnonzero(np.arange(len(flat)) % 4 != 3)
    flat[chosen, places[chosen]] = value
    return {**rows, name: flat.reshape(array.shape)}

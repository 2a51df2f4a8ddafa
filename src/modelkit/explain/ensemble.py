"""Decode a tree ensemble of an ONNX graph into leaves: a value, and the conditions on the way to it.

Operators: TreeEnsembleRegressor and TreeEnsembleClassifier (ai.onnx.ml 1 to 3) and TreeEnsemble
    (5).

All is done in arrays. With an object for each condition of each leaf, the garbage collector alone
kept other threads waiting for a tenth of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.errors import importing

with importing("onnx", "explaining a model", "explain"):
    import onnx
    from onnx import numpy_helper

TREES = ("TreeEnsembleRegressor", "TreeEnsembleClassifier", "TreeEnsemble")
MODES = (
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_GTE",
    "BRANCH_GT",
    "BRANCH_EQ",
    "BRANCH_NEQ",
    "BRANCH_MEMBER",
)
LEQ, LT, GTE, GT, EQ, NEQ, MEMBER = range(len(MODES))
LEAF = -1
AVERAGE, SUM = 0, 1
MOST_MEMBERS = 30  # beyond, onnxruntime refuses a set or takes fractions for its members
LINKS = {"NONE": "identity", "LOGISTIC": "logistic", "SOFTMAX": "softmax"}
READ = 1 << 14  # numbers of an attribute at once
WALKED = 1 << 18  # cells of leaves by columns at once

Sets = tuple[
    tuple[float, ...] | None, tuple[float, ...]
]  # one of the first (None: any number), none of the second
FREE: Sets = (None, ())


class NotDecodableError(Exception):
    """An ensemble that is no sum of leaves over plain conditions; its text says why."""


@dataclass(frozen=True)
class Conditions:
    """By number: `low < x <= high` on a column, or a missing x where `missing`.

    Of some, `sets` asks for more.
    """

    column: Array
    low: Array
    high: Array
    missing: Array
    sets: dict[int, Sets]

    def met(self, rows: Array) -> Array:
        """(n, conditions) of bool, for rows of the type of `low`."""
        values = rows.take(self.column, axis=1)
        met: Array = values <= self.high
        met &= values > self.low
        if not np.isfinite(
            rows
        ).all():  # an infinity is above an open bound, though not by "low < x"
            met |= np.isneginf(values) & np.isneginf(self.low)
        for i, (among, apart) in self.sets.items():
            if among is not None:
                met[:, i] &= np.isin(values[:, i], among)
            met[:, i] &= ~np.isin(values[:, i], apart)
        if np.isnan(rows).any():
            met = np.where(np.isnan(values), self.missing, met)
        return met

    def take(self, chosen: Array) -> Conditions:
        """Those of some numbers, which are numbered anew."""
        sets = (
            {i: self.sets[n] for i, n in enumerate(chosen.tolist()) if n in self.sets}
            if self.sets
            else {}
        )
        return Conditions(
            self.column[chosen], self.low[chosen], self.high[chosen], self.missing[chosen], sets
        )

    def both(self, other: Conditions) -> Conditions:
        """For each number, the condition that holds where those of both do; the columns are those of `other`."""
        sets = {
            i: _both(self.sets.get(i, FREE), other.sets.get(i, FREE))
            for i in self.sets.keys() | other.sets.keys()
        }
        low, high = np.maximum(self.low, other.low), np.minimum(self.high, other.high)
        return Conditions(other.column, low, high, self.missing & other.missing, sets)

    def first_equal(self) -> Array:
        """Of each condition, the number of the first that asks for the same."""
        seen: dict[Sets, int] = {}
        sets = np.zeros(len(self.column), np.intp)
        for i, asked in self.sets.items():
            sets[i] = seen.setdefault(asked, len(seen) + 1)
        fields = (sets, self.missing, self.high, self.low, self.column)
        order = np.lexsort(fields)
        new = np.ones(len(order), bool)
        new[1:] = np.logical_or.reduce([field[order[1:]] != field[order[:-1]] for field in fields])
        first = np.empty(len(order), np.intp)
        first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
        return first


@dataclass(frozen=True)
class Leaves:
    """All leaves of an ensemble: the sum of `values` of those whose conditions hold, plus `base`, is its output.

    `values` is (leaves, outputs). A leaf asks for the conditions `path[starts[i] : starts[i + 1]]`,
    at most one for each column and in the order of the columns. `dtype` is the type in which a
    column is compared.
    """

    values: Array
    conditions: Conditions
    path: Array
    starts: Array
    base: Array
    link: str
    dtype: Any


@dataclass(frozen=True)
class _Nodes:
    """`child` is (2, nodes): where the true and the false branch go; `leaf` the row in `values`, or -1."""

    mode: Array
    column: Array
    value: Array
    child: Array
    missing: Array
    members: dict[int, tuple[float, ...]]
    leaf: Array
    values: Array
    roots: Array


def decode(node: onnx.NodeProto, dtype: Any, table: Array | None = None) -> Leaves:
    """The leaves of a tree ensemble node whose input has the numpy type `dtype`.

    With a `table`, each tree has an output of its own, the number of a row of it, and the sum of
    these rows is decoded.

    Raises NotDecodableError.
    """
    given = {
        attribute.name.removesuffix("_as_tensor"): _value(attribute) for attribute in node.attribute
    }
    new = node.op_type == "TreeEnsemble"
    nodes = _read_new(given, table) if new else _read_old(given, node.op_type)
    aggregate = int(given.get("aggregate_function", SUM)) if new else _aggregate(given)
    if aggregate not in (AVERAGE, SUM):
        raise NotDecodableError("the trees are not summed but their least or largest is taken")
    link = _link(given, new=new)
    outputs = nodes.values.shape[1]
    base = np.zeros(outputs)
    if "base_values" in given and len(given["base_values"]):
        if len(given["base_values"]) != outputs:
            raise NotDecodableError(
                f"the trees have {outputs} outputs and {len(given['base_values'])} base values"
            )
        base = np.asarray(given["base_values"], np.float64)
        if outputs > 1 and any(base[i] and not _always(given, i) for i in range(outputs)):
            raise NotDecodableError("onnxruntime leaves a base value out where no leaf adds to it")
    values, conditions, path, starts = _walk(nodes, dtype)
    scale = 1 / len(nodes.roots) if aggregate == AVERAGE else 1.0
    return Leaves(values * scale, conditions, path, starts, base, link, dtype)


def _always(given: dict[str, Any], output: int) -> bool:
    """Whether one tree has a weight of this output in every leaf."""
    kind = "target" if "target_ids" in given else "class"
    trees = given["nodes_treeids"]
    leaf = _modes(given) == LEAF
    weighed = _keys(given, kind)[given[f"{kind}_ids"] == output]
    return len(np.setdiff1d(trees, trees[leaf & ~np.isin(_keys(given, "nodes"), weighed)])) > 0


def _value(attribute: onnx.AttributeProto) -> Any:
    if attribute.HasField("t"):
        return numpy_helper.to_array(attribute.t)
    # In slices: a list of a hundred thousand at once would keep other threads waiting for 5 ms and
    # more.
    for many in (attribute.ints, attribute.floats, attribute.strings):
        if len(many):
            return np.concatenate(
                [np.array(many[start : start + READ]) for start in range(0, len(many), READ)]
            )
    return onnx.helper.get_attribute_value(attribute)


def _aggregate(given: dict[str, Any]) -> int:
    name = given.get("aggregate_function", b"SUM").decode()
    return {"AVERAGE": AVERAGE, "SUM": SUM}.get(name, -1)


def _link(given: dict[str, Any], *, new: bool) -> str:
    raw = given.get("post_transform", 0 if new else b"NONE")
    names = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
    name = names[int(raw)] if new else raw.decode()
    if name not in LINKS:
        raise NotDecodableError(f"the ensemble ends in {name}")
    return LINKS[name]


def _keys(given: dict[str, Any], kind: str, nodes: str = "nodeids") -> Array:
    """One number for each pair of a tree and a node, by which the older operators address a node."""
    keys: Array = (
        given[f"{kind}_treeids"] * (given["nodes_nodeids"].max() + 1) + given[f"{kind}_{nodes}"]
    )
    return keys


def _modes(given: dict[str, Any]) -> Array:
    modes = np.asarray(given["nodes_modes"])
    number = np.full(len(modes), LEAF, np.int8)
    for i, mode in enumerate(MODES):
        number[modes == mode.encode()] = i
    return number


def _read_old(given: dict[str, Any], op: str) -> _Nodes:
    """Nodes of the operators that address them by (tree, node)."""
    kind = "target" if op == "TreeEnsembleRegressor" else "class"
    keys, mode = _keys(given, "nodes"), _modes(given)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    ids = given[f"{kind}_ids"]
    if kind == "target":
        outputs = int(given.get("n_targets", 1))
    else:
        outputs = len(given.get("classlabels_int64s", ())) or len(
            given.get("classlabels_strings", ())
        )
        if outputs == 2 and (ids == ids[0]).all():  # one column of margins for two classes
            outputs, ids = 1, np.zeros_like(ids)
    inside = mode != LEAF
    leaf = np.where(inside, -1, np.cumsum(~inside) - 1)
    weighed = leaf[order[np.searchsorted(ordered, _keys(given, kind))]]
    if (weighed < 0).any():
        raise NotDecodableError("a node that is no leaf has a weight")
    count = len(keys) - int(inside.sum())
    weights = np.asarray(given[f"{kind}_weights"], np.float64)
    values = np.bincount(weighed * outputs + ids, weights, count * outputs).reshape(count, outputs)
    child = np.full((2, len(keys)), -1)
    for branch, which in enumerate(("true", "false")):
        to = _keys(given, "nodes", f"{which}nodeids")[inside]
        child[branch, inside] = order[np.searchsorted(ordered, to)]
    root = np.ones(len(keys), bool)
    root[child[:, inside]] = False
    missing = given.get("nodes_missing_value_tracks_true", np.zeros(len(keys)))
    return _Nodes(
        mode,
        given["nodes_featureids"],
        given["nodes_values"],
        child,
        np.asarray(missing, bool),
        {},
        leaf,
        values,
        np.flatnonzero(root),
    )


def dtype_of(node: onnx.NodeProto, otherwise: Any) -> Any:
    """The type in which an ensemble compares: TreeEnsemble (5) says so, the older operators go by what they read."""
    for attribute in node.attribute:
        if attribute.name == "nodes_splits":
            return np.float64 if attribute.t.data_type == onnx.TensorProto.DOUBLE else np.float32
    return otherwise


def _read_new(given: dict[str, Any], table: Array | None) -> _Nodes:
    """Nodes of TreeEnsemble (5), which keeps leaves apart: they follow the inner nodes here."""
    count, leaves = len(given["nodes_featureids"]), len(given["leaf_weights"])
    child = np.stack(
        [
            np.where(np.asarray(given[f"nodes_{which}leafs"], bool), count, 0)
            + np.asarray(given[f"nodes_{which}nodeids"])
            for which in ("true", "false")
        ]
    )
    outputs = int(given.get("n_targets", 1))
    values = np.zeros((leaves, outputs))
    values[np.arange(leaves), given["leaf_targetids"]] = given["leaf_weights"]
    if table is not None:
        if outputs != len(given["tree_roots"]):
            raise NotDecodableError(
                "the trees have not an output each, which would be a row of the table"
            )
        values = np.asarray(table[np.asarray(given["leaf_weights"]).astype(np.intp)], np.float64)
    sets: list[tuple[float, ...]] = [()]
    for value in given.get("membership_values", ()):
        if np.isnan(value):
            sets.append(())
        else:
            sets[-1] = (*sets[-1], float(value))
    mode = np.asarray(given["nodes_modes"], np.int8)
    order = iter(sets)
    members = {i: next(order, ()) for i in np.flatnonzero(mode == MEMBER).tolist()}
    if any(
        not (0 < value <= MOST_MEMBERS and value == int(value))
        for among in members.values()
        for value in among or (0,)
    ):
        raise NotDecodableError(
            f"a set of a branch holds other than 1 to {MOST_MEMBERS}, which onnxruntime misreads"
        )
    missing = np.asarray(given.get("nodes_missing_value_tracks_true", np.zeros(count)), bool)
    leaf = np.concatenate([np.full(count, -1), np.arange(leaves)])
    column, splits = given["nodes_featureids"], given["nodes_splits"]
    return _Nodes(
        mode, column, splits, child, missing, members, leaf, values, np.asarray(given["tree_roots"])
    )


def _walk(nodes: _Nodes, dtype: Any) -> tuple[Array, Conditions, Array, Array]:
    """Values, conditions, path and starts of every leaf that is not zero."""
    edges = _edges(nodes, dtype)
    columns = int(nodes.column.max(initial=0)) + 1
    step = max(1, WALKED * len(nodes.roots) // (columns * len(nodes.leaf)))
    parts: list[tuple[Array, Array, Array]] = []
    found: list[Conditions] = []
    count = 0
    for start in range(0, len(nodes.roots), step):
        leaves, conditions = _descend(nodes, edges, nodes.roots[start : start + step], columns)
        parts += [(values, sizes, path + count) for values, sizes, path in leaves]
        found.append(conditions)
        count += len(conditions.column)
    values, sizes, path = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    conditions = _joined(found)
    path = conditions.first_equal()[path]
    used = np.zeros(count, bool)
    used[path] = True
    path = (np.cumsum(used) - 1)[path]
    return (
        values,
        conditions.take(np.flatnonzero(used)),
        path,
        np.concatenate([[0], np.cumsum(sizes)]),
    )


def _descend(
    nodes: _Nodes, edges: Conditions, roots: Array, columns: int
) -> tuple[list[tuple[Array, Array, Array]], Conditions]:
    """Values, number of conditions and path of all leaves under some roots, level by level, and the conditions.

    `last` has for each way down and each column the condition on it, which is what the last node
    that reads the column asks, with all that was asked before; the condition 0 is none.
    """
    kind = edges.low.dtype
    known = Conditions(
        np.zeros(1, np.intp),
        np.array([-np.inf], kind),
        np.array([np.inf], kind),
        np.ones(1, bool),
        {},
    )
    leaves = []
    at, last = roots, np.zeros((len(roots), columns), np.intp)
    while len(at):
        ends = np.flatnonzero(nodes.leaf[at] >= 0)
        values = nodes.values[nodes.leaf[at[ends]]]
        kept = values.any(axis=1)
        asked = last[ends[kept]]
        leaves.append((values[kept], (asked > 0).sum(axis=1), asked[asked > 0]))
        inner = np.flatnonzero(nodes.leaf[at] < 0)
        row = np.arange(2 * len(inner))
        twice = inner[row // 2]  # `repeat` does not let other threads run
        at, last = at[twice], last[twice]
        edge = row % 2 * len(nodes.column) + at  # the true branch, then the false one
        column = nodes.column[at]
        more = known.take(last[row, column]).both(edges.take(edge))
        last[row, column] = len(known.column) + row
        known = _joined([known, more])
        at = nodes.child.reshape(-1)[edge]
    return leaves, known


def _joined(parts: list[Conditions]) -> Conditions:
    """The conditions of several, numbered on."""
    starts = np.cumsum([0, *(len(part.column) for part in parts)]).tolist()
    sets = {
        start + i: asked
        for start, part in zip(starts, parts, strict=False)
        for i, asked in part.sets.items()
    }
    return Conditions(
        np.concatenate([part.column for part in parts]),
        np.concatenate([part.low for part in parts]),
        np.concatenate([part.high for part in parts]),
        np.concatenate([part.missing for part in parts]),
        sets,
    )


def _both(one: Sets, other: Sets) -> Sets:
    among = one[0] if other[0] is None else other[0]
    if one[0] is not None and other[0] is not None:
        among = tuple(sorted(set(one[0]) & set(other[0])))
    return among, tuple(sorted({*one[1], *other[1]}))


def _edges(nodes: _Nodes, dtype: Any) -> Conditions:
    """What the true branches of all nodes ask, and then what the false ones do."""
    count = len(nodes.column)
    mode, value = nodes.mode[:count], nodes.value.astype(dtype)
    # x < v is x <= the number before v, but before minus infinity there is none
    strict = (mode == LT) | (mode == GTE)
    bottom = strict & np.isneginf(value)
    bound = np.where(strict & ~bottom, np.nextafter(value, dtype(-np.inf)), value)
    below, above = (np.isin(mode, modes) & ~bottom for modes in ((LEQ, LT), (GT, GTE)))
    high = np.where(np.concatenate([below, above]), np.tile(bound, 2), dtype(np.inf))
    low = np.where(np.concatenate([above, below]), np.tile(bound, 2), dtype(-np.inf))
    missing = np.stack([nodes.missing, ~nodes.missing])
    missing[:, mode == NEQ] = [
        [True],
        [False],
    ]  # a missing value differs from every number, whatever the graph says
    sets: dict[int, Sets] = {}
    for i in np.flatnonzero((mode != LEAF) & (~(below | above) | np.isneginf(bound))).tolist():
        one, other = _sets(
            int(mode[i]), float(bound[i]), nodes.members.get(i, ()), bottom=bool(bottom[i])
        )
        sets |= {number: asked for number, asked in ((i, one), (count + i, other)) if asked != FREE}
    return Conditions(np.tile(nodes.column, 2), low, high, missing.reshape(-1), sets)


def _sets(
    mode: int, value: float, members: tuple[float, ...], *, bottom: bool
) -> tuple[Sets, Sets]:
    """What the true and the false branch ask beyond bounds; whatever is above an open bound is apart from it."""
    equal, apart = (members or (value,), ()), (None, members or (value,))
    first: Sets = ((), ()) if bottom else FREE if mode in (LEQ, LT, GTE, GT) else equal
    second: Sets = FREE if bottom else apart
    return (second, first) if mode in (GTE, GT, NEQ) else (first, second)

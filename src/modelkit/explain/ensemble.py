"""Decode a tree ensemble of an ONNX graph into leaves: a value, and the conditions on the way to it.

Operators: TreeEnsembleRegressor and TreeEnsembleClassifier (ai.onnx.ml 1 to 3) and TreeEnsemble (5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from modelkit.cast import Array

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
AVERAGE, SUM = 0, 1
MOST_MEMBERS = 30  # beyond, onnxruntime refuses a set or takes fractions for its members
LINKS = {"NONE": "identity", "LOGISTIC": "logistic", "SOFTMAX": "softmax"}


class NotDecodableError(Exception):
    """An ensemble that is no sum of leaves over plain conditions; its text says why."""


@dataclass(frozen=True, order=True)
class Condition:
    """`low < x <= high` on a column, or a missing x where `missing`; beyond that, one of `among`, none of `apart`."""

    column: int
    low: float = -np.inf
    high: float = np.inf
    missing: bool = True
    among: tuple[float, ...] | None = None
    apart: tuple[float, ...] = ()

    def both(self, other: Condition) -> Condition:
        """The condition that holds where both do."""
        among = self.among if other.among is None else other.among
        if self.among is not None and other.among is not None:
            among = tuple(sorted(set(self.among) & set(other.among)))
        return Condition(
            self.column,
            max(self.low, other.low),
            min(self.high, other.high),
            self.missing and other.missing,
            among,
            tuple(sorted({*self.apart, *other.apart})),
        )


@dataclass(frozen=True)
class Leaves:
    """All leaves of an ensemble: the sum of `values` of those whose conditions hold, plus `base`, is its output.

    `values` is (leaves, outputs); `paths` has for each leaf the conditions, at most one a column; `dtype` is the type
    in which a column is compared.
    """

    values: Array
    paths: list[tuple[Condition, ...]]
    base: Array
    link: str
    dtype: Any


@dataclass(frozen=True)
class _Nodes:
    mode: Array
    column: Array
    value: Array
    true: Array
    false: Array
    missing: Array
    members: list[tuple[float, ...] | None]
    leaf: list[Array | None]
    roots: list[int]


def decode(node: onnx.NodeProto, dtype: Any) -> Leaves:
    """The leaves of a tree ensemble node whose input has the numpy type `dtype`. Raises NotDecodableError."""
    given = {attribute.name.removesuffix("_as_tensor"): _value(attribute) for attribute in node.attribute}
    new = node.op_type == "TreeEnsemble"
    nodes, outputs = (_read_new if new else _read_old)(given, node.op_type)
    aggregate = int(given.get("aggregate_function", SUM)) if new else _aggregate(given)
    if aggregate not in (AVERAGE, SUM):
        raise NotDecodableError("the trees are not summed but their least or largest is taken")
    link = _link(given, new=new)
    scale = 1 / len(nodes.roots) if aggregate == AVERAGE else 1.0
    values: list[Array] = []
    paths: list[tuple[Condition, ...]] = []
    for root in nodes.roots:
        for value, path in _walk(nodes, root, dtype):
            values.append(value * scale)
            paths.append(path)
    base = np.zeros(outputs)
    if "base_values" in given and len(given["base_values"]):
        if len(given["base_values"]) != outputs:
            raise NotDecodableError(f"the trees have {outputs} outputs and {len(given['base_values'])} base values")
        base = np.asarray(given["base_values"], np.float64)
        if outputs > 1 and any(base[i] and not _always(given, i) for i in range(outputs)):
            raise NotDecodableError("onnxruntime leaves a base value out where no leaf adds to it")
    return Leaves(np.array(values).reshape(len(values), outputs), paths, base, link, dtype)


def _always(given: dict[str, Any], output: int) -> bool:
    """Whether one tree has a weight of this output in every leaf."""
    kind = "target" if "target_ids" in given else "class"
    of_leaves = zip(given["nodes_treeids"], given["nodes_nodeids"], given["nodes_modes"], strict=True)
    of_weights = zip(given[f"{kind}_treeids"], given[f"{kind}_nodeids"], given[f"{kind}_ids"], strict=True)
    weighed = {(tree, node) for tree, node, i in of_weights if i == output}
    lacking = {tree for tree, node, mode in of_leaves if mode == b"LEAF" and (tree, node) not in weighed}
    return not set(given["nodes_treeids"]) <= lacking


def _value(attribute: onnx.AttributeProto) -> Any:
    if attribute.HasField("t"):
        return numpy_helper.to_array(attribute.t)
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


def _read_old(given: dict[str, Any], op: str) -> tuple[_Nodes, int]:
    """Nodes of the operators that address them by (tree, node)."""
    kind = "target" if op == "TreeEnsembleRegressor" else "class"
    keys = list(zip(given["nodes_treeids"], given["nodes_nodeids"], strict=True))
    at = {key: i for i, key in enumerate(keys)}
    modes = [mode.decode() for mode in given["nodes_modes"]]
    count = len(keys)
    ids = np.asarray(given[f"{kind}_ids"])
    if kind == "target":
        outputs = int(given.get("n_targets", 1))
    else:
        outputs = len(given.get("classlabels_int64s", ())) or len(given.get("classlabels_strings", ()))
        if outputs == 2 and len(set(ids.tolist())) == 1:  # one column of margins for two classes
            outputs, ids = 1, np.zeros_like(ids)
    leaf: list[Array | None] = [np.zeros(outputs) if mode == "LEAF" else None for mode in modes]
    weights = np.asarray(given[f"{kind}_weights"], np.float64)
    for tree, number, i, weight in zip(given[f"{kind}_treeids"], given[f"{kind}_nodeids"], ids, weights, strict=True):
        cell = leaf[at[tree, number]]
        if cell is None:
            raise NotDecodableError("a node that is no leaf has a weight")
        cell[i] += weight
    inner = np.array([mode != "LEAF" for mode in modes])
    true, false = (
        np.array([at[tree, child] if i else -1 for (tree, _), child, i in zip(keys, given[name], inner, strict=True)])
        for name in ("nodes_truenodeids", "nodes_falsenodeids")
    )
    missing = given.get("nodes_missing_value_tracks_true", [0] * count)
    reached = {*true[inner].tolist(), *false[inner].tolist()}
    roots = [i for i in range(count) if i not in reached]
    nodes = _Nodes(
        np.array([MODES.index(mode) if mode in MODES else -1 for mode in modes]),
        np.asarray(given["nodes_featureids"]),
        np.asarray(given["nodes_values"]),
        true,
        false,
        np.asarray(missing, bool),
        [None] * count,
        leaf,
        roots,
    )
    return nodes, outputs


def _read_new(given: dict[str, Any], op: str) -> tuple[_Nodes, int]:
    """Nodes of TreeEnsemble (5), which keeps leaves apart: they follow the inner nodes here."""
    del op
    count, leaves = len(given["nodes_featureids"]), len(given["leaf_weights"])
    outputs = int(given.get("n_targets", 1))
    true, false = (
        np.where(np.asarray(given[f"nodes_{which}leafs"], bool), count, 0) + np.asarray(given[f"nodes_{which}nodeids"])
        for which in ("true", "false")
    )
    leaf: list[Array | None] = [None] * count
    for target, weight in zip(given["leaf_targetids"], given["leaf_weights"], strict=True):
        cell = np.zeros(outputs)
        cell[target] = weight
        leaf.append(cell)
    sets: list[tuple[float, ...]] = [()]
    for value in given.get("membership_values", ()):
        if np.isnan(value):
            sets.append(())
        else:
            sets[-1] = (*sets[-1], float(value))
    modes = np.asarray(given["nodes_modes"])
    order = iter(sets)
    members = [next(order, ()) if mode == MODES.index("BRANCH_MEMBER") else None for mode in modes]
    if any(not (0 < value <= MOST_MEMBERS and value == int(value)) for among in members for value in among or (0.0,)
           if among is not None):  # fmt: skip
        raise NotDecodableError(f"a set of a branch holds other than 1 to {MOST_MEMBERS}, which onnxruntime misreads")
    missing = np.asarray(given.get("nodes_missing_value_tracks_true", [0] * count), bool)
    nodes = _Nodes(
        np.concatenate([modes, np.full(leaves, -1)]),
        np.asarray(given["nodes_featureids"]),
        np.asarray(given["nodes_splits"]),
        true,
        false,
        missing,
        members,
        leaf,
        [int(root) for root in given["tree_roots"]],
    )
    return nodes, outputs


def _walk(nodes: _Nodes, root: int, dtype: Any) -> list[tuple[Array, tuple[Condition, ...]]]:
    """Every leaf under `root` that is not zero, with the conditions that lead to it."""
    found: list[tuple[Array, tuple[Condition, ...]]] = []
    todo: list[tuple[int, dict[int, Condition]]] = [(root, {})]
    while todo:
        at, path = todo.pop()
        value = nodes.leaf[at]
        if value is not None:
            if value.any():
                found.append((value, tuple(path[column] for column in sorted(path))))
            continue
        for child, condition in zip((nodes.true[at], nodes.false[at]), _branches(nodes, at, dtype), strict=True):
            before = path.get(condition.column)
            todo.append(
                (int(child), path | {condition.column: condition if before is None else before.both(condition)})
            )
    return found


def _branches(nodes: _Nodes, at: int, dtype: Any) -> tuple[Condition, Condition]:
    """The conditions of the true and the false branch of one node."""
    mode, column = MODES[nodes.mode[at]], int(nodes.column[at])
    value = dtype(nodes.value[at])
    missing = bool(nodes.missing[at])
    if mode in ("BRANCH_LT", "BRANCH_GTE"):  # x < v is x <= the number before v
        if value == -np.inf:  # before which there is none
            none = Condition(column, missing=missing == (mode == "BRANCH_LT"), among=())
            rest = Condition(column, missing=missing == (mode == "BRANCH_GTE"))
            return (none, rest) if mode == "BRANCH_LT" else (rest, none)
        value = np.nextafter(value, dtype(-np.inf))
    number = float(value)
    if mode in ("BRANCH_LEQ", "BRANCH_LT"):
        return Condition(column, high=number, missing=missing), _above(column, number, missing=not missing)
    if mode in ("BRANCH_GT", "BRANCH_GTE"):
        return _above(column, number, missing=missing), Condition(column, high=number, missing=not missing)
    if mode == "BRANCH_NEQ":  # a missing value differs from every number, whatever the attribute says
        return Condition(column, missing=True, apart=(number,)), Condition(column, missing=False, among=(number,))
    among = nodes.members[at] or (number,)
    return Condition(column, missing=missing, among=among), Condition(column, missing=not missing, apart=among)


def _above(column: int, number: float, *, missing: bool) -> Condition:
    """More than a number; a bound of minus infinity is an open one, so that the infinity itself is set apart."""
    return Condition(column, low=number, missing=missing, apart=(number,) if number == -np.inf else ())

"""What stands between an ensemble of trees and the value that it adds up to: a table of leaves, or one product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelkit.cast import Array
from modelkit.explain.ensemble import TREES

if TYPE_CHECKING:
    import onnx


def summed_rows(
    node: onnx.NodeProto | None, maker: dict[str, onnx.NodeProto], constants: dict[str, Array]
) -> tuple[str, Array] | None:
    """The output of an ensemble whose trees number rows of a table, and the table, where a node is the sum of these.

    The sum is the last of the running sums over the trees, or the one row of the one tree.
    """
    if node is None or not _is_gather(node, 1) or constants.get(node.input[1], np.zeros(1)).ndim:
        return None
    above = maker.get(node.input[0])
    last = int(constants[node.input[1]]) == -1
    if above is not None and above.op_type == "CumSum" and not any(a.i for a in above.attribute):
        axis = constants.get(above.input[1])
        last = last and axis is not None and int(axis.reshape(-1)[0]) == 1
        above = maker.get(above.input[0])
    elif above is not None:
        last = last and _trees_of(maker.get(above.input[-1]), maker) == 1
    if (
        above is None
        or not last
        or not _is_gather(above, 0)
        or constants.get(above.input[0], np.zeros(1)).ndim != 2
    ):
        return None
    number = maker.get(above.input[1])
    if number is None or number.op_type != "Cast" or not _trees_of(number, maker):
        return None
    return number.input[0], constants[above.input[0]]


def _is_gather(node: onnx.NodeProto, axis: int) -> bool:
    return (
        node.op_type == "Gather"
        and next((a.i for a in node.attribute if a.name == "axis"), 0) == axis
    )


def _trees_of(cast: onnx.NodeProto | None, maker: dict[str, onnx.NodeProto]) -> int:
    """How many trees an ensemble has whose output is cast; 0 where it is none."""
    made = None if cast is None or not cast.input else maker.get(cast.input[0])
    if made is None or made.op_type != "TreeEnsemble":
        return 0
    return next((len(a.ints) for a in made.attribute if a.name == "tree_roots"), 0)


def before_factor(
    name: str, maker: dict[str, onnx.NodeProto], constants: dict[str, Array]
) -> tuple[str, float]:
    """Walk back from a value before its link over one product with a number, where trees are behind it."""
    node = maker.get(name)
    if node is None or node.op_type not in ("Mul", "Div") or len(node.input) != 2:
        return name, 1.0
    number, made = constants.get(node.input[1]), maker.get(node.input[0])
    if number is None or number.size != 1 or made is None or made.op_type not in TREES:
        return name, 1.0
    factor = float(number.reshape(-1)[0])
    return node.input[0], factor if node.op_type == "Mul" else 1 / factor

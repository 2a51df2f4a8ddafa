"""Which columns of a table come out of sums and functions that libraries round otherwise.

Two libraries add up in other orders, and have exponentials of their own, so such a column is equal
to that of the source but for its last bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelkit.convert.estimators.tensors import Columns, Var

ROUNDED = (
    "MatMul", "Gemm", "Einsum", "ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSumExp",
    "Exp", "Log", "Pow", "Erf", "Tanh", "Sigmoid", "Softmax", "Sin", "Cos",
)  # fmt: skip


def rounded_columns(columns: Columns) -> list[bool]:
    """Whether each column comes out of such an operator."""
    found: list[bool] = []
    for part in columns.parts:
        found += _of_tensor(_info(part))
    return found


def _info(tensor: Var) -> Any:
    return tensor._var_info  # noqa: SLF001 - spox has no public way to what a tensor is made of


def _of_tensor(info: Any) -> list[bool]:
    """Whether each column of a matrix comes out of such an operator."""
    node = info._op  # noqa: SLF001 - as above
    if node.op_type.identifier == "Concat" and node.attrs.axis.value == 1:
        found: list[bool] = []
        for part in node.dependencies:
            found += _of_tensor(part)
        return found
    return [_is_rounded(info)] * info.type.shape[1]


def _is_rounded(info: Any) -> bool:
    """Whether any operator in front of a tensor is one of those."""
    return any(node.op_type.identifier in ROUNDED for node in _nodes_before(info))


def comes_from(tensor: Var, other: Var) -> bool:
    """Whether a tensor is made of another, or is that."""
    made = _info(other)._op  # noqa: SLF001 - as above
    return any(node is made for node in _nodes_before(_info(tensor)))


def _nodes_before(info: Any) -> Iterator[Any]:
    """The operators in front of a tensor, and the one that gives it."""
    waiting = [info._op]  # noqa: SLF001 - as above
    seen = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting += [given._op for given in node.dependencies]  # noqa: SLF001 - as above

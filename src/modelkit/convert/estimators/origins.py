"""What each column of a table is made of, by the operators that made it, which an array remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from modelkit.convert.estimators.tensors import Columns, key_of, width

ROUNDED = frozenset((
    "MatMul", "Gemm", "Einsum", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceL2",
    "ReduceLogSumExp", "Exp", "Log", "Pow", "Erf", "Tanh", "Sigmoid", "Softmax", "Sin", "Cos",
))  # fmt: skip
# Operators that make each column of the same column of what they are given.
COLUMNWISE = frozenset((
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Equal", "Erf", "Exp", "Floor", "Greater",
    "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "LabelEncoder", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod",
    "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Sub", "Sum", "Tanh",
    "Where", "Xor",
))  # fmt: skip
# Operators that make sums of sums; the latter where the other argument, of Div the second, is constant.
SUMS = ("Add", "Cast", "Identity", "Neg", "ReduceMean", "ReduceSum", "Sub", "Sum")
PRODUCTS = ("Div", "Gemm", "MatMul", "Mul")


@dataclass(frozen=True)
class Origin:
    """What a column is made of.

    `columns` are the places of given columns. `rounded` is whether libraries round it otherwise,
    `additive` whether it is a sum of functions of one given column each, and `same` whether it is
    one given column, maybe in another dtype.
    """

    columns: frozenset[int] = frozenset()
    rounded: bool = False
    additive: bool = True
    same: bool = True


def rounded_columns(columns: Columns) -> list[bool]:
    """Whether libraries round each column otherwise."""
    return [origin.rounded for origin in origins(columns, Columns(()))]


def origins(table: Columns, given: Columns) -> list[Origin]:
    """What each column of a table is made of, by the places of given columns."""
    known: dict[Any, list[Origin] | None] = {}  # by tensor: one for each column, or for all of them
    for part, its in given.spans:
        known[key_of(part)] = [Origin(frozenset([place])) for place in range(its.start, its.stop)]
    waiting = [key_of(part) for part in table.parts]
    while waiting:
        last = waiting.pop()
        if last in known:
            continue
        ahead = [each for each in last._op.dependencies if each not in known]  # no public way
        if ahead:
            waiting += [last, *ahead]
        else:
            known[last] = _made(last, known)
    return [each for part in table.parts for each in _spread(known[key_of(part)], width(part))]


def _made(info: Any, known: dict[Any, list[Origin] | None]) -> list[Origin] | None:
    """The origins of a tensor, from the origins of its operator's inputs; None for a constant."""
    node = info._op  # as above
    kind = node.op_type.identifier
    parts = list(node.dependencies)
    varying = [found for part in parts if (found := known[part]) is not None]
    if kind == "Constant" or (parts and not varying):
        return None
    apart = None not in [*map(_width, (info, *parts))]
    moved = _moved(node, kind, known) if apart else None
    if moved is not None:
        return moved
    if kind in ("Reshape", "Squeeze", "Unsqueeze") and _width(parts[0]) == 1:
        return known[parts[0]]
    scaled = len(varying) == 1 and (kind != "Div" or known[parts[0]] is not None)
    linear = info.type.dtype.kind == "f" and (kind in SUMS or (kind in PRODUCTS and scaled))
    join = partial(_joined, kind=kind, linear=linear)
    if apart and kind in COLUMNWISE:
        wide = max(map(len, varying))
        return [
            join(each) for each in zip(*(_spread(found, wide) for found in varying), strict=True)
        ]
    return [join([each for found in varying for each in found])]


def _moved(node: Any, kind: str, known: dict[Any, list[Origin] | None]) -> list[Origin] | None:
    """The origins of what an operator makes that only moves columns; None for any other."""
    parts = list(node.dependencies)
    if kind == "Concat" and node.attrs.axis.value == 1:
        return [each for part in parts for each in _spread(known[part], _width(part))]
    picks = kind == "ArrayFeatureExtractor" or (kind == "Gather" and node.attrs.axis.value == 1)
    if picks and known[parts[1]] is None:
        columns = _spread(known[parts[0]], _width(parts[0]))
        return [columns[place] for place in np.ravel(parts[1]._op.attrs.value.value)]  # as above
    return None


def _joined(origins: Sequence[Origin], kind: str, *, linear: bool) -> Origin:
    """The origin of what an operator makes of several; `linear` is whether it keeps a sum a sum."""
    columns = frozenset[int]().union(*(each.columns for each in origins))
    return Origin(
        columns,
        kind in ROUNDED or any(each.rounded for each in origins),
        len(columns) <= 1 or (linear and all(each.additive for each in origins)),
        kind in ("Cast", "Identity") and all(each.same for each in origins),
    )


def _spread(origins: list[Origin] | None, count: int) -> list[Origin]:
    """One origin for each column."""
    origins = origins or [Origin()]
    return origins * count if len(origins) == 1 else origins


def _width(info: Any) -> Any:
    """How many columns a tensor has; None where that cannot be told."""
    shape = getattr(info.type, "shape", None)
    if shape is None or len(shape) > 2:
        return None
    return 1 if len(shape) < 2 else shape[1] if isinstance(shape[1], int) else None

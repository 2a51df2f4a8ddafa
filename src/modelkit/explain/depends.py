"""Which raw columns each tensor of a graph depends on, operator by operator, and whether it is a sum over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.errors import importing
from modelkit.explain.ensemble import TREES
from modelkit.signature import Signature

with importing("onnx", "explaining a model", "explain"):
    import onnx
    from onnx import TensorProto, helper

ELEMENTWISE = frozenset((
    "Abs", "Add", "And", "Binarizer", "Cast", "Ceil", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Greater",
    "GreaterOrEqual", "HardSigmoid", "Identity", "Imputer", "IsInf", "IsNaN", "LabelEncoder", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round",
    "Scaler", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "StringNormalizer", "Sub", "Tanh",
    "ThresholdedRelu", "Where", "Xor",
))  # fmt: skip


@dataclass(frozen=True)
class Depends:
    """For each column of a matrix, the raw columns it depends on; whether all are sums of functions of one each."""

    columns: tuple[frozenset[int], ...]  # in the order of memory
    additive: bool
    block: int | None = (
        None  # the size of a third dimension, after a one-hot encoder; None for a matrix
    )

    @property
    def single(self) -> bool:
        """Whether every column depends on at most one raw column."""
        return all(len(columns) <= 1 for columns in self.columns)


def trace(
    proto: onnx.ModelProto, signature: Signature, constants: dict[str, Array]
) -> dict[str, Depends]:
    """What each matrix of the graph depends on, for as far as the operators are understood."""
    known: dict[str, Depends] = {}
    at = 0
    for spec in signature.inputs:
        width = spec.shape[1] if len(spec.shape) == 2 else None
        if not isinstance(width, int):
            return {}
        known[spec.name] = Depends(tuple(frozenset({at + i}) for i in range(width)), additive=True)
        at += width
    for node in proto.graph.node:
        given = [known[i] if i in known else constants.get(i) for i in node.input if i]
        if any(value is None for value in given) or not node.output or not given:
            continue
        if node.domain not in (
            "",
            "ai.onnx",
            "ai.onnx.ml",
        ):  # a function may have the name of an operator
            continue
        found = _step(node, given)
        if found is not None:
            known[node.output[0]] = found
    return known


def _step(node: onnx.NodeProto, given: list[Any]) -> Depends | None:
    """What the first output of a node depends on; None for what is not understood."""
    tensors = [value for value in given if isinstance(value, Depends)]
    numbers = [value for value in given if not isinstance(value, Depends)]
    if not tensors:
        return None
    first = tensors[0]
    op = node.op_type
    if op in ELEMENTWISE:
        return _elementwise(node, given)
    if op in TREES:  # the lists in its attributes are long
        return None
    options = {
        attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute
    }
    if op == "Concat" and not numbers:
        return _concat(tensors, options.get("axis"))
    if (
        op in ("Gather", "ArrayFeatureExtractor")
        and numbers
        and given[0] is first
        and first.block is None
    ):
        return _pick(op, first, numbers, options)
    if (
        op == "Gather"
        and numbers
        and given[1] is first
        and len(first.columns) == 1
        and np.ndim(given[0]) == 2
    ):
        wide = (
            given[0].shape[1] if options.get("axis", 0) == 0 else 0
        )  # a row of a table for each code
        return Depends(first.columns * wide, additive=first.single) if wide else None
    if op == "OneHotEncoder" and first.block is None:
        block = len(options.get("cats_int64s", ())) or len(options.get("cats_strings", ()))
        columns = tuple(column for column in first.columns for _ in range(block))
        return Depends(columns, additive=True, block=block) if first.single else None
    if op == "Reshape" or (op == "Flatten" and options.get("axis", 1) == 1):
        return _reshape(op, first, numbers) if given[0] is first else None
    if op in ("MatMul", "Gemm", "LinearRegressor") and first.block is None:
        return _product(op, given, first, options)
    return None


def _elementwise(node: onnx.NodeProto, given: list[Any]) -> Depends | None:
    tensors = [value for value in given if isinstance(value, Depends)]
    numbers = [value for value in given if not isinstance(value, Depends)]
    block = tensors[0].block
    if len({t.block for t in tensors}) > 1 or any(
        n.ndim > 2 or (n.ndim == 2 and n.shape[0] != 1) for n in numbers
    ):
        return None
    wide = [n.shape[-1] for n in numbers if n.ndim]
    if block is not None:  # no broadcasting in three dimensions but of constants, over the last
        if (
            any(size not in (1, block) for size in wide)
            or len({len(t.columns) for t in tensors}) > 1
        ):
            return None
        wide = []
    width = max([*wide, *(len(t.columns) for t in tensors)])
    if any(len(t.columns) not in (1, width) for t in tensors):
        return None
    columns = tuple(
        frozenset().union(*(t.columns[i if len(t.columns) > 1 else 0] for t in tensors))
        for i in range(width)
    )
    op = node.op_type
    if op == "Cast":
        to = next(a.i for a in node.attribute if a.name == "to")
        adds = to in (TensorProto.FLOAT, TensorProto.DOUBLE)
    else:
        scales = op == "Mul" or (op == "Div" and isinstance(given[0], Depends))
        adds = op in ("Add", "Sub", "Neg", "Identity", "Scaler") or (scales and len(tensors) == 1)
    single = all(len(c) <= 1 for c in columns)
    return Depends(columns, single or (adds and all(t.additive for t in tensors)), block)


def _concat(tensors: list[Depends], axis: int | None) -> Depends | None:
    additive = all(t.additive for t in tensors)
    columns: tuple[frozenset[int], ...] = sum((t.columns for t in tensors), ())
    if all(t.block is None for t in tensors) and axis in (1, -1):
        return Depends(columns, additive)
    if all(t.block == len(t.columns) for t in tensors) and axis in (
        2,
        -1,
    ):  # of one-hot encoders of one column
        return Depends(columns, additive, len(columns))
    return None


def _pick(op: str, first: Depends, numbers: list[Array], options: dict[str, Any]) -> Depends | None:
    if op == "Gather" and options.get("axis", 0) not in (1, -1):
        return None
    chosen = np.asarray(numbers[0]).reshape(-1)
    if len(chosen) and not (
        -len(first.columns) <= chosen.min() and chosen.max() < len(first.columns)
    ):
        return None
    return Depends(tuple(first.columns[int(i)] for i in chosen), first.additive)


def _reshape(op: str, first: Depends, numbers: list[Array]) -> Depends | None:
    width = len(first.columns)
    if op == "Reshape":
        target = [int(size) for size in numbers[0].reshape(-1)] if numbers else []
        flat = (
            len(target) == 2
            and target[0] in (-1, 0)
            and target[1] in (width, -1)
            and target != [-1, -1]
        )
        if not flat and not (len(target) == 1 and width == 1):
            return None
    return Depends(first.columns, first.additive)


def _product(op: str, given: list[Any], first: Depends, options: dict[str, Any]) -> Depends | None:
    """A product with constants: a sum over all columns, additive where they are."""
    if op == "LinearRegressor":
        outputs = int(options.get("targets", 1))
        if options.get("post_transform", b"NONE") != b"NONE":
            return None
    else:
        if (
            not isinstance(given[0], Depends)
            or isinstance(given[1], Depends)
            or np.ndim(given[1]) not in (1, 2)
        ):
            return None
        if options.get("transA", 0) or (len(given) > 2 and isinstance(given[2], Depends)):
            return None
        outputs = 1 if given[1].ndim == 1 else given[1].shape[0 if options.get("transB", 0) else 1]
    union: frozenset[int] = frozenset().union(*first.columns)
    return Depends((union,) * outputs, first.additive)

"""Which raw columns each tensor of a graph depends on, operator by operator.

And whether a tensor is a sum of functions of one raw column each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.explain.graph import option
from modelkit.signature.signature import Signature

with importing("onnx", "explaining a model", "explain"):
    import onnx
    from onnx import TensorProto

ELEMENTWISE = frozenset((
    "Abs", "Add", "And", "Binarizer", "Cast", "Ceil", "Clip", "Div", "Elu", "Equal", "Erf",
    "Exp", "Floor", "Greater", "GreaterOrEqual", "HardSigmoid", "Identity", "Imputer", "IsInf",
    "IsNaN", "LabelEncoder", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod",
    "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Scaler", "Selu",
    "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "StringNormalizer", "Sub", "Tanh",
    "ThresholdedRelu", "Where", "Xor",
))  # fmt: skip
SUMS = ("Add", "Sub", "Neg", "Identity", "Scaler")  # they keep a sum a sum
OPERATOR_DOMAINS = (
    "",
    "ai.onnx",
    "ai.onnx.ml",
)  # elsewhere a function may have the name of an operator


@dataclass(frozen=True)
class Depends:
    """For each column of a matrix, the raw columns it depends on, in the order of memory.

    `additive` says whether all are sums of functions of one raw column each. `block` is the size of
    a third dimension, after a one-hot encoder, and None for a matrix.
    """

    columns: tuple[frozenset[int], ...]
    additive: bool
    block: int | None = None

    @property
    def single(self) -> bool:
        """Whether every column depends on at most one raw column."""
        return all(len(columns) <= 1 for columns in self.columns)


@dataclass(frozen=True)
class _Operation:
    """A node, and what its inputs are: matrices with what they depend on, or constants."""

    node: onnx.NodeProto
    given: tuple[Depends | Array, ...]

    @property
    def matrices(self) -> list[Depends]:
        return [value for value in self.given if isinstance(value, Depends)]

    @property
    def constants(self) -> list[Array]:
        return [value for value in self.given if not isinstance(value, Depends)]

    def option(self, name: str, otherwise: Any = None) -> Any:
        return option(self.node, name, otherwise)


def trace(
    proto: onnx.ModelProto, signature: Signature, constants: dict[str, Array]
) -> dict[str, Depends]:
    """What each matrix of the graph depends on, as far as the operators are understood."""
    known = _inputs(signature)
    if not known:
        return {}
    for node in proto.graph.node:
        rule = RULES.get(node.op_type)
        if rule is None or node.domain not in OPERATOR_DOMAINS or not node.output:
            continue
        operation = _operation(node, known, constants)
        found = None if operation is None else rule(operation)
        if found is not None:
            known[node.output[0]] = found
    return known


def _operation(
    node: onnx.NodeProto, known: dict[str, Depends], constants: dict[str, Array]
) -> _Operation | None:
    """A node with what its inputs are; None if one is not known or none is a matrix."""
    names = [name for name in node.input if name]
    given = [known.get(name, constants.get(name)) for name in names]
    operation = _Operation(node, tuple(value for value in given if value is not None))
    if len(operation.given) < len(names) or not operation.matrices:
        return None
    return operation


def _inputs(signature: Signature) -> dict[str, Depends]:
    """The inputs of a graph; none if one is no matrix of fixed width."""
    known = {}
    at = 0
    for spec in signature.inputs:
        width = spec.shape[1] if len(spec.shape) == 2 else None
        if not isinstance(width, int):
            return {}
        columns = tuple(frozenset({at + i}) for i in range(width))
        known[spec.name] = Depends(columns, additive=True)
        at += width
    return known


# The rules: what the first output of a node depends on, or None if that is not understood.


def _elementwise(operation: _Operation) -> Depends | None:
    matrices = operation.matrices
    block = matrices[0].block
    if any(matrix.block != block for matrix in matrices):
        return None
    width = _common_width(matrices, operation.constants, block)
    if width is None:
        return None
    columns = tuple(_union(matrices, i) for i in range(width))
    single = all(len(column) <= 1 for column in columns)
    additive = _keeps_sums(operation) and all(matrix.additive for matrix in matrices)
    return Depends(columns, single or additive, block)


def _common_width(matrices: list[Depends], constants: list[Array], block: int | None) -> int | None:
    """The width to which all are broadcast; None if they do not go together column by column."""
    if not all(_is_row(value) for value in constants):
        return None
    widths = {len(matrix.columns) for matrix in matrices}
    constant_widths = {value.shape[-1] for value in constants if value.ndim}
    if block is None:
        width = max(widths | constant_widths)
        return width if widths <= {1, width} else None
    # In three dimensions only constants are broadcast, over the last.
    if len(widths) > 1 or not constant_widths <= {1, block}:
        return None
    return max(widths)


def _is_row(value: Array) -> bool:
    """Whether a constant is the same for all rows."""
    return value.ndim < 2 or (value.ndim == 2 and value.shape[0] == 1)


def _union(matrices: list[Depends], i: int) -> frozenset[int]:
    """The raw columns that column i of an elementwise result depends on."""
    found: frozenset[int] = frozenset()
    for matrix in matrices:
        at = i if len(matrix.columns) > 1 else 0
        found |= matrix.columns[at]
    return found


def _keeps_sums(operation: _Operation) -> bool:
    """Whether an elementwise operator makes sums of sums."""
    op = operation.node.op_type
    if op == "Cast":
        return operation.option("to") in (TensorProto.FLOAT, TensorProto.DOUBLE)
    if op in SUMS:
        return True
    if op == "Div" and not isinstance(operation.given[0], Depends):
        return False
    return op in ("Mul", "Div") and len(operation.matrices) == 1


def _concat(operation: _Operation) -> Depends | None:
    if operation.constants:
        return None
    matrices = operation.matrices
    axis = operation.option("axis")
    additive = all(matrix.additive for matrix in matrices)
    columns: tuple[frozenset[int], ...] = ()
    for matrix in matrices:
        columns += matrix.columns
    if axis in (1, -1) and all(matrix.block is None for matrix in matrices):
        return Depends(columns, additive)
    # The results of one-hot encoders of one column each.
    if axis in (2, -1) and all(matrix.block == len(matrix.columns) for matrix in matrices):
        return Depends(columns, additive, len(columns))
    return None


def _gather(operation: _Operation) -> Depends | None:
    source = operation.given[0]
    if isinstance(source, Depends):
        of_columns = operation.option("axis", 0) in (1, -1)
        return _pick(operation) if of_columns else None
    # A row of a table for each code.
    (codes,) = operation.matrices
    if len(codes.columns) != 1 or source.ndim != 2:
        return None
    width = source.shape[1]
    if operation.option("axis", 0) != 0 or not width:
        return None
    return Depends(codes.columns * width, additive=codes.single)


def _pick(operation: _Operation) -> Depends | None:
    """Some columns of a matrix, by number."""
    source = operation.given[0]
    if not isinstance(source, Depends) or source.block is not None:
        return None
    if not operation.constants:
        return None
    width = len(source.columns)
    chosen = operation.constants[0].reshape(-1).tolist()
    if not all(-width <= i < width for i in chosen):
        return None
    columns = tuple(source.columns[int(i)] for i in chosen)
    return Depends(columns, source.additive)


def _one_hot(operation: _Operation) -> Depends | None:
    source = operation.matrices[0]
    if source.block is not None or not source.single:
        return None
    numbers = operation.option("cats_int64s", ())
    block = len(numbers or operation.option("cats_strings", ()))
    columns = tuple(column for column in source.columns for _ in range(block))
    return Depends(columns, additive=True, block=block)


def _flatten(operation: _Operation) -> Depends | None:
    source = operation.given[0]
    if operation.option("axis", 1) != 1 or not isinstance(source, Depends):
        return None
    return Depends(source.columns, source.additive)


def _reshape(operation: _Operation) -> Depends | None:
    source = operation.given[0]
    if not isinstance(source, Depends):
        return None
    width = len(source.columns)
    target: list[int] = []
    if operation.constants:
        target = operation.constants[0].reshape(-1).tolist()
    one_column = len(target) == 1 and width == 1
    if not one_column and target not in ([-1, width], [0, width], [0, -1]):
        return None
    return Depends(source.columns, source.additive)


def _product(operation: _Operation) -> Depends | None:
    """A product with constants: a sum over all columns, additive where they are."""
    source = operation.matrices[0]
    outputs = _product_width(operation)
    if outputs is None or source.block is not None:
        return None
    union: frozenset[int] = frozenset().union(*source.columns)
    return Depends((union,) * outputs, source.additive)


def _product_width(operation: _Operation) -> int | None:
    """The columns of a product of a matrix with a constant one; None for other products."""
    given = operation.given
    if not isinstance(given[0], Depends) or len(operation.matrices) > 1:
        return None
    if operation.option("transA", 0):
        return None
    weights = operation.constants[0]
    if weights.ndim == 1:
        return 1
    if weights.ndim != 2:
        return None
    axis = 0 if operation.option("transB", 0) else 1
    return int(weights.shape[axis])


def _linear(operation: _Operation) -> Depends | None:
    source = operation.matrices[0]
    has_link = operation.option("post_transform", b"NONE") != b"NONE"
    if source.block is not None or has_link:
        return None
    outputs = int(operation.option("targets", 1))
    union: frozenset[int] = frozenset().union(*source.columns)
    return Depends((union,) * outputs, source.additive)


RULES: dict[str, Callable[[_Operation], Depends | None]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    "ArrayFeatureExtractor": _pick,
    "Concat": _concat,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _product,
    "LinearRegressor": _linear,
    "MatMul": _product,
    "OneHotEncoder": _one_hot,
    "Reshape": _reshape,
}

"""An array that writes what is computed with it into an ONNX graph.

Converters are functions of numpy: given an array they compute, and given a `Traced` they write the
graph, by numpy's protocols (NEP 13 and 18). It is a tensor of spox, which checks its type. What
numpy lacks a function for, or does not dispatch, is a function below that does both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from modelkit.errors import importing

with importing("spox", "writing a graph", "save"):
    import spox
    import spox.opset.ai.onnx.ml.v5
    import spox.opset.ai.onnx.v19


SCALING = (np.multiply, np.divide)
# Columns from which on numpy adds a row up in an order that its place in memory decides.
PAIRWISE = 8


class Traced(NDArrayOperatorsMixin, spox.Var):
    """A tensor of the graph, with the operators and functions of numpy.

    It remembers what explanations start from: `margin` is the tensor before a link that made it, and
    the link by name; `trees` of a sum of trees the rows that they read, a factor, the output of their
    operator, and the table whose rows it numbers, if there is one.
    """

    __hash__ = object.__hash__
    margin: tuple[Any, Any] | None = None
    trees: tuple[Any, ...] | None = None

    # What converters remember of it. What an operator makes of it is another array.
    input: str | None = None  # the name of the input that it is
    categories: tuple[Any, ...] = ()  # those of an input that is a column of pandas categories
    marks_none = False  # whether an input of texts has None for what is missing, and not NaN
    times: str | None = None  # the dtype of the times that it holds, as numpy writes it
    source_dtype: np.dtype[Any] | None = None  # if the source has it in another
    imputed: Any = None  # a mask: where it is rounded otherwise
    fill: Any = None  # of a column of texts that an imputer filled
    nonzeros: Any = None  # of a table that is zeros but for these: `NonZeros`
    one_hots: Any = ()  # those that it is, side by side: `product` looks their weights up

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its elements."""
        return self.unwrap_tensor().dtype

    @property
    def shape(self) -> tuple[Any, ...]:
        """Its sizes: a number, or a name or None where a size is not known."""
        return tuple(self.unwrap_tensor().shape or ())

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)

    @property
    def T(self) -> Any:  # noqa: N802 - numpy's name
        """Its axes in the other order."""
        return _transposed(self)

    def astype(self, dtype: Any) -> Any:
        """The same numbers in another dtype."""
        return self if self.dtype == dtype else self._in_form(op.cast(self, to=dtype))

    def reshape(self, *shape: int) -> Any:
        """The same numbers in another shape."""
        return self._in_form(op.reshape(self, constant(shape, np.int64)))

    def _in_form(self, same: Any) -> Any:
        """The same numbers in another form, which remembers what this tensor does."""
        same.margin, same.trees = self.margin, self.trees
        return same

    def __getitem__(self, key: Any) -> Any:
        """`x[:, places]`, `x[:, 1:3]`, `x[:, 0]`, `x[:, None]`, `x[..., None]`: along one axis."""
        key = key if isinstance(key, tuple) else (key,)
        ((at, part),) = (pair for pair in enumerate(key) if not _takes_all(pair[1]))
        axis = at - len(key) if key[0] is Ellipsis else at
        if part is None:
            return op.unsqueeze(self, constant([axis], np.int64))
        if isinstance(part, slice):
            part = np.arange(self.shape[axis])[part]
        if np.ndim(part) == 1 == axis == self.ndim - 1 and self.dtype != np.bool_:
            # Of many rows in a seventh of the time that Gather takes.
            return ml.array_feature_extractor(self, constant(part, np.int64))
        return op.gather(self, constant(part, np.int64), axis=axis)

    def __bool__(self) -> NoReturn:
        raise TypeError("a graph cannot branch: write numpy.where(condition, a, b)")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        if method != "__call__" or named or ufunc.__name__ not in UFUNCS:
            raise TypeError(f"a graph cannot compute numpy.{ufunc.__name__}")
        made = UFUNCS[ufunc.__name__](*alike(inputs))
        of, *others = inputs
        if ufunc is np.exp:
            return linked(made, of, "exp")
        scaled = ufunc in SCALING and not isinstance(others[0], Traced) and np.ndim(others[0]) == 0
        if scaled and getattr(of, "trees", None):
            rows, factor, *sums = of.trees
            made.trees = (rows, float(ufunc(factor, *others)), *sums)
        return made

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        if function not in FUNCTIONS:
            raise TypeError(f"a graph cannot compute numpy.{function.__name__}")
        return FUNCTIONS[function](*args, **named)


def _takes_all(key: Any) -> bool:
    return key is Ellipsis or (isinstance(key, slice) and key == slice(None))


def linked(made: Any, margin: Any, link: str) -> Any:
    """What a link, "exp", "logistic", "softmax" or "share", made of a margin, which it remembers."""
    if isinstance(made, Traced):
        made.margin = (margin, link)
    return made


class _Operators:
    """A set of operators, which give traced arrays."""

    def __init__(self, operators: Any) -> None:
        self._operators = operators

    def __getattr__(self, name: str) -> Any:
        make = getattr(self._operators, name)
        return lambda *inputs, **named: traced(make(*inputs, **named))


def traced(found: Any) -> Any:
    """What an operator of spox gives, as traced arrays."""
    if isinstance(found, spox.Var):
        return Traced(found._var_info, found._value)
    return type(found)(map(traced, found))


op: Any = _Operators(spox.opset.ai.onnx.v19)
ml: Any = _Operators(spox.opset.ai.onnx.ml.v5)


build = spox.build


def variable(dtype: Any, shape: Any) -> Any:
    """An input of a graph."""
    return traced(spox.argument(spox.Tensor(np.dtype(dtype), shape)))


def constant(value: Any, dtype: Any = None) -> Any:
    """A tensor that is always the same."""
    return op.const(np.asarray(value, dtype))


def alike(values: Sequence[Any]) -> list[Any]:
    """Tensors, arrays and numbers as tensors of the one dtype in which numpy computes with them."""
    known = [
        value if isinstance(value, int | float | Traced) else np.asarray(value) for value in values
    ]
    dtype = np.result_type(*(getattr(value, "dtype", value) for value in known))
    dtype = np.dtype(np.str_) if dtype.kind == "U" else dtype
    return [
        each.astype(dtype) if isinstance(each, Traced) else constant(each, dtype) for each in known
    ]


def _reduced(name: str) -> Callable[..., Any]:
    def reduce(x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        axes = None if axis is None else constant(np.atleast_1d(axis) % x.ndim, np.int64)
        return getattr(op, name)(x, axes, keepdims=int(keepdims))

    return reduce


def _placed(name: str) -> Callable[..., Any]:
    def place(x: Any, axis: int, *, keepdims: bool = False) -> Any:
        return getattr(op, name)(x, axis=axis, keepdims=int(keepdims))

    return place


def _of_truths(function: Any) -> Callable[..., Any]:
    return lambda x, **named: function(x.astype(np.int32), **named).astype(np.bool_)


def _transposed(x: Any, axes: Any = None) -> Any:
    return op.transpose(x, perm=axes or range(x.ndim)[::-1])


def _where(condition: Any, *chosen: Any) -> Any:
    truth = condition if isinstance(condition, Traced) else constant(condition)
    return op.where(truth, *alike(chosen))


# By the name of a ufunc, of numpy or scipy: see `elementary`.
UFUNCS: dict[str, Callable[..., Any]] = {"matmul": op.matmul}
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.all: _of_truths(np.min),
    np.any: _of_truths(np.max),
    np.argmax: _placed("arg_max"),
    np.argmin: _placed("arg_min"),
    np.clip: lambda x, low, high: np.minimum(np.maximum(x, low), high),
    np.concatenate: lambda parts, axis=0: (
        parts[0] if len(parts) == 1 else op.concat(alike(parts), axis=axis)
    ),
    np.linalg.norm: lambda x: np.sqrt(op.reduce_sum_square(x, keepdims=0)),
    np.max: _reduced("reduce_max"),
    np.mean: _reduced("reduce_mean"),
    np.min: _reduced("reduce_min"),
    np.prod: _reduced("reduce_prod"),
    np.pad: lambda x, by, constant_values: op.pad(
        x, constant(np.ravel(by, "F"), np.int64), constant(constant_values, x.dtype)
    ),
    np.reshape: lambda x, shape: x.reshape(*np.atleast_1d(shape)),
    np.sort: lambda x, axis=-1: op.top_k(
        x, constant([x.shape[axis]], np.int64), axis=axis, largest=0
    )[0],
    np.sum: _reduced("reduce_sum"),
    np.take: lambda x, places, axis: op.gather(x, constant(places, np.int64), axis=axis),
    np.take_along_axis: lambda x, places, axis: op.gather_elements(x, places, axis=axis),
    np.transpose: _transposed,
    np.where: _where,
}


# Functions that numpy has not, or does not dispatch: of arrays and of tensors.


def affine(x: Any, weights: Any, shift: Any) -> Any:
    """A product with weights, and a shift of each column of it, in one operator."""
    if isinstance(x, Traced):
        return op.gemm(x, constant(weights, x.dtype), constant(shift, x.dtype))
    return x @ weights + shift


def _by_operator(operator: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: operator(x) if isinstance(x, Traced) else function(x)


def sigmoid(x: Any) -> Any:
    """The operator, which gives 0 below -37."""
    return linked(op.sigmoid(x), x, "logistic")


relu = _by_operator(op.relu, lambda x: np.maximum(x, 0.0))
# Exact for angles of few turns, unlike those of `elementary`, and five times as fast.
cos = _by_operator(op.cos, np.cos)
sin = _by_operator(op.sin, np.sin)


def softmax(x: Any) -> Any:
    """Of each row."""
    if isinstance(x, Traced):
        return linked(op.softmax(x, axis=1), x, "softmax")
    grown = np.exp(x - np.max(x, axis=1, keepdims=True))
    return grown / np.sum(grown, axis=1, keepdims=True)


def log_sum_exp(x: Any) -> Any:
    """(n, 1): the logarithm of the sum of the exponentials of each row."""
    if isinstance(x, Traced):
        return op.reduce_log_sum_exp(x, constant([1], np.int64))
    most = np.max(x, axis=1, keepdims=True)
    return np.log(np.sum(np.exp(x - most), axis=1, keepdims=True)) + most


def squares(x: Any, axis: int = 1, *, keepdims: bool = False) -> Any:
    """The sum of squares along an axis."""
    if isinstance(x, Traced):
        return op.reduce_sum_square(x, constant([axis], np.int64), keepdims=int(keepdims))
    return np.sum(x * x, axis=axis, keepdims=keepdims)


def smallest(x: Any, count: int) -> Any:
    """The places of the smallest numbers of each row in their order, of equals the first."""
    if isinstance(x, Traced):
        return op.top_k(x, constant([count], np.int64), axis=1, largest=0)[1]
    return np.argsort(x, axis=1, kind="stable")[:, :count]


def gathered(table: Any, places: Any) -> Any:
    """The rows of a table of numbers at some places."""
    if not isinstance(places, Traced):
        return np.asarray(table)[places]
    array = np.asarray(table)
    return op.gather(constant(array, np.float64 if array.dtype.kind == "f" else None), places)


def row_sums(x: Any) -> Any:
    """(n, 1): the sum of each row, equal to numpy's to the last bit where there are few columns."""
    if x.shape[1] >= PAIRWISE:
        return np.sum(x, axis=1, keepdims=True)
    return total([x[:, [place]] for place in range(x.shape[1])])


def repeated(value: Any, like: Any) -> Any:
    """The same numbers for each row of another array."""
    value = np.asarray(value)
    if not isinstance(like, Traced):
        return np.broadcast_to(value, (len(like), *value.shape))
    size = [op.shape(like, start=0, end=1), *([constant(value.shape)] if value.ndim else [])]
    return op.expand(constant(value), np.concatenate(size, axis=0))


def total(parts: Sequence[Any]) -> Any:
    """Their sum, added in their order."""
    if len(parts) > 1 and isinstance(parts[0], Traced):
        return op.sum(parts)
    return reduce(np.add, parts)


def norms(x: Any, name: str) -> Any:
    """(n, 1): the norm of each row, "l1", "l2" or "max"."""
    if name == "max":
        return np.max(np.abs(x), axis=1, keepdims=True)
    if isinstance(x, Traced):
        return getattr(op, f"reduce_{name}")(x, constant([1], np.int64))
    return np.linalg.norm(x, int(name[1:]), axis=1, keepdims=True)

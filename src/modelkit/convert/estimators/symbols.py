"""A stand-in for an array: a function that is given one writes down what it computes.

It follows numpy's protocols for functions of arrays (NEP 13 and 18), so that functions written with
numpy run on it. What has no operator raises ConversionError, and so does a function that asks for
numbers, as to choose between two branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from modelkit.convert.estimators.arithmetic import choose, over, row_sums
from modelkit.convert.estimators.elementary import BINARY, COMPARING, LOGICAL, UNARY
from modelkit.convert.estimators.tensors import (
    Var,
    cast,
    column,
    constant,
    dtype_of,
    flat,
    joined,
    op,
    picked,
    rank,
    width,
)
from modelkit.errors import ConversionError


class Symbol(NDArrayOperatorsMixin):
    """A tensor of float64 or of truth values, as a function of arrays sees it."""

    def __init__(self, tensor: Var) -> None:
        self.tensor = tensor

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return rank(self.tensor)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return dtype_of(self.tensor)

    @property
    def values(self) -> Symbol:
        """Itself, as a frame's array."""
        return self

    def to_numpy(self, *_: Any, **__: Any) -> Symbol:
        """Itself, as a frame's array."""
        return self

    def copy(self, *_: Any, **__: Any) -> Symbol:
        """Itself: nothing is written into it."""
        return self

    def astype(self, dtype: Any, **_: Any) -> Symbol:
        """The same numbers: whole ones are cut off, and kept as float64."""
        kind = np.dtype(dtype).kind
        numbers = floats(self.tensor)
        if kind in "iu":
            return Symbol(UNARY["trunc"](numbers))
        return Symbol(cast(numbers, np.bool_) if kind == "b" else numbers)

    def clip(self, *args: Any, **named: Any) -> Any:
        """As numpy.clip; a frame's names for the bounds are taken too."""
        renamed = {"lower": "a_min", "upper": "a_max", "min": "a_min", "max": "a_max"}
        bounds = {renamed.get(name, name): value for name, value in named.items()}
        return np.clip(self, *args, **({"a_max": None} if len(args) < 2 else {}) | bounds)

    def fillna(self, value: Any) -> Any:
        """As a frame's: a number in place of missing ones."""
        return np.where(np.isnan(self), value, self)

    def to_frame(self, *_: Any, **__: Any) -> Symbol:
        """A vector as a column."""
        return self.reshape(-1, 1)

    def reshape(self, *shape: Any) -> Symbol:
        """A column as a vector, or the other way round."""
        sizes = shape[0] if isinstance(shape[0], tuple | list) else shape
        if tuple(sizes) not in ((-1, 1), (-1,)):
            stop(f"reshape{tuple(sizes)}")
        return Symbol(op.reshape(self.tensor, constant(sizes, np.int64)))

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            return lambda *args, **named: getattr(np, name)(self, *args, **named)
        return stop(f"the attribute {name!r} of an array")

    def __getitem__(self, key: Any) -> Symbol:
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, str) for part in _flat(parts)):
            stop("columns chosen by name")
        rows, *others = parts
        if rows is Ellipsis and self.ndim == 2 and others in ([None], [np.newaxis]):
            stop("an axis behind two others")
        if not (rows is Ellipsis or rows == slice(None)) or len(others) > 1:
            stop("some of the rows")
        if not others:
            return self
        return self._columns(others[0])

    def _columns(self, key: Any) -> Symbol:
        if key is None:
            return self.reshape(-1, 1)
        if self.ndim != 2:
            stop("an index of a vector")
        places = np.arange(width(self.tensor))[key]
        if not places.ndim:
            return Symbol(column(self.tensor, int(places)))
        return Symbol(picked(self.tensor, places.tolist()))

    def __array_ufunc__(
        self,
        function: Any,
        method: str,
        *inputs: Any,
        **named: Any,
    ) -> Any:
        if method != "__call__" or named:
            stop(f"{function.__name__} with options")
        return Symbol(_of_ufunc(function.__name__, [tensor_of(each) for each in inputs]))

    def __array_function__(
        self,
        function: Any,
        types: Any,
        args: Any,
        named: Any,
    ) -> Any:
        if function not in FUNCTIONS:
            stop(f"numpy.{function.__name__}")
        return FUNCTIONS[function](*args, **named)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        stop("what numpy makes of an array of its own")

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it has no truth
        stop("a branch that depends on the numbers")

    def __len__(self) -> NoReturn:  # noqa: PLE0303 - it has no length
        stop("the number of rows")

    def __iter__(self) -> NoReturn:
        stop("a loop over the rows")

    def __setitem__(self, key: Any, value: Any) -> None:
        stop("an array that is written into")


METHODS = ("abs", "max", "mean", "min", "prod", "round", "sum")


def stop(what: str) -> NoReturn:
    """Raise ConversionError for what a function uses that has no operator."""
    raise ConversionError(f"it uses {what}")


def _flat(parts: Any) -> list[Any]:
    found: list[Any] = []
    for part in parts:
        found += list(part) if isinstance(part, list | tuple) else [part]
    return found


def tensor_of(value: Any) -> Var:
    """The tensor of a stand-in, or of numbers. Raises ConversionError for anything else."""
    if isinstance(value, Symbol):
        return value.tensor
    array = np.asarray(value)
    if array.dtype.kind == "b":
        return constant(array)
    if array.dtype.kind not in "iuf":
        stop(f"a value of {array.dtype}")
    return constant(array, np.float64)


def floats(tensor: Var) -> Var:
    """Truth values as 0 and 1; numbers as they are."""
    return cast(tensor, np.float64)


def _of_ufunc(name: str, inputs: list[Var]) -> Var:
    truths = all(dtype_of(each) == np.bool_ for each in inputs)
    if name in LOGICAL:
        if name in ("bitwise_and", "bitwise_or", "invert") and not truths:
            stop(f"numpy.{name} of numbers")
        return LOGICAL[name](*inputs)
    if truths and name in ("add", "multiply"):
        return LOGICAL["logical_or" if name == "add" else "logical_and"](*inputs)
    for table in (UNARY, BINARY, COMPARING):
        if name in table:
            made: Callable[..., Var] = table[name]
            return made(*map(floats, inputs))
    return stop(f"numpy.{name}")


def _where(condition: Any, chosen: Any, other: Any) -> Symbol:
    first = floats(tensor_of(chosen))
    second = floats(tensor_of(other))
    return Symbol(choose(cast(tensor_of(condition), np.bool_), first, second))


def _clip(
    numbers: Any,
    a_min: Any = None,
    a_max: Any = None,
    **named: Any,
) -> Symbol:
    """The lower bound first, then the upper, as numpy has it."""
    low = named.pop("min", a_min)
    high = named.pop("max", a_max)
    if named:
        stop("numpy.clip with options")
    found = floats(tensor_of(numbers))
    if low is not None:
        found = BINARY["maximum"](found, floats(tensor_of(low)))
    if high is not None:
        found = BINARY["minimum"](found, floats(tensor_of(high)))
    return Symbol(found)


def _round(numbers: Any, decimals: int = 0) -> Any:
    if not decimals:
        return np.rint(numbers)
    factor = 10.0 ** abs(decimals)
    if decimals < 0:
        return np.rint(numbers / factor) * factor
    return np.rint(numbers * factor) / factor


def _nan_to_num(
    numbers: Any,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
    **_: Any,
) -> Any:
    """Of the options, `copy` makes no difference here."""
    largest = float(np.finfo(np.float64).max)
    upper = largest if posinf is None else posinf
    lower = -largest if neginf is None else neginf
    found = _where(np.isnan(numbers), nan, numbers)
    found = _where(found == np.inf, upper, found)
    return _where(found == -np.inf, lower, found)


def _side_by_side(parts: Any, axis: int = 1) -> Symbol:
    """Columns beside each other; a vector stands for one column."""
    if axis not in (1, -1):
        stop("rows that are put below others")
    matrices = []
    for part in parts:
        tensor = floats(tensor_of(part))
        if rank(tensor) == 1:
            tensor = op.reshape(tensor, constant([-1, 1], np.int64))
        matrices.append(tensor)
    return Symbol(joined(matrices))


def _concatenate(parts: Any, axis: int = 0) -> Symbol:
    return _side_by_side(parts, axis)


def _beside(parts: Any) -> Symbol:
    if any(rank(tensor_of(part)) != 2 for part in parts):
        stop("numpy.hstack of vectors")
    return _side_by_side(parts)


def _reduced(reduce: Callable[..., Var]) -> Callable[..., Symbol]:
    """A function of each row, over its columns."""

    def of_rows(
        numbers: Any,
        axis: int | None = None,
        keepdims: bool = False,  # noqa: FBT001, FBT002 - numpy's own form
    ) -> Symbol:
        tensor = floats(tensor_of(numbers))
        if axis not in (1, -1) or rank(tensor) != 2:
            stop("numbers of all rows together")
        found = reduce(tensor, constant([1], np.int64), keepdims=int(keepdims))
        return Symbol(found)

    return of_rows


def _sum(
    tensor: Var,
    _: Var,
    keepdims: int,
) -> Var:
    found = row_sums(tensor)
    return found if keepdims else flat(found)


def _mean(
    tensor: Var,
    axes: Var,
    keepdims: int,
) -> Var:
    return over(_sum(tensor, axes, keepdims), width(tensor))


def _extreme(reduce: Callable[..., Var]) -> Callable[..., Var]:
    """The largest or smallest number of each row, and a missing one where there is any."""

    def with_gaps(
        tensor: Var,
        axes: Var,
        keepdims: int,
    ) -> Var:
        found = reduce(tensor, axes, keepdims=keepdims)
        gaps = cast(op.isnan(tensor), np.int32)
        gap = op.reduce_max(gaps, axes, keepdims=keepdims)
        return choose(cast(gap, np.bool_), np.nan, found)

    return with_gaps


def _expand(numbers: Any, axis: int) -> Symbol:
    if axis not in (1, -1) or rank(tensor_of(numbers)) != 1:
        stop("numpy.expand_dims of more than a vector")
    return Symbol(op.reshape(tensor_of(numbers), constant([-1, 1], np.int64)))


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.around: _round,
    np.clip: _clip,
    np.column_stack: _side_by_side,
    np.concatenate: _concatenate,
    np.expand_dims: _expand,
    np.fix: np.trunc,
    np.hstack: _beside,
    np.max: _reduced(_extreme(op.reduce_max)),
    np.mean: _reduced(_mean),
    np.min: _reduced(_extreme(op.reduce_min)),
    np.nan_to_num: _nan_to_num,
    np.prod: _reduced(op.reduce_prod),
    np.round: _round,
    np.sum: _reduced(_sum),
    np.where: _where,
}

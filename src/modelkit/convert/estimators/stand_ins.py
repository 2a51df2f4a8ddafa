"""A stand-in for an array or a frame: a function that is given one writes down what it computes.

It follows numpy's protocols for functions of arrays (NEP 13 and 18), by the table `FOLLOWED`. Each
stand-in carries rows that it could be, `like`, on which numpy and pandas really compute each step:
of these it has its type, its dtypes, its shape and its names. What is written down is what becomes
of any row, by functions of a traced array. What lacks an operator raises ConversionError, and so
does a function that asks for numbers, as to choose between two branches.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from modelkit._internal.arrays import is_a
from modelkit.convert.estimators.tensors import Var, key_of
from modelkit.errors import ConversionError

SQUARE_ROOT, SQUARED, INVERSE = 0.5, 2, -1  # powers that numpy has functions of their own for


@dataclass(frozen=True, eq=False)
class Block:
    """(n, width) of numbers, truth values, times or texts; each is equal to itself alone."""

    tensor: Var
    width: int


Cell = tuple[Block, int] | float  # one column of a block, or what is the same in each row


@dataclass
class Trace:
    """A function that is being followed: the rows it is given, and what it could not do.

    `count` is how many rows the stand-ins' `like` have: no other axis is as long. `codes` are those
    of the function, and of others of the user's that it calls. With `one_by_one`, what runs is given
    numbers of Python. `made` is what is written down once, by the cell that it is of. `compared` are
    the tensors of which it asks on which side of a value their numbers are, by key.
    """

    rows: Block
    count: int
    codes: Collection[Any] = ()
    one_by_one: bool = False
    stops: list[ConversionError] = field(default_factory=list)
    made: dict[Any, Any] = field(default_factory=dict)
    compared: dict[Any, Var] = field(default_factory=dict)


_TRACE: ContextVar[Trace] = ContextVar("_TRACE")
tracing_now = _TRACE.get


@contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Follow a function here."""
    token = _TRACE.set(trace)
    try:
        yield
    finally:
        _TRACE.reset(token)


def stop(what: str) -> NoReturn:
    """Raise ConversionError for what a function uses that lacks an operator.

    It is remembered, for a function may catch it.
    """
    trace = _TRACE.get(None)
    error = ConversionError(f"{'' if trace is None else _line_of(trace.codes)}it uses {what}")
    if trace is not None:
        trace.stops.append(error)
    raise error


def _line_of(codes: Collection[Any]) -> str:
    """The line of the user's code that runs."""
    frame: Any = sys._getframe()  # the way that traceback goes, too
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    if frame is None:
        return ""
    line, end, start, stopped = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    text = linecache.getline(frame.f_code.co_filename, line or 0).encode()
    shown = text[start : stopped if end == line else None].decode(errors="replace").strip()
    return f"in line {line}{f', `{shown:.80}`' if shown else ''}, "


# What is followed, by a function of numpy or the name of a method; "[]" and "[]=" are brackets. What
# times "M", spans "m" and texts "O" have of their own stands under their kind and the name; so do
# the "ufunc" of each kind, and an "operand" beside it.
FOLLOWED: dict[Any, Callable[..., Any]] = {}
PROPERTIES: dict[str, Callable[..., Any]] = {}
PLAIN = ("columns", "dtype", "dtypes", "empty", "index", "name", "ndim", "shape", "size")


class Symbol(NDArrayOperatorsMixin):
    """Columns of numbers, as a function of arrays or of frames sees them.

    `cells` are the numbers of each row of `like`, in their order.
    """

    def __init__(self, cells: list[Cell], like: Any) -> None:
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "like", like)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.like)

    def become(self, other: Symbol) -> None:
        """Hold what another does: it was written into."""
        self.__init__(other.cells, other.like)  # type: ignore[misc]

    def __copy__(self) -> Symbol:
        return Symbol(self.cells, self.like.copy())

    def __deepcopy__(self, _: Any) -> Symbol:
        return self.__copy__()

    def __array_namespace__(self, **_: Any) -> Any:
        return np

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(self.like, name):
            raise AttributeError(f"{type(self.like).__name__} has no attribute {name!r}")
        if name in PLAIN:
            return getattr(self.like, name)
        if name in PROPERTIES:
            return PROPERTIES[name](self)
        made = FOLLOWED.get((kind_of_values(self.like), name), FOLLOWED.get(name))
        if made is not None:
            return partial(self._called, made)
        if name in getattr(self.like, "columns", ()):
            return self[name]
        return stop(f"{type(self.like).__name__}.{name}")

    def _called(
        self, made: Callable[..., Any], *args: Any, inplace: bool = False, **named: Any
    ) -> Any:
        found = made(self, *args, **named)
        return self.become(found) if inplace else found

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "columns":
            stop(f"{type(self.like).__name__}.{name} = ...")
        self.become(self.set_axis(value, axis=1))

    def __getitem__(self, key: Any) -> Any:
        return FOLLOWED["[]"](self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        FOLLOWED["[]="](self, key, value)

    def __delitem__(self, name: Any) -> None:
        self.become(self.drop(columns=[name]))

    def __round__(self, decimals: int = 0) -> Any:
        if decimals and _TRACE.get().one_by_one:
            stop("Python's round, which is not pandas': write column.round(decimals)")
        return np.round(self, decimals)

    def __array_ufunc__(
        self,
        function: Any,
        method: str,
        *inputs: Any,
        out: Any = (None,),
        where: Any = True,
        **named: Any,
    ) -> Any:
        name = function.__name__
        if method != "__call__" or named or len(inputs) > function.nin:
            stop(f"numpy.{name}.{method} with options")
        kinds = {kind_of_values(each.like) for each in inputs if isinstance(each, Symbol)}
        found = FOLLOWED[max(kinds, default=""), "ufunc"](function, *inputs)
        if where is not True:
            if out[0] is None:
                stop(f"numpy.{name}(where=) without out=")
            found = np.where(where, found, out[0])
        if isinstance(out[0], Symbol):
            if found.like.shape != out[0].like.shape:
                stop("an array that grows")
            out[0].become(found if is_pandas(found) else found.astype(out[0].dtype))
            return out[0]
        return found

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        if function not in FOLLOWED:
            stop(f"numpy.{function.__name__}")
        return FOLLOWED[function](*args, **named)

    def __pow__(self, power: Any) -> Any:
        """As numpy has it: the usual powers are functions of their own."""
        if type(power) in (int, float):
            if power == SQUARED:
                return np.square(self)
            if power in (SQUARE_ROOT, INVERSE) and floating(self.like):
                return np.sqrt(self) if power == SQUARE_ROOT else np.reciprocal(self)
        return np.power(self, power)

    def __contains__(self, name: Any) -> bool:
        if not is_frame(self):
            stop("whether a number is in it")
        return name in self.like.columns

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        stop("what reads the numbers of the rows one by one")

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it has no truth
        stop("a branch that depends on the numbers: write numpy.where(condition, a, b)")

    def __hash__(self) -> NoReturn:  # noqa: PLE0309 - it has no hash
        stop("a number as a key: write column.map(table)")

    def __float__(self) -> NoReturn:
        stop("one number at a time: write it with functions of numpy")

    __int__ = __index__ = __float__

    def __len__(self) -> int:
        return len(self.like)

    def __iter__(self) -> Iterator[Any]:
        if is_frame(self):
            return iter(self.like.columns)
        if self.like.shape[0] == _TRACE.get().count:
            stop("a loop over the rows: write it for whole columns")
        return (self[place] for place in range(len(self.like)))


def kind_of_values(rows: Any) -> str:
    """The kind of a column: times "M", spans "m", texts "O"; "" for numbers.

    A frame with such columns is "mixed".
    """
    if is_frame(rows):
        others = [at for at, dtype in enumerate(rows.dtypes) if dtype.kind in "mMO"]
        return "mixed" if any(kind_of_values(rows.iloc[:, at]) for at in others) else ""
    dtype = rows.dtype if np.ndim(rows) == 1 else None
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return dtype.kind
    if str(dtype) == "str" or (dtype == np.dtype(object) and is_pandas(rows)):
        return "O" if all(isinstance(value, str) for value in rows[rows.notna()]) else ""
    return ""


def compared(value: Any) -> Any:
    """The same value; of numbers it is noted that a function asks on which side of a value they are."""
    for cell in value.cells if isinstance(value, Symbol) else ():
        if isinstance(cell, tuple) and cell[0].tensor.dtype.kind == "f":
            _TRACE.get().compared[key_of(cell[0].tensor)] = cell[0].tensor
    return value


def one_by_one(function: Callable[..., Any], symbol: Any, **named: Any) -> Any:
    """What a function of numbers of Python gives for all of a column at once."""
    trace = _TRACE.get()
    trace.one_by_one = True
    try:
        return function(symbol, **named)
    finally:
        trace.one_by_one = False


def is_frame(value: Any) -> bool:
    """Whether something is a frame of pandas, or stands for one."""
    return is_a(value, "pandas", "DataFrame")


def is_pandas(value: Any) -> bool:
    """Whether something is a frame or a column of pandas, or stands for one."""
    return is_frame(value) or is_a(value, "pandas", "Series")


def replaced(value: Any, change: Callable[[Symbol], Any]) -> Any:
    """A value with something in place of the stand-ins in it."""
    if isinstance(value, Symbol):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(replaced(each, change) for each in value)
    if type(value) is dict:
        return {key: replaced(each, change) for key, each in value.items()}
    return value


def real(value: Any) -> Any:
    """What numpy and pandas really compute with: the rows in place of stand-ins."""
    return replaced(value, lambda symbol: symbol.like)


def symbols_in(value: Any) -> list[Symbol]:
    """The stand-ins in a value."""
    found: list[Symbol] = []
    replaced(value, found.append)
    return found


def dtypes_of(rows: Any) -> list[np.dtype[Any]]:
    """The dtypes of an array, or of the columns of a frame: those that numpy has."""
    if not is_frame(rows):
        return [_of_numpy(getattr(rows, "name", None), rows.dtype)]
    return [_of_numpy(*each) for each in rows.dtypes.items()]


def _of_numpy(name: Any, dtype: Any) -> np.dtype[Any]:
    # pandas has dtypes of its own, for numbers with gaps.
    found = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(found, np.dtype) and found.kind in "biuf":
        return found if found is dtype or found.kind == "f" else np.dtype(np.float64)
    return stop(
        f"values of the dtype {dtype}{'' if name is None else f' in column {name!r}'} (give fit "
        "numbers, texts or dates, such as astype(float) of booleans with gaps)"
    )


def floating(rows: Any) -> bool:
    """Whether rows hold numbers with fractions."""
    return all(dtype.kind == "f" for dtype in dtypes_of(rows))


def is_bool(rows: Any) -> bool:
    """Whether rows hold truth values alone."""
    return all(dtype.kind == "b" for dtype in dtypes_of(rows))


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype rounds or wraps around before float64 does."""
    return dtype.kind in "iuf" and dtype.itemsize < np.dtype(np.float64).itemsize


def numbers_of(value: Any) -> Any:
    """Numbers that are always the same. Raises ConversionError for anything else."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        stop(f"the value {value!r:.60}")
    return array


def pandas() -> Any:
    """pandas, which the maker of a frame has imported."""
    return sys.modules["pandas"]

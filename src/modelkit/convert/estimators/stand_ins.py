"""A stand-in for an array or a frame: a function that is given one writes down what it computes.

It follows numpy's protocols for functions of arrays (NEP 13 and 18). Each stand-in carries rows
that it could be, `like`, on which numpy and pandas really compute each step: of these it has its
type, its dtypes, its shape and its names. What is written down is what becomes of any row. What has
no operator raises ConversionError, and so does a function that asks for numbers, as to choose
between two branches.
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

from modelkit._internal.arrays import Array, is_a
from modelkit.convert.estimators.tensors import Var, constant, joined, key_of, op
from modelkit.errors import ConversionError

BIG = 65536.0  # a product of two integers of 32 bits is exact in float64 in two parts
CODED = 2**40  # from here on a number says where another comes from
SQUARE_ROOT, SQUARED, INVERSE = 0.5, 2, -1  # powers that numpy has functions of their own for


@dataclass(frozen=True, eq=False)
class Block:
    """(n, width) of float64 or of truth values; each is equal to itself alone."""

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


@contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Follow a function here."""
    token = _TRACE.set(trace)
    try:
        yield
    finally:
        _TRACE.reset(token)


def stop(what: str) -> NoReturn:
    """Raise ConversionError for what a function uses that has no operator.

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
        own = BY_KIND.get(kind_of_values(self.like), {})
        if name in own:
            return partial(self._called, own[name])
        if name in PROPERTIES:
            return PROPERTIES[name](self)
        if name in METHODS:
            return partial(self._called, METHODS[name])
        if name in getattr(self.like, "columns", ()):
            return self[name]
        return stop(f"{kind_of(self)}.{name}")

    def _called(
        self, made: Callable[..., Any], *args: Any, inplace: bool = False, **named: Any
    ) -> Any:
        found = made(self, *args, **named)
        return self.become(found) if inplace else found

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "columns":
            stop(f"{kind_of(self)}.{name} = ...")
        self.become(rearranged(lambda frame: frame.set_axis(value, axis=1), self))

    def __getitem__(self, key: Any) -> Any:
        return taken(self, key, lambda rows: rows)

    def __setitem__(self, key: Any, value: Any) -> None:
        put(self, key, value, lambda rows: rows)

    def __delitem__(self, name: Any) -> None:
        self.become(rearranged(lambda frame: frame.drop(columns=[name]), self))

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
        if method != "__call__" or named:
            stop(f"numpy.{name}.{method}" if method != "__call__" else f"numpy.{name} with options")
        for each in inputs:
            own = BY_KIND.get(kind_of_values(each.like), {}) if isinstance(each, Symbol) else {}
            if own and where is True and out == (None,):
                return own["ufunc"](function, *inputs)
        if name not in UFUNCS or len(inputs) > function.nin:
            stop(f"numpy.{name}")
        limits = [each for each in inputs if isinstance(each, float)]
        if name in JUMPING and not np.isinf(limits).any():
            for each in inputs:
                compared(each)
        found: Any = elementwise(function, UFUNCS[name], *inputs)
        if where is not True:
            found = np.where(
                where,
                found,
                stop(f"numpy.{name}(where=) without out=") if out[0] is None else out[0],
            )
        if isinstance(out[0], Symbol):
            if found.like.shape != out[0].like.shape:
                stop("an array that grows")
            out[0].become(as_dtype(found, out[0].like))
            return out[0]
        return found

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        if function not in FUNCTIONS:
            stop(f"numpy.{function.__name__}")
        return FUNCTIONS[function](*args, **named)

    def __pow__(self, power: Any) -> Any:
        """As numpy has it: the usual powers are functions of their own."""
        if type(power) in (int, float):
            if power == SQUARED:
                return np.square(self)
            if power in (SQUARE_ROOT, INVERSE) and floating(self.like):
                return np.sqrt(self) if power == SQUARE_ROOT else np.reciprocal(self)
        return np.power(self, power)

    def __matmul__(self, weights: Any) -> Any:
        return FUNCTIONS[np.dot](self, weights)

    def __contains__(self, name: Any) -> bool:
        return (
            name in self.like.columns if is_frame(self.like) else stop("whether a number is in it")
        )

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
        if is_frame(self.like):
            return iter(self.like.columns)
        if self.like.shape[0] == _TRACE.get().count:
            stop("a loop over the rows: write it for whole columns")
        return (self[place] for place in range(len(self.like)))


COMPARING = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
# Functions of numpy that jump at some value.
JUMPING = (
    *COMPARING,
    *(
        "logical_and",
        "logical_or",
        "logical_not",
        "logical_xor",
        "ceil",
        "floor",
        "rint",
        "trunc",
        "sign",
        "floor_divide",
        "remainder",
    ),
)
PLAIN = ("columns", "dtype", "dtypes", "empty", "index", "name", "ndim", "shape", "size")
PROPERTIES: dict[str, Callable[[Symbol], Any]] = {}
METHODS: dict[str, Callable[..., Any]] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
UFUNCS: dict[str, Callable[..., Var]] = {}
BY_KIND: dict[
    str, dict[str, Callable[..., Any]]
] = {}  # methods, and the "ufunc", of times and texts


def kind_of_values(rows: Any) -> str:
    """The kind of a column: times "M", spans "m", texts "O"; "" for numbers.

    A frame with such columns is "mixed".
    """
    if is_frame(rows):
        mixed = any(kind_of_values(rows.iloc[:, at]) for at in range(rows.shape[1]))
        return "mixed" if mixed else ""
    dtype = rows.dtype if np.ndim(rows) == 1 else None
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return dtype.kind
    if str(dtype) == "str" or (dtype == np.dtype(object) and is_pandas(rows)):
        return "O" if all(isinstance(value, str) for value in rows[rows.notna()]) else ""
    return ""


def compared(value: Any) -> Any:
    """The same value; of numbers it is noted that a function asks on which side of a value they are."""
    if isinstance(value, Symbol) and not is_bool(value.like):
        tensors = [cell[0].tensor for cell in value.cells if isinstance(cell, tuple)]
        _TRACE.get().compared.update({key_of(each): each for each in tensors})
    return value


def one_by_one(function: Callable[..., Any], symbol: Any, **named: Any) -> Any:
    """What a function of numbers of Python gives for all of a column at once."""
    trace = _TRACE.get()
    trace.one_by_one = True
    try:
        return function(symbol, **named)
    finally:
        trace.one_by_one = False


def kept_once(symbol: Symbol, make: Callable[[], Any]) -> Any:
    """What is written down of a column, once for each."""
    (block, place) = symbol.cells[0] if isinstance(symbol.cells[0], tuple) else (None, 0)
    made = _TRACE.get().made
    key = (block, place)
    if block is None or key not in made:
        made[key] = make()
    return made[key]


def is_frame(value: Any) -> bool:
    """Whether something is a frame of pandas, or stands for one."""
    return is_a(
        getattr(value, "like", value) if isinstance(value, Symbol) else value, "pandas", "DataFrame"
    )


def is_pandas(value: Any) -> bool:
    """Whether something is a frame or a column of pandas, or stands for one."""
    rows = value.like if isinstance(value, Symbol) else value
    return is_a(rows, "pandas", "DataFrame") or is_a(rows, "pandas", "Series")


def kind_of(symbol: Symbol) -> str:
    """What people call such rows."""
    return type(symbol.like).__name__


def real(value: Any) -> Any:
    """What numpy and pandas really compute with: the rows in place of stand-ins."""
    return replaced(value, lambda symbol: symbol.like)


def replaced(
    value: Any, change: Callable[[Symbol], Any], other: Callable[[Any], Any] | None = None
) -> Any:
    """A value with something in place of the stand-ins in it, and of what else is in it."""
    if isinstance(value, Symbol):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(replaced(each, change, other) for each in value)
    if type(value) is dict:
        return {key: replaced(each, change, other) for key, each in value.items()}
    return value if other is None else other(value)


def dtypes_of(rows: Any) -> list[np.dtype[Any]]:
    """The dtypes of an array, or of the columns of a frame: those that numpy has."""
    found = list(rows.dtypes) if is_frame(rows) else [rows.dtype]
    return [_of_numpy(dtype) for dtype in found]


def _of_numpy(dtype: Any) -> np.dtype[Any]:
    # pandas has dtypes of its own, for numbers with gaps.
    found = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(found, np.dtype) and found.kind in "biuf":
        return found if found is dtype or found.kind == "f" else np.dtype(np.float64)
    return stop(f"values of the dtype {dtype}")


def floating(rows: Any) -> bool:
    """Whether rows hold numbers with fractions."""
    return all(dtype.kind == "f" for dtype in dtypes_of(rows))


def is_bool(rows: Any) -> bool:
    """Whether rows hold truth values alone."""
    return all(dtype.kind == "b" for dtype in dtypes_of(rows))


def is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype rounds or wraps around before float64 does."""
    return dtype.kind in "iuf" and dtype.itemsize < np.dtype(np.float64).itemsize


def axis_of_rows(rows: Any) -> int:
    """Which axis of an array is the one of the rows. Raises ConversionError."""
    count = _TRACE.get().count
    found = [axis for axis, size in enumerate(np.shape(rows)) if size == count]
    if len(found) != 1:
        stop("numbers of all rows together, or of some of them")
    return found[0]


def by_row(rows: Any) -> Array:
    """(rows, what each holds), of an array whose rows are one of its axes."""
    found = np.asarray(rows)
    return np.moveaxis(found, axis_of_rows(found), 0).reshape(_TRACE.get().count, -1)


def dressed(numbers: Array, like: Any) -> Any:
    """Numbers in the form of other rows."""
    if is_frame(like):
        return type(like)(numbers, index=like.index, columns=like.columns)
    if is_pandas(like):
        return type(like)(numbers, index=like.index, name=like.name)
    return numbers


def _coded(symbol: Symbol, start: int = 0, total: int | None = None) -> Any:
    """Rows like those of a stand-in, of numbers that say which place they come from."""
    total = len(symbol.cells) if total is None else total
    count = _TRACE.get().count
    codes = CODED + np.arange(count)[:, None] * total + start + np.arange(len(symbol.cells))
    axis = axis_of_rows(symbol.like)
    shape = list(np.shape(symbol.like))
    del shape[axis]
    return dressed(np.moveaxis(codes.reshape(count, *shape), 0, axis), symbol.like)


def rearranged(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """What a function gives that moves numbers, and leaves each row to itself.

    It is asked to move numbers that say where they come from. Of its first argument, numbers that
    are always the same are moved too.
    """
    symbols: list[Symbol] = []
    replaced([args, named], symbols.append)
    cells = [cell for symbol in symbols for cell in symbol.cells]
    starts = iter(np.cumsum([0, *(len(symbol.cells) for symbol in symbols)]).tolist())
    known: list[float] = []

    def code(symbol: Symbol) -> Any:
        return _coded(symbol, next(starts), len(cells))

    def code_constant(value: Any) -> Any:
        if value is None or isinstance(value, str | slice | type(Ellipsis)):
            return value
        numbers = numbers_of(value)
        codes = -1 - len(known) - np.arange(numbers.size).reshape(numbers.shape)
        known.extend(numbers.ravel().tolist())
        return dressed(codes, value) if numbers.ndim else int(codes)

    first, *others = args
    coded = replaced(first, code, code_constant), *replaced(list(others), code)
    options = replaced(named, code)
    like = function(*real(args), **real(named))
    moved = function(*coded, **options)
    if isinstance(like, list | tuple):
        pairs = zip(like, moved, strict=True)
        return [Symbol(_decoded(part, cells, known), one) for one, part in pairs]
    return Symbol(_decoded(moved, cells, known), like)


def _decoded(moved: Any, cells: list[Cell], known: list[float]) -> list[Cell]:
    """The cells that a row of moved codes stands for. Raises ConversionError for other rows."""
    codes = by_row(moved).astype(np.float64)
    places = codes - CODED - np.arange(len(codes))[:, None] * len(cells)
    numbers = np.array([*known, np.nan])
    fixed = ~(codes[0] >= CODED)
    which = np.where(np.isnan(codes), len(known), -1 - codes)[:, fixed]
    if (
        not (places[:, ~fixed] == places[0, ~fixed]).all()
        or not ((which >= 0) & (which <= len(known))).all()
    ):
        stop("some of the rows, or rows in another order")
    values = numbers[which.astype(np.int64)]
    if not ((values == values[0]) | np.isnan(values) & np.isnan(values[0])).all():
        stop("numbers that depend on where a row stands")
    of_each = iter(values[0].tolist())
    return [
        next(of_each) if is_fixed else cells[int(place)]
        for is_fixed, place in zip(fixed, places[0], strict=True)
    ]


def numbers_of(value: Any) -> Array:
    """Numbers that are always the same. Raises ConversionError for anything else."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        stop(f"the value {value!r:.60}")
    return array


def tensor_of(cells: list[Cell], dtype: Any) -> Var:
    """(n, cells), of numbers or of truth values."""
    parts: list[Var] = []
    start = 0
    for place in range(1, len(cells) + 1):
        if place < len(cells) and _block(cells[place]) is _block(cells[start]):
            continue
        parts.append(_run(cells[start:place], dtype))
        start = place
    return joined(parts)


def _block(cell: Cell) -> Block | None:
    return cell[0] if isinstance(cell, tuple) else None


def _run(cells: list[Cell], dtype: Any) -> Var:
    """(n, cells) of neighbours in one block, or of numbers that are always the same."""
    block = _block(cells[0])
    if block is None:
        rows = op.shape(_TRACE.get().rows.tensor, start=0, end=1)
        shape = np.concatenate([rows, constant([len(cells)], np.int64)], axis=0)
        return op.expand(constant(np.array(cells)[None], dtype), shape)
    places = [cell[1] for cell in cells if isinstance(cell, tuple)]
    whole = block.tensor.astype(dtype)
    return whole if places == list(range(block.width)) else whole[:, places]


def tensor(symbol: Symbol) -> Var:
    """(n, what a row holds), of truth values where it has no others."""
    return tensor_of(symbol.cells, np.bool_ if is_bool(symbol.like) else np.float64)


def made_of(found: Var, like: Any, width: int | None = None) -> Symbol:
    """The stand-in for rows like these, of a tensor with a column for each number of a row."""
    count = by_row(like).shape[1]
    width = count if width is None else width
    block = Block(found, width)
    places = range(count) if width == count else [0] * count
    return Symbol([(block, place) for place in places], like)


def elementwise(
    function: Callable[..., Any],
    make: Callable[..., Var],
    *args: Any,
    upright: bool = False,
    like: Any = None,
) -> Symbol:
    """A function of each number, with numbers beside it: what `make` writes down of tensors.

    With `upright`, a column stands beside each column of a frame. `like` is what the function gives
    for real rows, if that is known.
    """
    like = function(*real(args)) if like is None else like
    if is_frame(like) and _needs_columns(like, args):
        columns: list[Cell] = []
        for place in range(like.shape[1]):
            own = [_column_of(arg, place, upright=upright) for arg in args]
            columns += elementwise(function, make, *own, like=like.iloc[:, place]).cells
        return Symbol(columns, like)
    kind = dtypes_of(like)[0]
    operands = [_operand(arg, like, _computed_in(args), upright=upright) for arg in args]
    if kind.kind in "iu":
        make = _of_integers(function, make, kind, pandas=is_pandas(like))
    found = make(*(tensor for tensor, _ in operands))
    return made_of(kept(found, kind), like, max(width for _, width in operands))


def _of_integers(
    function: Any, make: Callable[..., Var], dtype: np.dtype[Any], *, pandas: bool
) -> Callable[..., Var]:
    """What integers need beside what numbers do: products of 32 bits, and numpy's division by 0."""
    if dtype in (np.int32, np.uint32) and function in IN_PARTS:
        return IN_PARTS[function]
    if function in (np.floor_divide, np.remainder) and not pandas:
        return lambda left, right: np.where(right == 0.0, 0.0, make(left, right))
    return make


def _needs_columns(like: Any, args: Any) -> bool:
    """Whether the columns of a frame are rounded, or wrap around, each in its way."""
    frames = [arg.like for arg in args if isinstance(arg, Symbol)]
    several = any(len(set(dtypes_of(frame))) > 1 for frame in [like, *frames])
    return several and any(
        is_narrow(dtype) for frame in [like, *frames] for dtype in dtypes_of(frame)
    )


def _column_of(arg: Any, place: int, *, upright: bool) -> Any:
    if isinstance(arg, Symbol):
        if is_frame(arg.like):
            return Symbol([arg.cells[place]], arg.like.iloc[:, place])
        return arg if upright or arg.like.ndim == 1 else arg[:, place]
    if is_pandas(arg):
        return arg.iloc[place]
    return np.asarray(arg)[..., place] if np.ndim(arg) and np.shape(arg)[-1] > 1 else arg


def _computed_in(args: Any) -> np.dtype[Any]:
    """The dtype that numpy brings numbers to before it computes with them."""
    kinds = [dtypes_of(arg.like)[0] if isinstance(arg, Symbol) else arg for arg in args]
    try:
        return np.result_type(*(kind for kind in kinds if kind is not None))
    except (OverflowError, TypeError, ValueError):
        return np.dtype(np.float64)


def _operand(arg: Any, like: Any, dtype: np.dtype[Any], *, upright: bool) -> tuple[Var, int]:
    """A tensor beside the tensors of `like`, and its width: 1 for one number a row."""
    if isinstance(arg, Symbol):
        cells = _cells_beside(arg, like, upright=upright)
        if all(cell is cells[0] for cell in cells):
            cells = cells[:1]
        return tensor_of(cells, np.bool_ if is_bool(arg.like) else np.float64), len(cells)
    if is_pandas(arg):
        if not is_frame(like) or is_frame(arg):
            stop("a column of numbers that are always the same, which pandas matches with the rows")
        arg = arg.reindex(like.columns)
    numbers = numbers_of(arg)
    if dtype.kind == "f" and numbers.dtype.kind != "b":
        numbers = numbers.astype(dtype)
    whole = by_row(np.broadcast_to(numbers, np.shape(like)))
    if not np.array_equal(
        whole, whole[:1].repeat(len(whole), 0), equal_nan=numbers.dtype.kind == "f"
    ):
        stop("numbers that depend on where a row stands")
    row = whole[:1, :1] if numbers.ndim == 0 or numbers.size == 1 else whole[:1]
    return constant(row, np.bool_ if numbers.dtype.kind == "b" else np.float64), row.shape[1]


def _cells_beside(arg: Any, like: Any, *, upright: bool) -> list[Cell]:
    """The numbers of a stand-in beside each number of `like`."""
    if is_frame(like) and is_frame(arg) and list(arg.columns) != list(like.columns):
        stop(
            "a frame with a column, or with a frame of other columns: write frame.div(column, axis=0)"
        )
    if np.shape(arg.like) == np.shape(like):
        cells: list[Cell] = arg.cells
        return cells
    codes = np.asarray(_coded(arg))
    if is_frame(like) and is_pandas(arg.like) and arg.like.ndim == 1:
        if not upright:
            stop("a frame with a column: write frame.div(column, axis=0)")
        codes = codes[:, None]
    return _decoded(np.broadcast_to(codes, np.shape(like)), arg.cells, [])


def kept(found: Var, dtype: np.dtype[Any]) -> Var:
    """Numbers in a dtype: few bits round, or wrap around."""
    if dtype.kind == "b":
        return found.astype(np.bool_)
    numbers = found.astype(np.float64)
    if not is_narrow(dtype):
        return numbers
    if dtype.kind == "f":
        return numbers.astype(dtype).astype(np.float64)
    size = 2.0 ** (8 * dtype.itemsize)
    turns = np.floor((numbers - float(np.iinfo(dtype).min)) / size)
    return np.where(np.isinf(numbers), numbers, numbers - turns * size)


def as_dtype(symbol: Any, rows: Any) -> Any:
    """Numbers in the dtype of the rows that they are written into."""
    if is_pandas(rows) or symbol.like.dtype == rows.dtype:
        return symbol
    return symbol.astype(rows.dtype)


def _in_parts(left: Var, right: Var) -> Var:
    """A product of integers of 32 bits, but for turns of it that are left out."""
    high = np.floor(left / BIG)
    low = left - high * BIG
    upper = kept(high * right, np.dtype(np.uint32))
    return upper * BIG + low * right


IN_PARTS: dict[Any, Callable[..., Var]] = {
    np.multiply: _in_parts,
    np.square: lambda each: _in_parts(each, each),
}


def taken(symbol: Symbol, key: Any, of: Callable[[Any], Any]) -> Any:
    """Some of the columns: what a key chooses of rows, or of their `loc` or `iloc`."""
    if _masks_in(key):
        stop("rows that are chosen by their numbers: write numpy.where(condition, a, b)")
    if isinstance(real(key), str) and symbol.like.ndim == 1:
        stop("a column of a column")
    return rearranged(lambda rows: of(rows)[key], symbol)


def _masks_in(key: Any) -> list[Symbol]:
    found: list[Symbol] = []
    replaced(
        key if isinstance(key, tuple) and not isinstance(key, Symbol) else (key,), found.append
    )
    return found


def put(symbol: Symbol, key: Any, value: Any, of: Callable[[Any], Any]) -> None:
    """Write into rows: columns, or what a condition holds for."""
    like = symbol.like.copy()
    real_key = real(key)
    of(like)[real_key] = real(value)
    masks = _masks_in(key)
    if masks:
        value = _masked(symbol, key, masks, value, of)
        key = (
            slice(None)
            if not isinstance(key, tuple) or isinstance(key, Symbol)
            else (slice(None), *key[1:])
        )
        if isinstance(value, Symbol) and value.like.shape == like.shape:
            symbol.become(Symbol(value.cells, like))
            return
    if not is_pandas(like):  # which keeps its dtype
        value = (
            value.astype(like.dtype)
            if isinstance(value, Symbol)
            else np.asarray(value).astype(like.dtype)
        )

    def write(values: Any, rows: Any) -> Any:
        rows = rows.copy()
        of(rows)[key] = values
        return rows

    symbol.become(Symbol(rearranged(write, value, symbol).cells, like))


def _masked(
    symbol: Symbol, key: Any, masks: list[Symbol], value: Any, of: Callable[[Any], Any]
) -> Symbol:
    """What rows hold after values were written where a condition holds."""
    several = isinstance(key, tuple) and not isinstance(key, Symbol)
    mask = masks[0]
    if len(masks) > 1 or (several and not isinstance(key[0], Symbol)) or not is_bool(mask.like):
        stop("places that depend on the numbers")
    if several and isinstance(key[1], str) and key[1] not in symbol.like:
        stop("a new column in some of the rows: write numpy.where(condition, a, b)")
    target = taken(symbol, (slice(None), *key[1:]), of) if several else symbol
    mask = plain(mask)
    old = plain(target)
    if mask.like.ndim < old.like.ndim:
        mask = mask[:, None]
    new = plain(value) if isinstance(value, Symbol) else value
    found: Any = np.where(mask, new, old)
    return Symbol(found.cells, dressed(found.like, target.like))


def plain(symbol: Symbol) -> Symbol:
    """The numbers of a frame or a column, as an array."""
    return rearranged(np.asarray, symbol) if is_pandas(symbol.like) else symbol


def where(condition: Var, chosen: Var, other: Var) -> Var:
    """One or the other number."""
    return np.where(condition.astype(np.bool_), chosen.astype(np.float64), other.astype(np.float64))


def pandas() -> Any:
    """pandas, which the maker of a frame has imported."""
    return sys.modules["pandas"]

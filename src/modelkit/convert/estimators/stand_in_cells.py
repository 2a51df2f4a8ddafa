"""The columns of a stand-in as tensors, and what moves them: see `stand_ins`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.stand_ins import (
    FOLLOWED,
    PROPERTIES,
    Block,
    Cell,
    Symbol,
    dtypes_of,
    is_bool,
    is_frame,
    is_narrow,
    is_pandas,
    kind_of_values,
    numbers_of,
    real,
    replaced,
    stop,
    symbols_in,
    tracing_now,
)
from modelkit.convert.estimators.tensors import Traced, Var, column_stack, constant, op
from modelkit.signature.cast import MISSING

CODED = 2.0**52  # from here to twice this a number says where another comes from
NAT = int(np.iinfo(np.int64).min)  # a missing time
# What moves columns, and leaves each row to itself.
MOVING = (
    np.array_split, np.atleast_1d, np.atleast_2d, np.broadcast_to, np.column_stack, np.concatenate, np.copy, np.delete,
    np.dstack, np.expand_dims, np.flip, np.fliplr, np.hsplit, np.hstack, np.moveaxis, np.ravel, np.repeat, np.reshape,
    np.roll, np.split, np.squeeze, np.stack, np.swapaxes, np.take, np.tile, np.transpose, np.vstack,
)  # fmt: skip
MOVING_METHODS = (
    "add_prefix", "add_suffix", "copy", "drop", "filter", "flatten", "get", "ravel", "reindex", "rename", "repeat",
    "reset_index", "reshape", "set_axis", "squeeze", "swapaxes", "take", "to_frame", "to_numpy",
    "toarray", "todense", "transpose",
)  # fmt: skip


# Rows of any axes.


def by_row(rows: Any) -> Array:
    """(rows, what each holds), of an array whose rows are one of its axes."""
    found = np.asarray(rows)
    return np.moveaxis(found, axis_of_rows(found), 0).reshape(tracing_now().count, -1)


def axis_of_rows(rows: Any) -> int:
    """Which axis of an array is the one of the rows. Raises ConversionError."""
    found = [axis for axis, size in enumerate(np.shape(rows)) if size == tracing_now().count]
    if len(found) != 1:
        stop("numbers of all rows together, or of some of them")
    return found[0]


def always(like: Any) -> Symbol:
    """Rows that are all the same, as a stand-in that can be written into."""
    return Symbol(by_row(like)[0].astype(np.float64).tolist(), like)


def plain(symbol: Symbol) -> Symbol:
    """The numbers of a frame or a column, as an array."""
    rows = np.asarray(symbol.like)
    if rows.dtype == object and not kind_of_values(symbol.like):  # such as truth values with gaps
        rows = symbol.like.to_numpy(np.float64, na_value=np.nan)
    return Symbol(symbol.cells, rows)


# What moves columns is asked to move numbers that say where they come from.


def _coded(symbol: Symbol, start: int, total: int) -> Any:
    """Rows shaped like a stand-in's, of numbers that say which place they come from."""
    count, rows = tracing_now().count, symbol.like
    codes = CODED + np.arange(count)[:, None] * total + start + np.arange(len(symbol.cells))
    axis = axis_of_rows(rows)
    shape = list(np.shape(rows))
    del shape[axis]
    codes = np.moveaxis(codes.reshape(count, *shape), 0, axis)
    if is_frame(rows):
        return type(rows)(codes, index=rows.index, columns=rows.columns)
    return type(rows)(codes, index=rows.index, name=rows.name) if is_pandas(rows) else codes


def rearranged(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """What a function gives that moves numbers, and leaves each row to itself."""
    symbols = symbols_in([args, named])
    cells = [cell for symbol in symbols for cell in symbol.cells]
    starts = iter(np.cumsum([0, *(len(symbol.cells) for symbol in symbols)]).tolist())
    like = function(*real(args), **real(named))
    given = replaced((args, named), lambda symbol: _coded(symbol, next(starts), len(cells)))
    moved = function(*given[0], **given[1])
    if isinstance(like, list | tuple):
        pairs = zip(moved, like, strict=True)
        return [Symbol(_decoded(part, cells), one) for part, one in pairs]
    return Symbol(_decoded(moved, cells), like)


def _decoded(moved: Any, cells: list[Cell]) -> list[Cell]:
    """The cells that a row of moved codes stands for. Raises ConversionError for other rows."""
    codes = by_row(moved).astype(np.float64)
    coded = (codes >= CODED) & (codes < 2 * CODED)
    places = codes - CODED - np.arange(len(codes))[:, None] * len(cells)
    places = np.where(coded, places, -1.0)
    if not (places == places[0]).all():
        stop("some of the rows, or rows in another order")
    known = ~coded[0]
    fixed = codes[:, known]
    if not np.array_equal(fixed, fixed[:1].repeat(len(fixed), 0), equal_nan=True):
        stop("numbers that depend on where a row stands")
    found: list[Cell] = codes[0].tolist()
    for at in np.flatnonzero(~known):
        found[at] = cells[int(places[0, at])]
    return found


def taken(symbol: Symbol, key: Any, of: Callable[[Any], Any] = lambda rows: rows) -> Any:
    """Some of the columns: what a key chooses of rows, or of their `loc` or `iloc`."""
    if _masks_in(key):
        stop("rows that are chosen by their numbers: write numpy.where(condition, a, b)")
    if isinstance(key, str) and symbol.ndim == 1:
        stop("a column of a column")
    return rearranged(lambda rows: of(rows)[key], symbol)


def _masks_in(key: Any) -> list[Symbol]:
    return symbols_in(list(key) if type(key) is tuple else [key])


def put(symbol: Symbol, key: Any, value: Any, of: Callable[[Any], Any] = lambda rows: rows) -> None:
    """Write into rows: columns, or what a condition holds for."""
    like = symbol.like.copy()
    of(like)[real(key)] = real(value)
    masks = _masks_in(key)
    if masks:
        value = _masked(symbol, key, masks, value, of)
        key = (slice(None), *key[1:]) if type(key) is tuple else slice(None)
        if value.shape == like.shape:
            symbol.become(Symbol(value.cells, like))
            return
    if not is_pandas(like):  # which keeps its dtype
        value = (value if isinstance(value, Symbol) else np.asarray(value)).astype(like.dtype)

    def write(values: Any, rows: Any) -> Any:
        rows = rows.copy()
        of(rows)[key] = float(values) if type(values) is bool else values
        return rows

    symbol.become(Symbol(rearranged(write, value, symbol).cells, like))


def _masked(
    symbol: Symbol, key: Any, masks: list[Symbol], value: Any, of: Callable[[Any], Any]
) -> Symbol:
    """What rows hold after values were written where a condition holds."""
    first, *others = key if type(key) is tuple else (key,)
    if len(masks) > 1 or not isinstance(first, Symbol) or not is_bool(first.like):
        stop("places that depend on the numbers")
    if others and isinstance(others[0], str) and others[0] not in symbol.like:
        stop("a new column in some of the rows: write numpy.where(condition, a, b)")
    target = taken(symbol, (slice(None), *others), of) if others else symbol
    mask, old = plain(first), plain(target)
    mask = mask[:, None] if mask.ndim < old.ndim else mask
    new = plain(value) if isinstance(value, Symbol) else value
    written: Any = np.where(mask, new, old)
    return Symbol(written.cells, target.like)


class Places:
    """What `frame.loc` or `frame.iloc` is."""

    def __init__(self, name: str, symbol: Any) -> None:
        self._symbol = symbol
        self._of = operator.attrgetter(name)

    def __getitem__(self, key: Any) -> Any:
        return taken(self._symbol, key, self._of)

    def __setitem__(self, key: Any, value: Any) -> None:
        put(self._symbol, key, value, self._of)


def _method(name: str) -> Callable[..., Any]:
    return lambda rows, *args, **named: getattr(rows, name)(*args, **named)


FOLLOWED |= {"[]": taken, "[]=": put}
FOLLOWED |= {function: partial(rearranged, function) for function in MOVING}
FOLLOWED |= {name: partial(rearranged, _method(name)) for name in MOVING_METHODS}
PROPERTIES |= {name: partial(rearranged, operator.attrgetter(name)) for name in ("T", "values")}
PROPERTIES |= {name: partial(Places, name) for name in ("loc", "iloc")}


# Cells as tensors.


def tensor_of(cells: list[Cell], dtype: Any) -> Var:
    """(n, cells), of one dtype."""
    runs: list[list[Cell]] = []
    for cell in cells:
        if runs and _block(runs[-1][0]) is _block(cell):
            runs[-1].append(cell)
        else:
            runs.append([cell])
    return column_stack([_run(run, dtype) for run in runs])


def _block(cell: Cell) -> Block | None:
    return cell[0] if isinstance(cell, tuple) else None


def _run(cells: list[Cell], dtype: Any) -> Var:
    """(n, cells) of neighbours in one block, or of numbers that are always the same."""
    block = _block(cells[0])
    if block is None:
        rows = op.shape(tracing_now().rows.tensor, start=0, end=1)
        shape = np.concatenate([rows, constant([len(cells)], np.int64)], axis=0)
        whole = op.expand(constant(np.array(cells)[None], dtype), shape)
        return whole.reshape(-1, len(cells))  # whose width is known
    places = [cell[1] for cell in cells if isinstance(cell, tuple)]
    whole = block.tensor.astype(dtype)
    return whole if places == list(range(block.width)) else whole[:, places]


def tensor(symbol: Symbol) -> Var:
    """(n, what a row holds): numbers; or truth values, times or texts where it has no others."""
    return tensor_of(symbol.cells, _dtype_of_tensor(symbol.like))


def _dtype_of_tensor(like: Any) -> Any:
    kind = kind_of_values(like)
    if kind == "mixed":
        stop("columns of several kinds together")
    if kind:
        return np.str_ if kind == "O" else np.int64
    return np.bool_ if is_bool(like) else np.float64


def gap(x: Var) -> Var:
    """Whether each is missing, of numbers, times or texts."""
    if x.dtype.kind in "iU":
        return x == (NAT if x.dtype.kind == "i" else MISSING)
    return np.isnan(x.astype(np.float64))


def made_of(found: Var, like: Any, width: int | None = None) -> Symbol:
    """The stand-in for rows like these, of a tensor with a column for each number of a row."""
    count = by_row(like).shape[1]
    width = count if width is None else width
    block = Block(found, width)
    places = range(count) if width == count else [0] * count
    return Symbol([(block, place) for place in places], like)


def kept(found: Var, like: Any) -> Var:
    """Numbers in the dtype of rows: few bits round, or wrap around."""
    if kind_of_values(like):
        return found
    (dtype, *_) = dtypes_of(like)
    if dtype.kind == "b" or not is_narrow(dtype):
        return found.astype(np.bool_ if dtype.kind == "b" else np.float64)
    if dtype.kind == "f":
        return found.astype(np.float64).astype(dtype).astype(np.float64)
    least = int(np.iinfo(dtype).min)
    wrapped = (found.astype(np.int64) - least) % 2 ** (8 * dtype.itemsize) + least
    wrapped = wrapped.astype(np.float64)
    if found.dtype.kind != "f":
        return wrapped
    return np.where(np.isfinite(found), wrapped, found)


# Functions of each number.


def elementwise(
    like: Any, make: Callable[..., Var], *args: Any, whole: Any = None, **options: Any
) -> Symbol:
    """What `make` writes down of tensors: of each number, and of the numbers beside it.

    `like` is what the function really gives. `whole` is for integers that wrap around.
    """
    if is_frame(like) and _needs_columns([like, *(arg.like for arg in symbols_in(list(args)))]):
        cells: list[Cell] = []
        for at in range(like.shape[1]):
            own = (_column_of(arg, like, at) for arg in args)
            cells += elementwise(like.iloc[:, at], make, *own, whole=whole, **options).cells
        return Symbol(cells, like)
    if whole is not None and dtypes_of(like)[0].kind in "iu" and is_narrow(dtypes_of(like)[0]):
        make = whole
    operands = [_operand(arg, like, _computed_in(args)) for arg in args]
    found = make(*(tensor for tensor, _ in operands), **options)
    return made_of(kept(found, like), like, max(width for _, width in operands))


def _needs_columns(rows: list[Any]) -> bool:
    """Whether the columns of frames are rounded, or wrap around, each in its way; or are of several kinds."""
    if any(kind_of_values(each) == "mixed" for each in rows):
        return True
    dtypes = [dtypes_of(each) for each in rows]
    several = any(len(set(each)) > 1 for each in dtypes)
    return several and any(is_narrow(dtype) for each in dtypes for dtype in each)


def _column_of(arg: Any, like: Any, at: int) -> Any:
    if isinstance(arg, Symbol):
        if is_frame(arg):
            return Symbol([arg.cells[at]], arg.like.iloc[:, at])
        return arg if arg.ndim == 1 or arg.shape[1] == 1 else arg[:, at]
    if is_pandas(arg):
        return arg.reindex(like.columns).iloc[at]
    return np.asarray(arg)[..., at] if np.ndim(arg) and np.shape(arg)[-1] > 1 else arg


def _computed_in(args: Any) -> np.dtype[Any]:
    """The dtype that numpy brings numbers to before it computes with them."""
    symbols = [arg for arg in args if isinstance(arg, Symbol) and not kind_of_values(arg.like)]
    others = [arg for arg in args if not isinstance(arg, Symbol | Traced | None)]
    try:
        return np.result_type(*(dtypes_of(symbol.like)[0] for symbol in symbols), *others)
    except (OverflowError, TypeError, ValueError):
        return np.dtype(np.float64)


def _operand(arg: Any, like: Any, dtype: np.dtype[Any]) -> tuple[Any, int]:
    """A tensor beside the tensors of `like`, and its width: 1 for one number a row."""
    kind = kind_of_values(like)
    if arg is None or isinstance(arg, Traced):
        return arg, 1
    if isinstance(arg, Symbol) and (kind in ("", "O") or not kind_of_values(arg.like)):
        cells = _cells_beside(arg, like)
        if all(cell is cells[0] for cell in cells):
            cells = cells[:1]
        return tensor_of(cells, _dtype_of_tensor(arg.like)), len(cells)
    if kind:
        return FOLLOWED[kind, "operand"](arg, like), 1
    if is_pandas(arg):
        if not is_frame(like) or is_frame(arg):
            stop("a column of numbers that are always the same, which pandas matches with the rows")
        arg = arg.reindex(like.columns)
    numbers = numbers_of(arg)
    if dtype.kind == "f" and numbers.dtype.kind != "b":
        numbers = numbers.astype(dtype)
    whole = by_row(np.broadcast_to(numbers, np.shape(like))).astype(np.float64)
    if not np.array_equal(whole, whole[:1].repeat(len(whole), 0), equal_nan=True):
        stop("numbers that depend on where a row stands")
    row = whole[:1, : 1 if numbers.size == 1 else None]
    return constant(row, np.bool_ if numbers.dtype.kind == "b" else np.float64), row.shape[1]


def _cells_beside(arg: Any, like: Any) -> list[Cell]:
    """The numbers of a stand-in beside each number of `like`."""
    of_pandas = is_frame(like) and is_pandas(arg)
    if of_pandas and (arg.ndim == 1 or list(arg.columns) != list(like.columns)):
        stop(
            "a frame with a column, or with a frame of other columns: write frame.div(column, axis=0)"
        )
    if arg.shape == np.shape(like):
        cells: list[Cell] = arg.cells
        return cells
    codes = np.asarray(_coded(arg, 0, len(arg.cells)))
    return _decoded(np.broadcast_to(codes, np.shape(like)), arg.cells)

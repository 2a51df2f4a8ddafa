"""The functions of numpy and pandas that a stand-in follows, of each number: see `stand_ins`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isfunction, signature
from typing import Any

import numpy as np

from modelkit.convert.estimators.stand_in_cells import always, elementwise, gap, plain
from modelkit.convert.estimators.stand_ins import (
    FOLLOWED,
    Symbol,
    compared,
    dtypes_of,
    floating,
    is_frame,
    is_pandas,
    numbers_of,
    one_by_one,
    pandas,
    real,
    stop,
)
from modelkit.convert.estimators.tensors import STRING, Var, gathered, ml
from modelkit.convert.estimators.traced import UFUNCS
from modelkit.signature.cast import MISSING

COMPARING = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
# Functions of numpy that jump at some value.
JUMPING = (
    *COMPARING, "ceil", "floor", "floor_divide", "logical_and", "logical_not", "logical_or", "logical_xor", "remainder",
    "rint", "sign", "trunc",
)  # fmt: skip
OPERATORS = {
    "add": np.add, "sub": np.subtract, "subtract": np.subtract, "mul": np.multiply, "multiply": np.multiply,
    "div": np.divide, "divide": np.divide, "truediv": np.divide, "floordiv": np.floor_divide, "mod": np.remainder,
    "pow": np.power, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
# What functions of numbers are of truth values.
OF_TRUTHS = {
    "add": np.logical_or, "maximum": np.logical_or, "minimum": np.logical_and, "multiply": np.logical_and,
}  # fmt: skip
ONLY_OF_TRUTHS = ("bitwise_and", "bitwise_or", "bitwise_xor", "invert")
BOUNDS = {"a_min": 0, "min": 0, "lower": 0, "a_max": 1, "max": 1, "upper": 1}
INCLUSIVE = {
    "both": (np.greater_equal, np.less_equal), "left": (np.greater_equal, np.less),
    "right": (np.greater, np.less_equal), "neither": (np.greater, np.less),
}  # fmt: skip


def by_hand(like: Any, made: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
    """By a function that is given `like` beside the arguments."""
    return made(*args, **named | {"like": like})


def by_steps(like: Any, made: Callable[..., Any], /, *args: Any, **named: Any) -> Symbol:
    """By simpler functions of stand-ins."""
    found = made(*args, **named)
    if np.shape(like) != np.shape(found.like):
        stop("numbers of another shape")
    return Symbol(found.cells, like)


def follows(*names: Any, way: Callable[..., Any] = by_hand) -> Callable[..., Any]:
    """Follow functions of numpy, and methods by their names."""

    def put_in(made: Callable[..., Any]) -> Callable[..., Any]:
        FOLLOWED.update({name: partial(_follow, name, way, made) for name in names})
        return made

    return put_in


def _follow(name: Any, way: Any, made: Callable[..., Any], *args: Any, **named: Any) -> Any:
    if name in ("where", "mask"):  # whose condition may be a function of the rows
        args = (args[0], *(each(args[0]) if isfunction(each) else each for each in args[1:]))
    try:
        given = signature(made).bind(*args, **named)
    except TypeError:
        stop(f"{getattr(name, '__name__', name)} with options")
    given.apply_defaults()
    others = list(real(args))
    ask = name if callable(name) else getattr(others.pop(0), name)
    return way(ask(*others, **real(named)), made, *given.args, **given.kwargs)


# Ufuncs.


def _ufunc(function: Any, *inputs: Any) -> Symbol:
    name = function.__name__
    if name == "matmul":
        found: Symbol = FOLLOWED[np.dot](*inputs)
        return found
    if name not in UFUNCS:
        stop(f"numpy.{name}")
    if name in JUMPING and not any(isinstance(each, float) and np.isinf(each) for each in inputs):
        for each in inputs:
            compared(each)
    like = function(*real(inputs))
    make = partial(_written, function)
    if name in ("multiply", "square"):
        whole = partial(_in_dtype, function, np.int64)
        return elementwise(like, make, *inputs, whole=whole)
    if name in ("floor_divide", "remainder") and not is_pandas(like) and like.dtype.kind in "iu":
        # As numpy has it.
        return elementwise(like, lambda x, by: np.where(by == 0.0, 0.0, make(x, by)), *inputs)
    return elementwise(like, make, *inputs)


def _written(function: Any, *inputs: Var) -> Var:
    name = function.__name__
    truths = all(each.dtype == np.bool_ for each in inputs)
    if name in ONLY_OF_TRUTHS and not truths:
        stop(f"numpy.{name} of numbers")
    if truths and name in OF_TRUTHS:
        return OF_TRUTHS[name](*inputs)
    if name in ONLY_OF_TRUTHS or name.startswith("logical"):
        return function(*inputs)
    return _in_dtype(function, np.float64, *inputs)


def _in_dtype(function: Any, dtype: Any, *inputs: Var) -> Var:
    return function(*(each.astype(dtype) for each in inputs))


FOLLOWED["", "ufunc"] = _ufunc
FOLLOWED["mixed", "ufunc"] = lambda function, *_: stop(
    f"numpy.{function.__name__} of a frame of several kinds of columns"
)


def _operator(function: Any, *, turned: bool = False) -> Callable[..., Any]:
    def method(x: Any, other: Any, axis: Any = "columns", **named: Any) -> Any:
        if named:
            stop(f"{function.__name__} with options")
        if is_frame(x) and is_pandas(other) and other.ndim == 1 and axis in (0, "index", "rows"):
            other = (plain(other) if isinstance(other, Symbol) else other.to_numpy())[:, None]
        return function(other, x) if turned else function(x, other)

    return method


for name, arithmetic in OPERATORS.items():
    FOLLOWED[name] = _operator(arithmetic)
    FOLLOWED[f"r{name}"] = _operator(arithmetic, turned=True)


# Conditions and gaps, of numbers, times and texts.


def _one_of(condition: Var, x: Var, other: Var) -> Var:
    x, other = (each.astype(np.float64) if each.dtype.kind in "bf" else each for each in (x, other))
    return np.where(condition.astype(np.bool_), x, other)


@follows(np.where)
def _where(condition: Any, *chosen: Any, like: Any = None) -> Any:
    if len(chosen) != 2:
        stop("numpy.where of a condition alone: give it both values")
    return elementwise(like, _one_of, condition, *chosen)


follows("where", way=elementwise)(lambda x, cond, other=np.nan: _one_of(cond, x, other))
follows("mask", way=elementwise)(lambda x, cond, other=np.nan: _one_of(cond, other, x))
follows("isna", "isnull", way=elementwise)(gap)
follows("notna", "notnull", way=elementwise)(lambda x: ~gap(x))
follows("abs", way=elementwise)(lambda x: np.abs(x.astype(np.float64)))


@follows("fillna")
def _fillna(x: Any, value: Any, *, like: Any = None) -> Any:
    value = pandas().Series(value) if isinstance(value, dict) else value
    return elementwise(like, lambda x, other: _one_of(gap(x), other, x), x, value)


@follows(np.select)
def _select(condlist: Any, choicelist: Any, default: Any = 0, *, like: Any = None) -> Any:
    found: Any = np.asarray(default, like.dtype)
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        found = np.where(condition, choice, found)
    return by_steps(like, lambda: found)


@follows(np.clip, "clip", way=by_steps)
def _clip(x: Any, *bounds: Any, **named: Any) -> Any:
    """The lower bound first, then the upper, as numpy has it."""
    ends = [*bounds, None, None]
    for name, value in named.items():
        ends[BOUNDS[name] if name in BOUNDS else stop("clip with options")] = value
    x = x if ends[0] is None else np.maximum(x, ends[0])
    return x if ends[1] is None else np.minimum(x, ends[1])


@follows("between", way=by_steps)
def _between(x: Any, left: Any, right: Any, inclusive: str = "both") -> Any:
    above, below = INCLUSIVE[inclusive]
    return above(x, left) & below(x, right)


@follows(np.round, np.around, "round", way=by_steps)
def _round(x: Any, decimals: Any = 0) -> Any:
    if not isinstance(decimals, int):
        stop("round with numbers of decimals by column")
    factor = 10.0 ** abs(decimals)
    if decimals < 0:
        return np.rint(x / factor) * factor
    return np.rint(x * factor) / factor if decimals else np.rint(x)


@follows(np.nan_to_num, way=by_steps)
def _nan_to_num(
    x: Any, copy: Any = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    found: Any = plain(x)
    if not floating(found.like):
        return found
    most = np.finfo(found.dtype).max
    found = np.where(np.isnan(found), nan, found)
    found = np.where(found == np.inf, most if posinf is None else posinf, found)
    return np.where(found == -np.inf, -most if neginf is None else neginf, found)


@follows("astype")
def _astype(x: Any, dtype: Any, copy: Any = None, *, like: Any = None) -> Any:
    """Numbers in another dtype: whole ones are cut off."""
    if is_frame(x) and isinstance(dtype, dict):
        columns = [
            x.iloc[:, at].astype(like.dtypes.iloc[at]) if name in dtype else x.iloc[:, at]
            for at, name in enumerate(like.columns)
        ]
        return Symbol([column.cells[0] for column in columns], like)
    to = next(iter(like.dtypes)) if is_frame(like) else like.dtype
    if not isinstance(to, np.dtype) or to.kind not in "biuf":
        stop(f"astype({getattr(dtype, '__name__', dtype)}): only numbers can be followed")
    if to.kind != "f":
        compared(x)
    wrap = to.kind not in "iu" or all(each.kind in "iu" for each in dtypes_of(x.like))

    def make(numbers: Var) -> Var:
        if wrap or numbers.dtype == np.bool_:
            return numbers
        return _whole(numbers, to, gaps=is_pandas(x))

    return elementwise(like, make, x)


def _whole(numbers: Var, dtype: np.dtype[Any], *, gaps: bool) -> Var:
    """Numbers cut off; the lowest integer where a processor has none, as x86 does it.

    With `gaps`, what is missing or infinite stays so: pandas raises there.
    """
    least = -(2.0 ** (31 if dtype.itemsize < 4 or dtype == np.int32 else 63))
    cut_off = np.trunc(numbers)
    found = np.where((cut_off >= least) & (cut_off < -least), cut_off, least)
    return np.where(np.isfinite(numbers), found, np.nan) if gaps else found


# Tables of values.


def _looked_up(x: Var, keys: list[Any], values: list[Any]) -> tuple[Var, Var]:
    """Which numbers or texts are among keys, and what those stand for; the last value for any other."""
    texts = x.dtype == STRING
    if texts != isinstance(keys[0], str):
        stop("a table of other values than the column's")
    places = ml.label_encoder(
        x if texts else x.astype(np.float64) + 0.0,
        keys_tensor=np.array(keys, np.str_) if texts else np.array(keys, np.float64) + 0.0,
        values_tensor=np.arange(len(keys)),
        default_tensor=np.array([-1]),
    )
    return places >= 0, gathered(np.array(values), places)


def _keys_of(keys: Any) -> list[Any]:
    """Keys, all texts or all numbers."""
    texts = all(isinstance(key, str) for key in keys)
    return list(keys) if texts else numbers_of(list(keys)).tolist()


def _values_of(values: Any) -> list[Any]:
    """Values, all texts or all numbers, and behind them a missing one."""
    if values and all(isinstance(value, str) for value in values):
        return [*values, MISSING]
    known = [np.nan if value is None else value for value in values]
    return [*numbers_of(known).astype(np.float64).tolist(), np.nan]


@follows("replace")
def _replace(x: Any, old: Any, *new: Any, like: Any = None) -> Any:
    """All of it at once: what was put in is not replaced again."""
    table = old if type(old) is dict and not new else None
    if len(new) == 1 and not isinstance(new[0], list | dict):
        table = dict.fromkeys(old if isinstance(old, list) else [old], new[0])
    if not table or any(isinstance(value, dict | list) for value in table.values()):
        stop("replace by other than a dict of values")
    keys, values = _keys_of(table), _values_of(list(table.values()))

    def make(x: Var) -> Var:
        if (x.dtype == STRING) != isinstance(keys[0], str) or x.dtype == np.bool_:
            return x  # in which there is none
        among, found = _looked_up(x, keys, values)
        return _one_of(among, found, x)

    return elementwise(like, make, compared(x))


@follows("map")
def _map(x: Any, change: Any, *, like: Any = None) -> Any:
    if callable(change):
        return by_steps(like, one_by_one, change, x)
    if type(change) is not dict or not change or x.dtype == np.bool_:
        stop("map by other than a dict of values")
    keys, values = _keys_of(change), _values_of(list(change.values()))
    return elementwise(like, lambda x: _looked_up(x, keys, values)[1], compared(x))


@follows(np.isin, "isin")
def _isin(x: Any, values: Any, *, invert: bool = False, like: Any = None) -> Any:
    if isinstance(values, dict | Symbol) or is_frame(values):
        stop("isin by column")
    known = _keys_of(values)
    if not is_pandas(x):
        known = [value for value in known if value == value]  # NaN is in no list of numpy's
    keys = list(dict.fromkeys(known)) or [np.inf]

    def make(x: Var) -> Var:
        among, _ = _looked_up(x, keys, keys)
        among = among & bool(known)
        return ~among if invert else among

    return elementwise(like, make, compared(x))


# Methods of columns, written with others.


def _assign(x: Any, **columns: Any) -> Any:
    found = x.copy()
    for name, value in columns.items():
        found[name] = value(found) if callable(value) else value
    return found


def _insert(x: Any, loc: int, column: Any, value: Any) -> None:  # pandas' own form
    order = [*x.columns]
    x[column] = value
    x.become(x[[*order[:loc], column, *order[loc:]]])


def _pop(x: Any, item: Any) -> Any:
    found = x[item]
    del x[item]
    return found


@follows("apply", "transform")
def _apply(x: Any, func: Any, axis: Any = 0, *, like: Any = None, **named: Any) -> Any:
    """A function of each column; or of each row, if it is the same for all at once."""
    if not callable(func):
        stop("apply by name: call the function itself")
    if isinstance(func, np.ufunc):
        found = func(x)
    elif is_frame(x) and axis in (0, "index"):
        columns = [plain(func(x.iloc[:, at], **named)) for at in range(x.shape[1])]
        found = np.column_stack(columns)
    else:
        found = func(x, **named) if is_frame(x) else one_by_one(func, x, **named)
    if not isinstance(found, Symbol):
        stop("apply with a function that gives other than columns")
    return by_steps(like, lambda: found)


def _filled_like(function: Any) -> Callable[..., Any]:
    return lambda x, *args, **named: always(function(x.like, *args, **named))


OTHERS: dict[Any, Callable[..., Any]] = {
    "assign": _assign,
    "insert": _insert,
    "items": lambda x: ((name, x[name]) for name in x.columns),
    "pipe": lambda x, function, *args, **named: function(x, *args, **named),
    "pop": _pop,
    "select_dtypes": lambda x, *args, **named: x[
        list(x.like.select_dtypes(*args, **named).columns)
    ],
    np.append: lambda x, values, axis=None: np.concatenate([x, values], axis=axis),
    np.empty_like: _filled_like(np.zeros_like),
    np.fix: np.trunc,
    np.ndim: lambda x: x.ndim,
    np.shape: lambda x: x.shape,
    np.size: lambda x, axis=None: np.size(x.like, axis),
    **{each: _filled_like(each) for each in (np.zeros_like, np.ones_like, np.full_like)},
}
FOLLOWED |= OTHERS

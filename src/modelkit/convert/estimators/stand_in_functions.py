"""The functions of numpy and pandas that a stand-in follows: see `stand_ins`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.stand_ins import (
    FUNCTIONS,
    METHODS,
    PROPERTIES,
    UFUNCS,
    Symbol,
    axis_of_rows,
    by_row,
    compared,
    dtypes_of,
    elementwise,
    floating,
    is_bool,
    is_frame,
    is_pandas,
    kind_of_values,
    made_of,
    numbers_of,
    one_by_one,
    pandas,
    plain,
    put,
    real,
    rearranged,
    stop,
    taken,
    tensor,
    where,
)
from modelkit.convert.estimators.tensors import Var, ml, width
from modelkit.convert.estimators.traced import UFUNCS as WRITTEN
from modelkit.convert.estimators.traced import gathered, row_sums

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
OPERATORS = {
    "add": np.add, "sub": np.subtract, "subtract": np.subtract, "mul": np.multiply, "multiply": np.multiply,
    "div": np.divide, "divide": np.divide, "truediv": np.divide, "floordiv": np.floor_divide, "mod": np.remainder,
    "pow": np.power, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
# What functions of numbers are of truth values.
OF_TRUTHS = {
    "add": "logical_or",
    "maximum": "logical_or",
    "minimum": "logical_and",
    "multiply": "logical_and",
}
BOUNDS = {
    "a_min": "low",
    "min": "low",
    "lower": "low",
    "a_max": "high",
    "max": "high",
    "upper": "high",
}
INCLUSIVE = {
    "both": (np.greater_equal, np.less_equal),
    "left": (np.greater_equal, np.less),
    "right": (np.greater, np.less_equal),
    "neither": (np.greater, np.less),
}


def _ufunc(name: str) -> Callable[..., Var]:
    """What a ufunc of numpy or scipy writes down."""

    def make(*inputs: Var) -> Var:
        truths = all(each.dtype == np.bool_ for each in inputs)
        if name.startswith(("bitwise", "invert", "logical")):
            if not truths and not name.startswith("logical"):
                stop(f"numpy.{name} of numbers")
            return WRITTEN[name](*inputs)
        if truths and name in OF_TRUTHS:
            return WRITTEN[OF_TRUTHS[name]](*inputs)
        return WRITTEN[name](*(each.astype(np.float64) for each in inputs))

    return make


for each in WRITTEN:
    UFUNCS[each] = _ufunc(each)


def _gap(numbers: Var) -> Var:
    return np.isnan(numbers.astype(np.float64))


def follows(*functions: Any, methods: str = "") -> Callable[..., Any]:
    """Put a function into the tables."""

    def put_in(made: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS.update(dict.fromkeys(functions, made))
        METHODS.update(dict.fromkeys(methods.split(), made))
        return made

    return put_in


for function in MOVING:
    FUNCTIONS[function] = partial(rearranged, function)
for name in MOVING_METHODS:
    METHODS[name] = partial(
        rearranged, lambda rows, *args, name=name, **named: getattr(rows, name)(*args, **named)
    )
PROPERTIES["T"] = partial(rearranged, lambda rows: rows.T)
PROPERTIES["values"] = partial(rearranged, lambda rows: rows.values)


class Places:
    """What `frame.loc` or `frame.iloc` is."""

    def __init__(self, symbol: Any, name: str) -> None:
        self._symbol = symbol
        self._of = operator.attrgetter(name)

    def __getitem__(self, key: Any) -> Any:
        return taken(self._symbol, key, self._of)

    def __setitem__(self, key: Any, value: Any) -> None:
        put(self._symbol, key, value, self._of)


PROPERTIES["loc"] = lambda symbol: Places(symbol, "loc")
PROPERTIES["iloc"] = lambda symbol: Places(symbol, "iloc")


def _operator(function: Any, *, turned: bool = False) -> Callable[..., Any]:
    def method(symbol: Any, other: Any, axis: Any = "columns", **named: Any) -> Any:
        if named:
            stop(f"{function.__name__} with options")
        if kind_of_values(symbol.like):  # of times or texts
            return function(other, symbol) if turned else function(symbol, other)
        upright = is_frame(symbol) and axis in (0, "index", "rows")

        def ask(rows: Any, others: Any) -> Any:
            if upright and is_pandas(others) and others.ndim == 1:
                others = others.to_numpy()[:, None]
            return function(others, rows) if turned else function(rows, others)

        make = UFUNCS[function.__name__]
        if turned:
            return elementwise(
                ask, lambda left, right: make(right, left), symbol, other, upright=upright
            )
        return elementwise(ask, make, symbol, other, upright=upright)

    return method


for name, arithmetic in OPERATORS.items():
    METHODS[name] = _operator(arithmetic)
    METHODS[f"r{name}"] = _operator(arithmetic, turned=True)


@follows(np.where)
def _where(condition: Any, *chosen: Any) -> Any:
    if len(chosen) != 2:
        stop("numpy.where of a condition alone: give it both values")
    return elementwise(np.where, where, condition, *chosen)


@follows(methods="where")
def _where_method(symbol: Any, condition: Any, other: Any = np.nan) -> Any:
    given = condition(symbol) if callable(condition) else condition
    return elementwise(
        lambda rows, truth, others: rows.where(truth, others),
        lambda rows, truth, others: where(truth, rows, others),
        symbol,
        given,
        other,
    )


@follows(methods="mask")
def _mask_method(symbol: Any, condition: Any, other: Any = np.nan) -> Any:
    given = condition(symbol) if callable(condition) else condition
    return elementwise(
        lambda rows, truth, others: rows.mask(truth, others),
        lambda rows, truth, others: where(truth, others, rows),
        symbol,
        given,
        other,
    )


@follows(np.select)
def _select(conditions: Any, choices: Any, default: Any = 0) -> Any:
    like = np.select(*real((conditions, choices, default)))
    found = np.asarray(default, like.dtype)
    for condition, choice in reversed(list(zip(conditions, choices, strict=True))):
        found = np.where(condition, choice, found)
    return _as(like, found)


def _as(like: Any, found: Any) -> Any:
    """What was found in steps, in the form that the function itself gives."""
    if np.shape(like) != np.shape(found.like):
        stop("numbers of another shape")
    return Symbol(found.cells, like)


@follows(np.clip, methods="clip")
def _clip(symbol: Any, *bounds: Any, **named: Any) -> Any:
    """The lower bound first, then the upper, as numpy has it."""
    if not named.keys() <= BOUNDS.keys():
        stop("clip with options")
    low, high = [*bounds, None, None][:2]
    low = next((value for name, value in named.items() if BOUNDS[name] == "low"), low)
    high = next((value for name, value in named.items() if BOUNDS[name] == "high"), high)
    found = symbol if low is None else np.maximum(symbol, low)
    found = found if high is None else np.minimum(found, high)
    rows = real(symbol)
    ask = rows.clip if is_pandas(rows) else partial(np.clip, rows)
    return _as(ask(*real(bounds), **real(named)), found)


@follows(np.round, np.around, methods="round")
def _round(symbol: Any, decimals: Any = 0) -> Any:
    if not isinstance(decimals, int):
        stop("round with numbers of decimals by column")
    like = symbol.like.round(decimals)
    factor = 10.0 ** abs(decimals)

    def make(numbers: Var) -> Var:
        if decimals < 0:
            return np.rint(numbers / factor) * factor
        return np.rint(numbers * factor) / factor

    if not floating(symbol.like):
        return elementwise(lambda rows: rows.round(decimals), make, symbol)
    if decimals < 0:
        return _as(like, np.rint(symbol / factor) * factor)
    return _as(like, np.rint(symbol * factor) / factor if decimals else np.rint(symbol))


FUNCTIONS[np.fix] = np.trunc


@follows(np.nan_to_num)
def _nan_to_num(
    symbol: Any, *, nan: Any = 0.0, posinf: Any = None, neginf: Any = None, **_: Any
) -> Any:
    """Of the options, `copy` makes no difference here."""
    like = np.nan_to_num(symbol.like, nan=nan, posinf=posinf, neginf=neginf)
    found: Any = plain(symbol)
    if not floating(found.like):
        return _as(like, found)
    largest = np.finfo(found.like.dtype).max
    found = np.where(np.isnan(found), nan, found)
    found = np.where(found == np.inf, largest if posinf is None else posinf, found)
    return _as(like, np.where(found == -np.inf, -largest if neginf is None else neginf, found))


@follows(methods="isna isnull")
def _isna(symbol: Any) -> Any:
    return elementwise(lambda rows: rows.isna(), _gap, symbol)


@follows(methods="notna notnull")
def _notna(symbol: Any) -> Any:
    return elementwise(lambda rows: rows.notna(), lambda numbers: ~_gap(numbers), symbol)


@follows(methods="abs")
def _abs(symbol: Any) -> Any:
    return np.absolute(symbol)


@follows(methods="astype")
def _astype(symbol: Any, dtype: Any, **named: Any) -> Any:
    """Numbers in another dtype: whole ones are cut off."""
    if isinstance(dtype, dict):
        found = symbol.copy()
        for name, kind in dtype.items():
            found[name] = found[name].astype(kind)
        return found
    try:
        to = np.dtype(dtype)
    except TypeError:
        to = np.dtype(object)
    if to.kind not in "biuf":
        stop(f"astype({getattr(dtype, '__name__', dtype)}): only numbers can be followed")
    if to.kind != "f":
        compared(symbol)

    def make(numbers: Var) -> Var:
        if to.kind not in "iu" or numbers.dtype == np.bool_:
            return numbers
        return _whole(numbers.astype(np.float64), to, gaps=is_pandas(symbol))

    if all(each.kind in "iu" for each in dtypes_of(symbol.like)):  # which wrap around
        return elementwise(lambda rows: rows.astype(dtype, **named), lambda same: same, symbol)

    return elementwise(lambda rows: rows.astype(dtype, **named), make, symbol)


def _whole(numbers: Var, dtype: np.dtype[Any], *, gaps: bool) -> Var:
    """Numbers cut off; the lowest integer where a processor has none, as x86 does it.

    With `gaps`, what is missing or infinite stays so: pandas raises there.
    """
    bits = 32 if dtype.itemsize < 4 or dtype == np.int32 else 64
    cut_off = np.trunc(numbers)
    below = cut_off < 2.0 ** (bits - 1)
    known = below & (cut_off >= -(2.0 ** (bits - 1)))
    found = np.where(known, cut_off, -(2.0 ** (bits - 1)))
    return np.where(np.isfinite(numbers), found, np.nan) if gaps else found


@follows(methods="fillna")
def _fillna(symbol: Any, value: Any) -> Any:
    if isinstance(value, dict):
        found = symbol.copy()
        for name, filling in value.items():
            if name in symbol.like.columns:
                found[name] = found[name].fillna(filling)
        return found

    def make(numbers: Var, others: Var) -> Var:
        return where(_gap(numbers), others, numbers)

    return elementwise(lambda rows, others: rows.fillna(others), make, symbol, value)


@follows(methods="replace")
def _replace(symbol: Any, old: Any, *new: Any) -> Any:
    """All of it at once: what was put in is not replaced again."""
    pairs = list(old.items()) if isinstance(old, dict) and not new else None
    if pairs is None and len(new) == 1 and not isinstance(new[0], list | dict):
        pairs = [(value, new[0]) for value in (old if isinstance(old, list) else [old])]
    if pairs is None or any(isinstance(value, dict | str) for pair in pairs for value in pair):
        stop("replace by other than numbers")
    found = _looked_up(symbol, dict(pairs), symbol)
    return _as(symbol.like.replace(old, *new), found)


@follows(methods="map")
def _map(symbol: Any, change: Any, **named: Any) -> Any:
    if callable(change) and not named:
        return _as(symbol.like.map(change), one_by_one(change, symbol))
    if not isinstance(change, dict) or named or is_bool(symbol.like):
        stop("map by other than a dict of numbers")
    return _as(symbol.like.map(change), _looked_up(symbol, change, np.nan))


def _looked_up(symbol: Any, table: dict[Any, Any], otherwise: Any) -> Any:
    """What a number stands for in a table; what it is not in gives another."""
    keys = numbers_of(list(table)).astype(np.float64)
    values = numbers_of([np.nan if value is None else value for value in table.values()]).astype(
        np.float64
    )
    places = ml.label_encoder(
        tensor(compared(symbol)).astype(np.float64) + 0.0,
        keys_tensor=keys + 0.0,
        values_tensor=np.arange(len(keys)),
        default_tensor=np.array([-1]),
    )
    shape = by_row(symbol.like)
    dressed_as = np.zeros(np.shape(symbol.like))
    known = made_of(places >= 0, dressed_as > 0, shape.shape[1])
    # A place of -1 takes the last value, which `where` leaves out.
    found = made_of(gathered(np.asarray(values, np.float64), places), dressed_as)
    return np.where(known, found, plain(otherwise) if isinstance(otherwise, Symbol) else otherwise)


@follows(np.isin, methods="isin")
def _isin(symbol: Any, values: Any, **named: Any) -> Any:
    if isinstance(values, dict | Symbol) or is_frame(values):
        stop("isin by column")
    like = symbol.like.isin(values) if is_pandas(symbol) else np.isin(symbol.like, values, **named)
    if set(named) - {"invert"}:
        stop("isin with options")
    known = [float(value) for value in numbers_of(list(values))]
    if not is_pandas(symbol):
        known = [value for value in known if value == value]  # NaN is in no list of numpy's
    if not known:
        return Symbol([0.0] * by_row(like).shape[1], like)
    inside = ml.label_encoder(
        tensor(compared(symbol)).astype(np.float64) + 0.0,
        keys_tensor=np.unique(known) + 0.0,
        values_tensor=np.ones(len(np.unique(known)), np.int64),
        default_tensor=np.array([0]),
    )
    found = inside == int(not named.get("invert"))
    return made_of(found, like)


@follows(methods="between")
def _between(symbol: Any, left: Any, right: Any, inclusive: str = "both") -> Any:
    above, below = INCLUSIVE[inclusive]
    return above(symbol, left) & below(symbol, right)


@follows(methods="assign")
def _assign(symbol: Any, **columns: Any) -> Any:
    found = symbol.copy()
    for name, value in columns.items():
        found[name] = value(found) if callable(value) else value
    return found


@follows(methods="select_dtypes")
def _select_dtypes(symbol: Any, *args: Any, **named: Any) -> Any:
    return symbol[list(symbol.like.select_dtypes(*args, **named).columns)]


@follows(methods="insert")
def _insert(symbol: Any, place: int, name: Any, value: Any) -> None:
    order = [*symbol.like.columns]
    symbol[name] = value
    symbol.become(symbol[[*order[:place], name, *order[place:]]])


@follows(methods="pop")
def _pop(symbol: Any, name: Any) -> Any:
    found = symbol[name]
    symbol.become(symbol.drop(columns=[name]))
    return found


@follows(methods="items")
def _items(symbol: Any) -> Iterator[Any]:
    return ((name, symbol[name]) for name in symbol.like.columns)


@follows(methods="pipe")
def _pipe(symbol: Any, function: Any, *args: Any, **named: Any) -> Any:
    return function(symbol, *args, **named)


@follows(methods="apply")
def _apply(symbol: Any, function: Any, axis: Any = 0, **named: Any) -> Any:
    """A function of each column; or of each row, if it is the same for all at once."""
    if not callable(function):
        stop("apply by name: call the function itself")
    like = symbol.like.apply(function, **({"axis": axis} if is_frame(symbol) else {}), **named)
    if isinstance(function, np.ufunc):
        found = function(symbol)
    elif is_frame(symbol) and axis in (0, "index"):
        columns = [
            plain(function(symbol.iloc[:, place], **named)) for place in range(symbol.like.shape[1])
        ]
        found = np.column_stack(columns)
    elif is_frame(symbol):
        found = function(symbol, **named)
    else:
        found = one_by_one(function, symbol, **named)
    if not isinstance(found, Symbol):
        stop("apply with a function that gives other than columns")
    return _as(like, found)


# Sums and the like, of each row.


def _last_axis(symbol: Any, axis: Any) -> tuple[Var, int, int]:
    """(n, others, size) with the numbers along an axis last, and how many those are."""
    rows = np.shape(symbol.like)
    if axis is None or isinstance(axis, tuple):
        stop("numbers of all rows together" if axis is None else "several axes at once")
    at = {"columns": 1, "index": 0}.get(axis, axis) % len(rows)
    if at == axis_of_rows(symbol.like):
        stop(
            "numbers of all rows together: take them from the rows of training, and write them down"
        )
    moved = rearranged(np.moveaxis, plain(symbol), at, -1)
    size = rows[at]
    others = len(symbol.cells) // size
    return tensor(moved), others, size


def _reduced(make: Callable[[Any], Any], symbol: Any, axis: Any) -> Any:
    """(n, others) of a function of the last axis, which keeps it."""
    numbers, others, size = _last_axis(symbol, axis)
    x = numbers.astype(np.float64)
    return make(x) if others == 1 else make(x.reshape(-1, others, size)).reshape(-1, others)


LAST: dict[str, Any] = {"axis": -1, "keepdims": True}


def _with_gaps(found: Any, x: Any) -> Any:
    """What was found, and a missing one where there is any."""
    return np.where(np.any(np.isnan(x), **LAST), np.nan, found)


def _max(x: Any) -> Any:
    return _with_gaps(np.max(x, **LAST), x)


def _min(x: Any) -> Any:
    return _with_gaps(np.min(x, **LAST), x)


def _sum(x: Any) -> Any:
    return row_sums(x) if x.ndim == 2 else np.sum(x, **LAST)


def _prod(x: Any) -> Any:
    return np.prod(x, **LAST)


def _mean(x: Any) -> Any:
    return row_sums(x) / width(x) if x.ndim == 2 else np.mean(x, **LAST)


def _any(x: Any) -> Any:
    return np.any(x.astype(np.bool_), **LAST)


def _all(x: Any) -> Any:
    return np.all(x.astype(np.bool_), **LAST)


def _variance(x: Any, ddof: float = 0) -> Any:
    centred = x - _mean(x)
    return _sum(centred * centred) / (_sum(centred * 0.0 + 1.0) - float(ddof))


def _first_of(place: Any, mark: float) -> Callable[[Any], Any]:
    """The place of the first largest or smallest: of a missing one where there is any."""

    def make(x: Any) -> Any:
        gaps = np.isnan(x)
        found = place(np.where(gaps, mark, x), **LAST)
        gap = np.argmax(gaps.astype(np.int32), **LAST)
        return np.where(np.any(gaps, **LAST), gap, found).astype(np.float64)

    return make


def _skipping(
    fill: float, make: Callable[[Any], Any], *, empty: float | None
) -> Callable[[Any], Any]:
    """A function of the numbers that are not missing."""

    def skip(x: Any) -> Any:
        gaps = np.isnan(x)
        found = make(np.where(gaps, fill, x))
        return found if empty is None else np.where(np.any(~gaps, **LAST), found, empty)

    return skip


def _known_mean(x: Any) -> Any:
    gaps = np.isnan(x)
    return _sum(np.where(gaps, 0.0, x)) / _sum((~gaps).astype(np.float64))


def _known_variance(x: Any, ddof: float = 0) -> Any:
    gaps = np.isnan(x)
    centred = np.where(gaps, 0.0, x - _known_mean(x))
    count = _sum((~gaps).astype(np.float64)) - float(ddof)
    return np.where(count > 0.0, _sum(centred * centred) / count, np.nan)


EXACT = ("all", "any", "argmax", "argmin", "max", "min")
OF_ROWS: dict[str, Callable[..., Var]] = {
    "all": _all,
    "any": _any,
    "argmax": _first_of(np.argmax, -np.inf),
    "argmin": _first_of(np.argmin, np.inf),
    "max": _max,
    "mean": _mean,
    "min": _min,
    "prod": _prod,
    "ptp": lambda x: _max(x) - _min(x),
    "sum": _sum,
    "var": _variance,
}
OF_KNOWN: dict[str, Callable[..., Var]] = {
    "all": _skipping(1.0, _all, empty=None),
    "any": _skipping(0.0, _any, empty=None),
    "max": _skipping(-np.inf, _max, empty=np.nan),
    "mean": _known_mean,
    "min": _skipping(np.inf, _min, empty=np.nan),
    "prod": _skipping(1.0, _prod, empty=None),
    "sum": _skipping(0.0, _sum, empty=None),
    "var": _known_variance,
}


def _as_numbers(symbol: Any) -> Any:
    """A frame as numpy can have it: one of truth values beside numbers, or of gaps, is one of objects there."""
    mixed = is_frame(symbol) and np.asarray(symbol.like).dtype == object
    return symbol.astype(float) if mixed else symbol


def _of_rows(name: str, function: Any = None, *, known: bool = False) -> Callable[..., Any]:
    """A function of each row, by its name; of the numbers that are not missing, as pandas has it."""
    root = name == "std"

    def followed(symbol: Any, axis: Any = None, *args: Any, **named: Any) -> Any:
        if args or set(named) - {"ddof", "keepdims", "numeric_only", "skipna"}:
            stop(f"{name} with options")
        if name in ("all", "any", "argmax", "argmin"):
            compared(symbol)
        axis = 0 if axis is None and is_pandas(symbol) else axis
        skipped = (known or is_pandas(symbol)) and named.get("skipna", True)
        if name not in EXACT and any(
            dtype.itemsize < 8 for dtype in dtypes_of(symbol.like) if dtype.kind == "f"
        ):
            stop(f"{name} of numbers of few digits: write it of X.astype(float)")
        table = OF_KNOWN if skipped else OF_ROWS
        key = "var" if root else name
        if key not in table:
            stop(f"{name} without the missing numbers")
        make = table[key]
        if key == "var":
            make = partial(
                make, ddof=named.get("ddof", 1 if is_pandas(symbol) and function is None else 0)
            )
        found = _reduced(make, _as_numbers(symbol), axis)
        if function is None:
            like = getattr(symbol.like, name)(axis=axis, **named)
        else:
            like = function(symbol.like, axis=axis, **named)
        return made_of(np.sqrt(found) if root else found, like)

    return followed


for name in (*OF_ROWS, "std"):
    FUNCTIONS[getattr(np, name)] = _of_rows(name, getattr(np, name))
    METHODS[name] = _of_rows(name)
for name in ("max", "mean", "min", "prod", "std", "sum", "var"):
    FUNCTIONS[getattr(np, f"nan{name}")] = _of_rows(name, getattr(np, f"nan{name}"), known=True)


@follows(np.linalg.norm)
def _norm(symbol: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:  # noqa: A002 - numpy's own form
    like = np.linalg.norm(symbol.like, ord, axis, keepdims)
    sizes = np.abs(plain(symbol))
    if ord in (None, 2):
        found = np.sqrt(np.sum(sizes * sizes, axis=axis, keepdims=keepdims))
    elif ord in (1, np.inf):
        found = (np.sum if ord == 1 else np.max)(sizes, axis=axis, keepdims=keepdims)
    else:
        found = stop(f"numpy.linalg.norm(ord={ord})")
    return _as(like, found)


@follows(np.median)
def _median(symbol: Any, axis: Any = None, keepdims: Any = False) -> Any:  # numpy's own form
    def middle(x: Any) -> Any:
        size = x.shape[-1]
        ordered = _ordered(x)
        low, high = (ordered[..., [place]] for place in ((size - 1) // 2, size // 2))
        return _with_gaps((low + high) * 0.5, x)

    return made_of(
        _reduced(middle, symbol, axis), np.median(symbol.like, axis=axis, keepdims=keepdims)
    )


def _ordered(x: Any) -> Any:
    """Numbers from the smallest to the largest, and missing ones behind these."""
    ordered = np.sort(np.where(np.isnan(x), np.inf, x), axis=-1)
    known = np.sum((~np.isnan(x)).astype(np.float64), **LAST)
    return np.where(np.arange(x.shape[-1]) < known, ordered, np.nan)


@follows(np.sort)
def _sort(symbol: Any, axis: Any = -1) -> Any:
    if symbol.like.ndim != 2 or axis not in (1, -1):
        stop("numbers of all rows together")
    numbers = tensor(symbol).astype(np.float64)
    return made_of(_ordered(numbers), np.sort(symbol.like, axis=axis))


def _running(name: str) -> Callable[..., Any]:
    """Sums or products along a row, one column after the other."""
    step = np.add if name == "cumsum" else np.multiply

    def followed(symbol: Any, axis: Any = None, **named: Any) -> Any:
        if axis not in (1, -1, "columns") or symbol.like.ndim != 2 or named:
            stop("numbers of all rows together")
        rows: Any = plain(symbol)
        wide = getattr(rows.like, name)(axis=1).dtype
        gaps = np.isnan(rows) if is_pandas(symbol) else None
        rows = rows if gaps is None else np.where(gaps, 0 if name == "cumsum" else 1, rows)
        columns = [rows[:, place].astype(wide) for place in range(rows.like.shape[1])]
        whole: Any = np.column_stack(list(accumulate(columns, step)))
        whole = whole if gaps is None else np.where(gaps, np.nan, whole)
        return _as(getattr(symbol.like, name)(axis=1), whole)

    return followed


for name in ("cumsum", "cumprod"):
    FUNCTIONS[getattr(np, name)] = METHODS[name] = _running(name)


@follows(np.diff)
def _diff(symbol: Any, n: int = 1, axis: int = -1, **named: Any) -> Any:
    if symbol.like.ndim != 2 or axis not in (1, -1) or named:
        stop("numbers of all rows together")
    found = plain(symbol)
    for _ in range(n):
        found = found[:, 1:] - found[:, :-1]
    return found


@follows(np.dot, np.matmul, methods="dot")
def _dot(left: Any, right: Any) -> Any:
    if not isinstance(left, Symbol) or left.like.ndim != 2:
        stop("a product of matrices whose first is not the rows")
    rows = plain(left)
    if isinstance(right, Symbol):
        stop("a product of rows with themselves: write numpy.sum(a * b, axis=1)")
    if is_pandas(right) and is_pandas(left):
        stop("a product with a frame of numbers that are always the same: take its to_numpy()")
    weights = numbers_of(right).astype(np.float64)
    like = left.like @ right
    if not floating(like):
        stop("a product of matrices of integers: write X.astype(float) @ weights")
    found = tensor(rows).astype(np.float64) @ (weights if weights.ndim == 2 else weights[:, None])
    return made_of(found, like)


UFUNCS["matmul"] = lambda *_: stop("numpy.matmul: write X @ weights")


# Tables of numbers.


def _counted(symbol: Any, bounds: Array, compare: Any) -> Any:
    """How many bounds a number is beyond, (n, columns) of float64; all, for a missing one."""
    numbers = tensor(symbol).astype(np.float64)[:, :, None]
    return np.sum((~compare(numbers, bounds)).astype(np.float64), axis=2)


def _bounds(values: Any) -> Array:
    bounds = numbers_of(values).astype(np.float64)
    if bounds.ndim != 1 or not len(bounds) or (np.diff(bounds) < 0).any() or np.isnan(bounds).any():
        stop("bounds that do not increase")
    return bounds


@follows(np.searchsorted)
def _searchsorted(bounds: Any, symbol: Any, side: Any = "left", sorter: Any = None) -> Any:
    if isinstance(bounds, Symbol) or sorter is not None:
        stop("numpy.searchsorted in the rows themselves")
    compare = np.less_equal if side == "left" else np.less
    return made_of(
        _counted(compared(symbol), _bounds(bounds), compare),
        np.searchsorted(bounds, symbol.like, side),
    )


@follows(np.digitize)
def _digitize(symbol: Any, bins: Any, right: Any = False) -> Any:  # numpy's own form
    compare = np.less_equal if right else np.less
    return made_of(
        _counted(compared(symbol), _bounds(bins), compare), np.digitize(symbol.like, bins, right)
    )


@follows(np.interp)
def _interp(
    symbol: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    if isinstance(xp, Symbol) or isinstance(fp, Symbol) or period is not None:
        stop("numpy.interp in the rows themselves")
    xs, ys = _bounds(xp), numbers_of(fp).astype(np.float64)
    if len(xs) < 2 or (np.diff(xs) == 0).any():
        stop("numpy.interp over places that do not increase")
    numbers = tensor(symbol).astype(np.float64)
    piece = _counted(symbol, xs, np.less) - 1.0
    place = np.minimum(np.maximum(piece, 0.0), len(xs) - 2.0).astype(np.int64)
    slope, start, height = (
        gathered(of, place) for of in (np.diff(ys) / np.diff(xs), xs[:-1], ys[:-1])
    )
    found = slope * (numbers - start) + height
    found = np.where(numbers < xs[0], ys[0] if left is None else float(left), found)
    found = np.where(numbers == xs[-1], ys[-1], found)
    found = np.where(numbers > xs[-1], ys[-1] if right is None else float(right), found)
    return made_of(found, np.interp(symbol.like, xp, fp, left, right))


def cut(
    symbol: Any, bins: Any, *, right: bool = True, include_lowest: bool = False, **named: Any
) -> Any:
    """As pandas.cut: the number of the bin that a number is in."""
    cut_really = partial(
        pandas().cut, bins=bins, right=right, include_lowest=include_lowest, **named
    )
    if not isinstance(symbol, Symbol):
        return cut_really(symbol)
    if named != {"labels": False} or isinstance(bins, int):
        stop("pandas.cut with other than bounds of bins and labels=False")
    bounds = _bounds(bins)
    place = _counted(compared(symbol), bounds, np.less_equal if right else np.less)
    numbers = tensor(symbol).astype(np.float64)
    if include_lowest and right:
        place = np.where(numbers == bounds[0], 1.0, place)
    inside = (place > 0.0) & (place < float(len(bounds)))
    known = inside & ~np.isnan(numbers)
    return made_of(np.where(known, place - 1.0, np.nan), cut_really(symbol.like))


def _filled_like(function: Any) -> Callable[..., Any]:
    def followed(symbol: Any, *args: Any, **named: Any) -> Any:
        return always(function(symbol.like, *args, **named))

    return followed


def always(like: Any) -> Any:
    """Rows that are all the same, as a stand-in that can be written into."""
    return Symbol(by_row(like)[0].astype(np.float64).tolist(), like)


for filling in (np.zeros_like, np.ones_like, np.full_like):
    FUNCTIONS[filling] = _filled_like(filling)
FUNCTIONS[np.empty_like] = FUNCTIONS[np.zeros_like]
FUNCTIONS[np.amax], FUNCTIONS[np.amin] = FUNCTIONS[np.max], FUNCTIONS[np.min]
METHODS["product"] = METHODS["prod"]
METHODS["transform"] = METHODS["apply"]
FUNCTIONS[np.count_nonzero] = lambda rows, axis=None, **named: np.sum(rows != 0, axis=axis, **named)
FUNCTIONS[np.append] = lambda rows, values, axis=None: np.concatenate([rows, values], axis=axis)
FUNCTIONS[np.shape] = lambda symbol: symbol.shape
FUNCTIONS[np.ndim] = lambda symbol: symbol.ndim
FUNCTIONS[np.size] = lambda symbol, axis=None: np.size(symbol.like, axis)
FUNCTIONS[np.average] = lambda rows, axis=None, weights=None: (
    np.mean(rows, axis=axis)
    if weights is None
    else np.sum(rows * weights, axis=axis) / np.sum(weights)
)

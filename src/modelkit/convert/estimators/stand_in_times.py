"""Columns of times and of spans of time, as a function sees them: see `stand_ins`.

They are whole numbers of a unit of numpy, in int64, of which the least stands for a missing one. Days
of the calendar are computed in integers, and quotients in float64 as numpy divides. A sum beyond the
range of int64, for which pandas raises an error, is a missing one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property, partial, reduce
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.stand_in_cells import NAT, gap, made_of, tensor
from modelkit.convert.estimators.stand_in_functions import COMPARING, by_steps
from modelkit.convert.estimators.stand_ins import (
    FOLLOWED,
    PROPERTIES,
    Symbol,
    pandas,
    real,
    stop,
    tracing_now,
)
from modelkit.convert.estimators.tensors import Var, column_stack, constant, gathered, op
from modelkit.signature.spec import UNITS

DAY = 86_400  # seconds
CYCLE = 146_097  # days of 400 years
COMMON_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# Where a calendar may be wrong: at ends of centuries, in leap years and in years that are none.
YEARS = (1899, 1900, 1904, 1969, 1970, 1999, 2000, 2009, 2010, 2015, 2020, 2024, 2025, 2100)
HALF_STEP = 2.0**-53 * (1 + 2.0**-52)  # times a number, it leads to the next one
MIRRORED = {
    "less": "greater",
    "less_equal": "greater_equal",
    "greater": "less",
    "greater_equal": "less_equal",
}


def _cut(x: Any, by: int) -> Any:
    """The quotient by a positive number, cut off."""
    return op.div(x, constant(by))


def _divided(x: Any, by: int) -> tuple[Any, Any]:
    """The quotient by a positive number, rounded down, and the rest; neither runs over."""
    quotient = x // by
    return quotient, x - quotient * by


class Clock:
    """The day and the time of it that times are, in the Gregorian calendar."""

    def __init__(self, ticks: Any, unit: str) -> None:
        self.per_second = UNITS[unit]
        self.day_number, self.ticks = _divided(ticks, DAY * self.per_second)

    @cached_property
    def seconds(self) -> Any:
        """Of the day."""
        return _cut(self.ticks, self.per_second)

    @cached_property
    def weekday(self) -> Any:
        """From 0 for Monday."""
        return (self.day_number + 3) % 7

    @cached_property
    def _from_march(self) -> tuple[Any, Any, Any]:
        """The year that begins in March, so a leap day is its last; its month and its day, from 0."""
        cycle, day = _divided(self.day_number + 719_468, CYCLE)
        leap_days = _cut(day, 1460) - _cut(day, 36_524) + _cut(day, CYCLE - 1)
        year = _cut(day - leap_days, 365)
        day = day - (year * 365 + _cut(year, 4) - _cut(year, 100))
        return year + cycle * 400, _cut(day * 5 + 2, 153), day

    @cached_property
    def year(self) -> Any:
        """From January on."""
        year, month, _ = self._from_march
        return year + 1 - (month < 10).astype(np.int64)

    @cached_property
    def month(self) -> Any:
        """From 1 for January."""
        _, month, _ = self._from_march
        return month - 9 + (month < 10).astype(np.int64) * 12

    @cached_property
    def day(self) -> Any:
        """Of the month, from 1 on."""
        _, month, day = self._from_march
        return day - _cut(month * 153 + 2, 5) + 1

    @cached_property
    def day_of_year(self) -> Any:
        """From 1 on."""
        before = self.year - 1
        first = before * 365 + before // 4 - before // 100 + before // 400
        return self.day_number + 719_163 - first

    @cached_property
    def is_leap(self) -> Any:
        """Whether its year has a leap day."""
        by_four = self.year % 4 == 0
        by_century = self.year % 100 == 0
        return by_four & (~by_century | (self.year % 400 == 0))

    @cached_property
    def days_in_month(self) -> Any:
        """How many days its month has."""
        common = gathered(COMMON_DAYS, self.month - 1)
        return common + (self.is_leap & (self.month == 2)).astype(np.int64)

    def begins(self, *months: int) -> Any:
        """Whether it is the first day of one of these months, or of any."""
        return self._in(self.day == 1, months)

    def ends(self, *months: int) -> Any:
        """Whether it is the last day of one of these months, or of any."""
        return self._in(self.day == self.days_in_month, months)

    def _in(self, condition: Any, months: tuple[int, ...]) -> Any:
        if not months:
            return condition
        return condition & np.any(self.month == [months], axis=1, keepdims=True)


# Columns, and constants beside them.


def _unit(dtype: Any) -> str:
    return np.datetime_data(dtype)[0]


def _clock(symbol: Any) -> Clock:
    """The calendar of a column, which is written down once."""
    made = tracing_now().made
    (cell,) = symbol.cells
    if cell not in made:
        made[cell] = Clock(tensor(symbol), _unit(symbol.dtype))
    found: Clock = made[cell]
    return found


def _numbers(symbol: Any, found: Var, like: Any) -> Symbol:
    """Numbers of each time, missing where it is."""
    return made_of(np.where(gap(tensor(symbol)), np.nan, found.astype(np.float64)), like)


def refuse_today(value: Any) -> None:
    """Raise ConversionError for a text that is another time on another day: "now", or "12:30"."""
    if not isinstance(value, str):
        return
    days = []
    with suppress(ValueError, OverflowError, ImportError):
        from dateutil.parser import parse

        days = [parse(value, default=datetime(year, 1, 1)).year for year in (1800, 1900)]  # noqa: DTZ001
    if value.strip().lower() in ("now", "today") or days[:1] != days[1:]:
        stop(f"the time {value!r}, which would stay today's for ever in a graph")


def _operand(value: Any, beside: Any) -> Any:
    """A column of times, or a constant of numpy. Raises ConversionError for anything else."""
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if isinstance(value, Symbol):
        return (
            value
            if getattr(value.dtype, "kind", "") in "mM"
            else stop("times beside other columns")
        )
    if isinstance(value, timedelta | np.timedelta64):
        kind = pandas().Timedelta
    elif isinstance(value, datetime | np.datetime64):
        kind = pandas().Timestamp
    elif isinstance(value, str):
        kind = pandas().Timestamp if beside.dtype.kind == "M" else pandas().Timedelta
        if beside.dtype.kind == "M":
            refuse_today(value)
    else:
        return stop(
            f"{type(value).__name__} beside times: write pd.Timestamp(...) or pd.Timedelta(...)"
        )
    found = kind(value)
    if found is pandas().NaT or getattr(found, "tzinfo", None) is not None:
        stop(f"{found!r} beside times without a zone")
    return found.to_datetime64() if kind is pandas().Timestamp else found.to_timedelta64()


def _in_unit(value: Any, unit: str) -> tuple[int, bool]:
    """A constant in whole numbers of a unit, rounded down, and whether anything is left of it."""
    ticks, rest = divmod(int(value.astype(np.int64)) * UNITS[unit], UNITS[_unit(value.dtype)])
    if not NAT < ticks < -NAT:
        stop(f"{value}, which is beyond the range of times in the unit {unit!r}")
    return ticks, bool(rest)


def _in_dtype(value: Any, dtype: Any, *, wraps: bool = False) -> Var:
    """A column or a constant in the unit of a dtype; what is beyond its range is missing, or `wraps`."""
    unit = _unit(dtype)
    if not isinstance(value, Symbol):
        ticks, rest = _in_unit(value, unit)
        return (
            stop(f"{value}, which is finer than the unit of a column of {dtype}")
            if rest
            else constant(ticks)
        )
    factor = UNITS[unit] // UNITS[_unit(value.dtype)]
    if factor == 0:
        stop(f"columns of {dtype} and of {value.dtype} together: give both one unit before fit")
    if factor == 1:
        return tensor(value)
    raised = tensor(value) * factor
    return raised if wraps else np.where(_cut(raised, factor) == tensor(value), raised, NAT)


# Operators.


def _ufunc(function: Any, *inputs: Any) -> Symbol:
    """What a ufunc of numpy gives for times."""
    name = function.__name__
    times = next(each for each in inputs if isinstance(each, Symbol))
    if name not in OPERATORS or times.like.ndim != 1:
        stop(f"numpy.{name} of times: take numbers of them, such as .dt.hour")
    like = function(*real(inputs))
    return OPERATORS[name](name, like, *(_operand(each, times) for each in inputs))


def _sum(name: str, like: Any, left: Any, right: Any) -> Symbol:
    if like.dtype.kind not in "mM":
        stop(f"numpy.{name} of times")
    first, second = _in_dtype(left, like.dtype), _in_dtype(right, like.dtype)
    total = first + second if name == "add" else first - second
    is_negative = [each < 0 for each in (first, second, total)]
    apart = is_negative[0] ^ is_negative[1]
    beyond = (is_negative[0] ^ is_negative[2]) & (~apart if name == "add" else apart)
    gone = [each == NAT for each in (first, second)]
    return made_of(np.where(reduce(op.or_, [*gone, beyond]), NAT, total), like)


def _compared(name: str, like: Any, left: Any, right: Any) -> Symbol:
    """A comparison, in which a missing time is unlike any other."""
    if name == "not_equal":
        same: Symbol = ~_compared("equal", like, left, right)
        return same
    if not isinstance(left, Symbol):
        return _compared(MIRRORED.get(name, name), like, right, left)
    if left.dtype.kind != right.dtype.kind:
        stop("times that are compared with spans of time")
    known = ~gap(tensor(left))
    upward = name in ("less", "greater_equal")  # where a bound between two ticks is the next one
    if not isinstance(right, Symbol):
        ticks, inexact = _in_unit(right, _unit(left.dtype))
        bound = NAT if inexact and name == "equal" else ticks + (inexact and upward)
        return made_of(known & getattr(np, name)(tensor(left), bound), like)
    if left.dtype != right.dtype:
        stop(
            f"columns of {left.dtype} and of {right.dtype} together: give both one unit before fit"
        )
    known = known & ~gap(tensor(right))
    return made_of(known & getattr(np, name)(tensor(left), tensor(right)), like)


def _quotient(name: str, like: Any, left: Any, right: Any) -> Symbol:
    """Spans over spans, as numpy divides them: in the finer unit of both, and in float64."""
    dtype = np.result_type(left.dtype, right.dtype)
    if dtype.kind != "m" or like.dtype.kind == "m":
        stop(f"numpy.{name} of times")
    first, second = (_in_dtype(each, dtype, wraps=True) for each in (left, right))
    if name == "divide":
        found = first.astype(np.float64) / second.astype(np.float64)
    else:
        by = 0 if isinstance(right, Symbol) else _in_unit(right, _unit(dtype))[0]
        if by < 1:
            stop("numpy.floor_divide by anything but a constant above 0")
        found = (first // by).astype(np.float64)
    gaps = reduce(op.or_, [gap(tensor(each)) for each in (left, right) if isinstance(each, Symbol)])
    return made_of(np.where(gaps, np.nan, found), like)


def _changed(make: Callable[[Var], Var]) -> Callable[..., Symbol]:
    def operator(name: str, like: Any, span: Any) -> Symbol:
        if like.dtype.kind != "m":
            stop(f"numpy.{name} of times")
        return made_of(np.where(gap(tensor(span)), NAT, make(tensor(span))), like)

    return operator


OPERATORS: dict[str, Callable[..., Symbol]] = {
    "absolute": _changed(op.abs),
    "add": _sum,
    "divide": _quotient,
    "floor_divide": _quotient,
    "isnat": lambda _, like, times: made_of(gap(tensor(times)), like),
    "negative": _changed(op.neg),
    "subtract": _sum,
    **dict.fromkeys(COMPARING, _compared),
}


# Methods.


def _isin(symbol: Any, values: Any) -> Symbol:
    if not len(values) or any(isinstance(value, str) for value in values):
        stop("isin of texts beside times: pass timestamps")
    same: Symbol = reduce(operator.or_, [symbol == value for value in values])
    return same


def _astype(symbol: Any, dtype: Any, **_: Any) -> Symbol:
    """Ticks as numbers, exact in float64 for a microsecond or more."""
    if np.dtype(dtype) != np.int64 or _unit(symbol.dtype) == "ns":
        stop(f"astype({dtype!r}) of times: write (column - pd.Timestamp(0)) / pd.Timedelta('1s')")
    return made_of(tensor(symbol).astype(np.float64), symbol.like.astype(dtype))


# Fields.


def _floor(symbol: Any, freq: Any = "D") -> Symbol:
    """The last whole day, hour and so on before each, as `dt.floor`."""
    like = symbol.like.dt.floor(freq)
    try:
        step = pandas().Timedelta(pandas().tseries.frequencies.to_offset(freq))
    except ValueError:
        stop(f"dt.floor({freq!r}), which is not a fixed length")
    ticks, rest = _in_unit(step.to_timedelta64(), _unit(symbol.dtype))
    if rest or ticks < 1:
        stop(f"dt.floor({freq!r}) of times of {symbol.dtype}")
    return made_of(np.where(gap(tensor(symbol)), NAT, tensor(symbol) // ticks * ticks), like)


def _isocalendar(symbol: Any) -> Symbol:
    """The week of ISO 8601, its year, and its day."""
    clock = _clock(symbol)
    to_thursday = (clock.weekday * -1 + 3) * (DAY * clock.per_second)
    thursday = Clock(tensor(symbol) + to_thursday, _unit(symbol.dtype))
    parts = [thursday.year, _cut(thursday.day_of_year + 6, 7), clock.weekday + 1]
    return _numbers(symbol, column_stack(parts), symbol.like.dt.isocalendar())


def _total_seconds(symbol: Any) -> Symbol:
    """Spans in seconds, as the pandas at hand rounds them."""
    per_second = UNITS[_unit(symbol.dtype)]
    seconds, rest = _divided(tensor(symbol), per_second)
    span = pandas().Series(np.array([-1], symbol.dtype))
    if span.dt.total_seconds()[0] == -1 / per_second:  # before pandas 3.1
        found = tensor(symbol).astype(np.float64) / float(per_second)
        return _numbers(symbol, found, symbol.like.dt.total_seconds())
    below = seconds.astype(np.float64)
    found = below + rest.astype(np.float64) / float(per_second)
    # What lies between two seconds stays there: by the next number of float64.
    inside = (rest != 0) & (np.abs(below) < 2.0**52)
    step = np.abs(found) * HALF_STEP
    raised = np.where(found == below, found + step, found)
    lowered = np.where(found == below + 1.0, found - step, raised)
    return _numbers(symbol, np.where(inside, lowered, found), symbol.like.dt.total_seconds())


class Fields:
    """What `column.dt` is."""

    def __init__(self, symbol: Any) -> None:
        self._symbol = symbol

    def __getattr__(self, name: str) -> Any:
        symbol = self._symbol
        point = symbol.dtype.kind == "M"
        if name in (POINT_METHODS if point else SPAN_METHODS):
            return partial((POINT_METHODS if point else SPAN_METHODS)[name], symbol)
        fields = POINTS if point else SPANS
        if name not in fields:
            stop(f"dt.{name}; there are {', '.join(fields)}")
        found = fields[name](_clock(symbol))
        like = getattr(symbol.like.dt, name)
        if found.dtype == np.bool_:
            return made_of(~gap(tensor(symbol)) & found, like)
        return _numbers(symbol, found, like)


Field = Callable[[Clock], Any]
SPANS: dict[str, Field] = {
    "days": lambda clock: clock.day_number,
    "seconds": lambda clock: clock.seconds,
    "microseconds": lambda clock: _cut(clock.ticks % clock.per_second * 10**6, clock.per_second),
    "nanoseconds": lambda clock: (
        _cut(clock.ticks % clock.per_second * 10**9, clock.per_second) % 1000
    ),
}
POINTS: dict[str, Field] = {
    "year": lambda clock: clock.year,
    "quarter": lambda clock: _cut(clock.month + 2, 3),
    "month": lambda clock: clock.month,
    "day": lambda clock: clock.day,
    "hour": lambda clock: _cut(clock.seconds, 3600),
    "minute": lambda clock: _cut(clock.seconds, 60) % 60,
    "second": lambda clock: clock.seconds % 60,
    "microsecond": SPANS["microseconds"],
    "nanosecond": SPANS["nanoseconds"],
    **dict.fromkeys(("weekday", "dayofweek", "day_of_week"), lambda clock: clock.weekday),
    **dict.fromkeys(("dayofyear", "day_of_year"), lambda clock: clock.day_of_year),
    **dict.fromkeys(("days_in_month", "daysinmonth"), lambda clock: clock.days_in_month),
    "is_leap_year": lambda clock: clock.is_leap,
    "is_month_start": lambda clock: clock.begins(),
    "is_month_end": lambda clock: clock.ends(),
    "is_quarter_start": lambda clock: clock.begins(1, 4, 7, 10),
    "is_quarter_end": lambda clock: clock.ends(3, 6, 9, 12),
    "is_year_start": lambda clock: clock.begins(1),
    "is_year_end": lambda clock: clock.ends(12),
}
POINT_METHODS: dict[str, Callable[..., Symbol]] = {
    "floor": _floor,
    "isocalendar": _isocalendar,
    "normalize": _floor,
}


class Moment:
    """One time, as a function of each of them is given it."""

    def __init__(self, symbol: Any) -> None:
        self._symbol = symbol

    def __getattr__(self, name: str) -> Any:
        fields = Fields(self._symbol)
        if self._symbol.dtype.kind == "M" and name in ("weekday", "isoweekday"):
            return lambda: fields.day_of_week + int(name == "isoweekday")
        return getattr(fields, name)


def _each(symbol: Any, function: Callable[[Any], Any]) -> Symbol:
    """A function of each time, if it takes fields of it."""
    found = function(Moment(symbol))
    if not isinstance(found, Symbol):
        stop("a function of each time that gives other than its fields")
    return by_steps(symbol.like.map(function), lambda: found)


SPAN_METHODS: dict[str, Callable[..., Symbol]] = {"total_seconds": _total_seconds}
PROPERTIES["dt"] = Fields
OF_TIMES: dict[str, Callable[..., Any]] = {
    "apply": _each,
    "astype": _astype,
    "isin": _isin,
    "map": _each,
    "operand": lambda value, like: _in_dtype(_operand(value, like), like.dtype),
    "ufunc": _ufunc,
}
FOLLOWED |= {(kind, name): made for kind in "mM" for name, made in OF_TIMES.items()}


def usual_times(dtype: np.dtype[Any], count: int, rng: np.random.Generator) -> Array:
    """Times of two centuries, many of them at the ends of months; or spans of some years."""
    per_second = UNITS[_unit(dtype)]
    year = 365 * DAY * per_second
    if dtype.kind == "m":
        return rng.integers(-3 * year, 3 * year, count).view(dtype)
    months = np.array(rng.choice(YEARS, count) - 1970, "M8[Y]").astype("M8[M]")
    months += rng.integers(0, 12, count).astype("m8[M]")
    ends = months.astype(dtype).view(np.int64) + rng.choice(
        [0, -1, 1, 3600 * per_second, 86_399 * per_second], count
    )
    return np.where(
        rng.random(count) < 1 / 2, ends, rng.integers(-80 * year, 130 * year, count)
    ).view(dtype)


def extreme_times(dtype: np.dtype[Any], count: int, rng: np.random.Generator) -> Array:
    """Times and spans of every length, and missing ones."""
    most = min(-NAT - 1, 290_000 * 365 * DAY * UNITS[_unit(dtype)])
    ticks = rng.integers(-most, most, count)
    ticks[::7] = NAT
    ticks[1:3] = [-most, most]
    return ticks.view(dtype)

"""Stand-ins for columns of times and of spans of time: see `symbols`.

They are whole numbers of a unit of numpy, in int64, of which the least stands for a missing one. Days
of the calendar are computed in integers, and quotients in float64 as numpy divides. A result beyond
the range of int64, for which pandas raises an error, is a missing one.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property, reduce
from typing import Any, NoReturn

import numpy as np

from modelkit.convert.estimators.elementary import COMPARING
from modelkit.convert.estimators.symbol_frames import SymbolFrame
from modelkit.convert.estimators.symbols import Symbol, stop
from modelkit.convert.estimators.tensors import Var, cast, constant, flat, joined, op, rank, upright
from modelkit.spec import UNITS

NAT = int(np.iinfo(np.int64).min)
DAY = 86_400  # seconds
CYCLE = 146_097  # days of 400 years
COMMON_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
HALF_STEP = 2.0**-53 * (1 + 2.0**-52)  # times a number, it leads to the next one
SUMS = {"add": operator.add, "subtract": operator.sub}
MIRRORED = {
    "less": "greater",
    "less_equal": "greater_equal",
    "greater": "less",
    "greater_equal": "less_equal",
}


class Whole:
    """Whole numbers of int64, (n,), with the operators of Python."""

    def __init__(self, tensor: Var) -> None:
        self.tensor = tensor

    def __add__(self, other: Whole | int) -> Whole:
        return Whole(op.add(self.tensor, _whole(other)))

    def __sub__(self, other: Whole | int) -> Whole:
        return Whole(op.sub(self.tensor, _whole(other)))

    def __mul__(self, other: Whole | int) -> Whole:
        return Whole(op.mul(self.tensor, _whole(other)))

    def __floordiv__(self, by: int) -> Whole:
        return self.divided(by)[0]

    def __mod__(self, by: int) -> Whole:
        return self.divided(by)[1]

    def divided(self, by: int) -> tuple[Whole, Whole]:
        """The quotient by a positive number, rounded down, and the rest; neither runs over."""
        cut = self.cut(by)
        rest = self - cut * by
        below = rest.is_below(0)
        return cut - below, rest + below * by

    def cut(self, by: int) -> Whole:
        """The quotient by a positive number, cut off."""
        return Whole(op.div(self.tensor, _whole(by)))

    def is_below(self, other: int) -> Whole:
        """1 where it is less than another number, and 0 elsewhere."""
        return Whole(cast(op.less(self.tensor, _whole(other)), np.int64))

    def equals(self, other: Whole | int) -> Var:
        """Where it is equal to another number."""
        return op.equal(self.tensor, _whole(other))


def _whole(number: Whole | int) -> Var:
    return number.tensor if isinstance(number, Whole) else constant(number, np.int64)


class Times(Symbol):
    """A column of times, or of spans of time: `ticks` are its numbers, (n,), and `dtype` numpy's."""

    dtype: np.dtype[Any] = np.dtype("M8[ns]")

    def __init__(self, ticks: Var, dtype: np.dtype[Any]) -> None:
        self.ticks = flat(ticks) if rank(ticks) == 2 else ticks
        self.dtype = dtype
        self.gaps = op.equal(self.ticks, _whole(NAT))

    @property
    def tensor(self) -> Var:  # type: ignore[override]
        """Numbers, which times are not."""
        return stop("a column of times as numbers; take numbers of it, such as .dt.hour")

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return 1

    @cached_property
    def clock(self) -> Clock:
        """The calendar and the time of day of each."""
        return Clock(self)

    @property
    def dt(self) -> Fields:
        """Its fields by name, as a Series has them."""
        return Fields(self)

    @property
    def unit(self) -> str:
        """The unit of its numbers."""
        return np.datetime_data(self.dtype)[0]

    def isna(self) -> Symbol:
        """Whether each is missing."""
        return Symbol(self.gaps)

    def notna(self) -> Symbol:
        """Whether each is there."""
        return Symbol(op.not_(self.gaps))

    isnull = isna
    notnull = notna

    def fillna(self, value: Any) -> Times:
        """Other times in place of missing ones."""
        return Times(
            op.where(self.gaps, _ticks(_operand(value, self), self.dtype), self.ticks), self.dtype
        )

    def abs(self) -> Times:
        """The length of each span."""
        return self.with_ticks(op.abs(self.ticks))

    def between(self, left: Any, right: Any, inclusive: str = "both") -> Any:
        """Whether each lies between two."""
        low = self >= left if inclusive in ("both", "left") else self > left
        high = self <= right if inclusive in ("both", "right") else self < right
        return low & high

    def isin(self, values: Any) -> Any:
        """Whether each is one of some constants."""
        if not len(values) or any(isinstance(value, str) for value in values):
            stop("isin of texts; pass timestamps")
        return reduce(operator.or_, [self == value for value in values])

    def with_ticks(self, ticks: Var) -> Times:
        """Other ticks of the same dtype, missing where these are."""
        return Times(op.where(self.gaps, _whole(NAT), ticks), self.dtype)

    def numbers(self, found: Var) -> Symbol:
        """Numbers of each, missing where it is."""
        return Symbol(op.where(self.gaps, constant(np.nan), cast(found, np.float64)))

    def astype(self, dtype: Any, **_: Any) -> NoReturn:
        """No other dtype."""
        stop(f"astype({dtype!r}) of times; write (column - pd.Timestamp(0)) / pd.Timedelta('1s')")

    def reshape(self, *_: Any) -> NoReturn:
        """No matrix."""
        stop("a matrix of times")

    def __array_ufunc__(
        self,
        function: Any,
        method: str,
        *inputs: Any,
        **named: Any,
    ) -> Any:
        name = function.__name__
        spans = self.dtype.kind == "m"
        if method != "__call__" or named or name not in OPERATIONS or (spans and name == "isnat"):
            stop(f"numpy.{name} of times")
        if len(inputs) == 1:
            return OPERATIONS[name](self)
        return OPERATIONS[name](name, *(_operand(each, self) for each in inputs))

    def __array_function__(
        self,
        function: Any,
        types: Any,
        args: Any,
        named: Any,
    ) -> Any:
        stop(f"numpy.{function.__name__} of times")


def _operand(value: Any, beside: Times) -> Any:
    """A column of times, or a constant of pandas. Raises ConversionError for anything else."""
    pandas = sys.modules["pandas"]
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if isinstance(value, Times):
        return value
    if isinstance(value, timedelta | np.timedelta64):
        found = pandas.Timedelta(value)
    elif isinstance(value, datetime | np.datetime64):
        found = pandas.Timestamp(value)
    elif isinstance(value, str):
        found = (pandas.Timestamp if beside.dtype.kind == "M" else pandas.Timedelta)(value)
    else:
        return stop(f"a {type(value).__name__} together with times")
    if found is pandas.NaT or getattr(found, "tzinfo", None) is not None:
        stop(f"{found!r} together with times that have no zone")
    return found


def _dtype(value: Any) -> np.dtype[Any]:
    return value.dtype if isinstance(value, Times) else _exact(value).dtype


def _exact(value: Any) -> Any:
    """A constant of pandas as one of numpy."""
    return value.to_datetime64() if hasattr(value, "to_datetime64") else value.to_timedelta64()


def _ticks(value: Any, dtype: np.dtype[Any], *, checked: bool = True) -> Var:
    """A column or a constant in the unit of a dtype, missing where that is beyond its range.

    It wraps around there, as in numpy, where that is not `checked`. Raises ConversionError.
    """
    unit = np.datetime_data(dtype)[0]
    if not isinstance(value, Times):
        ticks, rest = _in_unit(value, unit)
        if rest:
            stop(f"{value!r}, which is finer than the unit of a column of {dtype}")
        return _whole(ticks)
    factor = UNITS[unit] // UNITS[value.unit]
    if factor == 1:
        return value.ticks
    if not factor:
        stop(f"columns of {dtype} and of {value.dtype} together; give both one unit before fit")
    raised = Whole(value.ticks) * factor
    if not checked:
        return raised.tensor
    return op.where(raised.cut(factor).equals(Whole(value.ticks)), raised.tensor, _whole(NAT))


def _in_unit(value: Any, unit: str) -> tuple[int, bool]:
    """A constant in whole numbers of a unit, rounded down, and whether anything is left of it."""
    exact = _exact(value)
    own = UNITS[np.datetime_data(exact.dtype)[0]]
    ticks, rest = divmod(int(exact.astype(np.int64)) * UNITS[unit], own)
    if not NAT < ticks < -NAT:
        stop(f"{value!r}, which is beyond the range of times in the unit {unit!r}")
    return ticks, bool(rest)


def _sum(name: str, left: Any, right: Any) -> Times:
    """The sum or the difference of two, of the dtype that pandas gives it."""
    empty = sys.modules["pandas"].Series
    samples = [
        empty([], dtype=each.dtype) if isinstance(each, Times) else each for each in (left, right)
    ]
    try:
        dtype = SUMS[name](*samples).dtype
    except TypeError as error:
        return stop(f"numpy.{name} of times, of which pandas says: {error}")
    first, second = _ticks(left, dtype), _ticks(right, dtype)
    total = op.add(first, second) if name == "add" else op.sub(first, second)
    is_negative = [op.less(each, _whole(0)) for each in (first, second, total)]
    apart = op.xor(is_negative[0], is_negative[1])
    beyond = op.and_(
        op.xor(is_negative[0], is_negative[2]), op.not_(apart) if name == "add" else apart
    )
    gone = op.or_(op.equal(first, _whole(NAT)), op.equal(second, _whole(NAT)))
    return Times(op.where(op.or_(gone, beyond), _whole(NAT), total), dtype)


def _compared(name: str, left: Any, right: Any) -> Any:
    """A comparison, in which a missing time is unlike any other."""
    if name == "not_equal":
        return ~_compared("equal", left, right)
    if not isinstance(left, Times):
        return _compared(MIRRORED.get(name, name), right, left)
    if _dtype(right).kind != left.dtype.kind:
        stop("times that are compared with spans of time")
    if isinstance(right, Times):
        if left.dtype != right.dtype:
            stop(
                f"columns of {left.dtype} and of {right.dtype} together; give both one unit before fit"
            )
        known = op.not_(op.or_(left.gaps, right.gaps))
        return Symbol(op.and_(known, COMPARING[name](left.ticks, right.ticks)))
    ticks, rest = _in_unit(right, left.unit)
    if rest and name == "equal":
        ticks = NAT  # to which no time is equal
    bound = _whole(ticks + (rest and name in ("less", "greater_equal")))
    return Symbol(op.and_(op.not_(left.gaps), COMPARING[name](left.ticks, bound)))


def _quotient(name: str, left: Any, right: Any) -> Symbol:
    """Spans over spans, as numpy divides them: in the finer unit of both, and in float64."""
    dtypes = (_dtype(left), _dtype(right))
    if any(dtype.kind == "M" for dtype in dtypes):
        stop(f"numpy.{name} of times")
    dtype = np.result_type(*dtypes)
    first, second = (_ticks(each, dtype, checked=False) for each in (left, right))
    gaps = reduce(op.or_, [each.gaps for each in (left, right) if isinstance(each, Times)])
    if name == "divide":
        found = op.div(cast(first, np.float64), cast(second, np.float64))
    else:
        by = 0 if isinstance(right, Times) else _in_unit(right, np.datetime_data(dtype)[0])[0]
        if by < 1:
            stop("numpy.floor_divide by anything but a constant above 0")
        found = cast((Whole(first) // by).tensor, np.float64)
    return Symbol(op.where(gaps, constant(np.nan), found))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "absolute": Times.abs,
    "divide": _quotient,
    "floor_divide": _quotient,
    "isnat": Times.isna,
    "negative": lambda times: times.with_ticks(op.neg(times.ticks)),
    **dict.fromkeys(SUMS, _sum),
    **dict.fromkeys(COMPARING, _compared),
}


class Fields:
    """What `column.dt` is."""

    def __init__(self, times: Times) -> None:
        self._times = times

    def __getattr__(self, name: str) -> Any:
        table = POINTS if self._times.dtype.kind == "M" else SPANS
        if name not in table:
            stop(f"dt.{name}; there are {', '.join(table)}")
        return table[name](self._times)


def _number(of: Callable[[Clock], Whole]) -> Callable[[Times], Symbol]:
    return lambda times: times.numbers(of(times.clock).tensor)


def _flag(of: Callable[[Clock], Var]) -> Callable[[Times], Symbol]:
    return lambda times: Symbol(op.and_(op.not_(times.gaps), of(times.clock)))


class Clock:
    """The day and the time of it that times are, in the Gregorian calendar."""

    def __init__(self, times: Times) -> None:
        self.per_second = UNITS[times.unit]
        self.day_number, self.ticks = Whole(times.ticks).divided(DAY * self.per_second)

    @cached_property
    def seconds(self) -> Whole:
        """Of the day."""
        return self.ticks.cut(self.per_second)

    @cached_property
    def weekday(self) -> Whole:
        """From 0 for Monday."""
        return (self.day_number + 3) % 7

    @cached_property
    def _from_march(self) -> tuple[Whole, Whole, Whole]:
        """The year that begins in March, so that a leap day is its last; its month and its day, from 0."""
        cycle, day = (self.day_number + 719_468).divided(CYCLE)
        leap_days = day.cut(1460) - day.cut(36_524) + day.cut(CYCLE - 1)
        year = (day - leap_days).cut(365)
        day = day - (year * 365 + year.cut(4) - year.cut(100))
        return year + cycle * 400, (day * 5 + 2).cut(153), day

    @cached_property
    def year(self) -> Whole:
        """From January on."""
        year, month, _ = self._from_march
        return year + 1 - month.is_below(10)

    @cached_property
    def month(self) -> Whole:
        """From 1 for January."""
        _, month, _ = self._from_march
        return month - 9 + month.is_below(10) * 12

    @cached_property
    def day(self) -> Whole:
        """Of the month, from 1 on."""
        _, month, day = self._from_march
        return day - (month * 153 + 2).cut(5) + 1

    @cached_property
    def day_of_year(self) -> Whole:
        """From 1 on."""
        before = self.year - 1
        first = before * 365 + before // 4 - before // 100 + before // 400
        return self.day_number + 719_163 - first

    @cached_property
    def is_leap(self) -> Var:
        """Whether its year has a leap day."""
        by_four = (self.year % 4).equals(0)
        by_century = (self.year % 100).equals(0)
        return op.and_(by_four, op.or_(op.not_(by_century), (self.year % 400).equals(0)))

    @cached_property
    def days_in_month(self) -> Whole:
        """How many days its month has."""
        common = op.gather(constant(COMMON_DAYS, np.int64), (self.month - 1).tensor)
        return Whole(common) + Whole(cast(op.and_(self.is_leap, self.month.equals(2)), np.int64))

    def begins(self, *months: int) -> Var:
        """Whether it is the first day of one of these months, or of any."""
        return self._in(self.day.equals(1), months)

    def ends(self, *months: int) -> Var:
        """Whether it is the last day of one of these months, or of any."""
        return self._in(self.day.equals(self.days_in_month), months)

    def _in(self, condition: Var, months: tuple[int, ...]) -> Var:
        if not months:
            return condition
        return op.and_(condition, reduce(op.or_, map(self.month.equals, months)))


def _floor(times: Times, freq: Any = "D") -> Times:
    """The last whole day, hour and so on before each, as `dt.floor`."""
    pandas = sys.modules["pandas"]
    try:
        step = pandas.Timedelta(pandas.tseries.frequencies.to_offset(freq))
    except ValueError:
        stop(f"dt.floor({freq!r}), which is no fixed length")
    ticks, rest = _in_unit(step, times.unit)
    if rest or ticks < 1:
        stop(f"dt.floor({freq!r}) of times of {times.dtype}")
    return times.with_ticks((Whole(times.ticks) // ticks * ticks).tensor)


def _seconds(times: Times) -> Var:
    """Spans in seconds, as the pandas at hand rounds them."""
    per_second = UNITS[times.unit]
    span = sys.modules["pandas"].Series(np.array([-1], times.dtype))
    if span.dt.total_seconds()[0] == -1 / per_second:  # before pandas 3.1
        return op.div(_double(times.ticks), constant(float(per_second)))
    seconds, rest = Whole(times.ticks).divided(per_second)
    below = _double(seconds.tensor)
    found = op.add(below, op.div(_double(rest.tensor), constant(float(per_second))))
    # What lies between two seconds stays there: by the next number of float64.
    inside = op.and_(op.not_(rest.equals(0)), op.less(op.abs(below), constant(2.0**52)))
    step = op.mul(op.abs(found), constant(HALF_STEP))
    raised = op.where(op.equal(found, below), op.add(found, step), found)
    lowered = op.where(op.equal(found, op.add(below, constant(1.0))), op.sub(found, step), raised)
    return op.where(inside, lowered, found)


def _double(numbers: Var) -> Var:
    return cast(numbers, np.float64)


def _calendar(times: Times) -> SymbolFrame:
    """The week of ISO 8601, its year, and its day."""
    clock = times.clock
    to_thursday = (clock.weekday * -1 + 3) * (DAY * clock.per_second)
    thursday = times.with_ticks((Whole(times.ticks) + to_thursday).tensor).clock
    week = (thursday.day_of_year + 6).cut(7)
    parts = {"year": thursday.year, "week": week, "day": clock.weekday + 1}
    columns = [upright(times.numbers(part.tensor).tensor) for part in parts.values()]
    return SymbolFrame(joined(columns), list(parts))


WEEKDAY = _number(lambda clock: clock.weekday)
DAY_OF_YEAR = _number(lambda clock: clock.day_of_year)
DAYS_IN_MONTH = _number(lambda clock: clock.days_in_month)
POINTS: dict[str, Callable[[Times], Any]] = {
    "year": _number(lambda clock: clock.year),
    "quarter": _number(lambda clock: (clock.month + 2).cut(3)),
    "month": _number(lambda clock: clock.month),
    "day": _number(lambda clock: clock.day),
    "hour": _number(lambda clock: clock.seconds.cut(3600)),
    "minute": _number(lambda clock: clock.seconds.cut(60) % 60),
    "second": _number(lambda clock: clock.seconds % 60),
    "microsecond": _number(
        lambda clock: (clock.ticks % clock.per_second * 10**6).cut(clock.per_second)
    ),
    "nanosecond": _number(
        lambda clock: (clock.ticks % clock.per_second * 10**9).cut(clock.per_second) % 1000
    ),
    "weekday": WEEKDAY,
    "dayofweek": WEEKDAY,
    "day_of_week": WEEKDAY,
    "dayofyear": DAY_OF_YEAR,
    "day_of_year": DAY_OF_YEAR,
    "days_in_month": DAYS_IN_MONTH,
    "daysinmonth": DAYS_IN_MONTH,
    "is_leap_year": _flag(lambda clock: clock.is_leap),
    "is_month_start": _flag(lambda clock: clock.begins()),
    "is_month_end": _flag(lambda clock: clock.ends()),
    "is_quarter_start": _flag(lambda clock: clock.begins(1, 4, 7, 10)),
    "is_quarter_end": _flag(lambda clock: clock.ends(3, 6, 9, 12)),
    "is_year_start": _flag(lambda clock: clock.begins(1)),
    "is_year_end": _flag(lambda clock: clock.ends(12)),
    "isocalendar": lambda times: lambda: _calendar(times),
    "normalize": lambda times: lambda: _floor(times),
    "floor": lambda times: lambda freq: _floor(times, freq),
}
SPANS: dict[str, Callable[[Times], Any]] = {
    "days": _number(lambda clock: clock.day_number),
    "seconds": _number(lambda clock: clock.seconds),
    "microseconds": POINTS["microsecond"],
    "nanoseconds": POINTS["nanosecond"],
    "total_seconds": lambda times: lambda: times.numbers(_seconds(times)),
}

"""A stand-in for a frame with columns of times, texts and numbers, and functions of such frames.

As a function of numbers, one of a table is run on stand-ins, and what it writes down is compared with
what it gives for columns of every kind of value.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from modelkit.cast import Array
from modelkit.convert.estimators.arithmetic import choose
from modelkit.convert.estimators.symbol_frames import SymbolFrame
from modelkit.convert.estimators.symbol_times import NAT, Times
from modelkit.convert.estimators.symbols import Symbol, floats, stop, tensor_of
from modelkit.convert.estimators.tensors import (
    Columns,
    Var,
    argument,
    column,
    flat,
    joined,
    model_of,
    rank,
    upright,
    width,
)
from modelkit.errors import ConversionError
from modelkit.spec import UNITS, TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

ROWS = 256  # of a proof
NEAR_ENOUGH = 1e-9  # to what the function gives, relative to it
# Where a calendar may be wrong: at ends of centuries, and in leap years and years that are none.
YEARS = (1899, 1900, 1904, 1969, 1970, 1999, 2000, 2009, 2010, 2015, 2020, 2024, 2025, 2100)


class Table(SymbolFrame):
    """(n, columns), of which some are times or texts, as a function of frames sees it."""

    def __init__(self, parts: Mapping[str, Symbol]) -> None:
        self.parts = dict(parts)

    @property
    def tensor(self) -> Var:  # type: ignore[override]
        """The numbers of all columns. Raises ConversionError where one has none."""
        return joined([upright(floats(part.tensor)) for part in self.parts.values()])

    @property
    def names(self) -> list[str]:  # type: ignore[override]
        """The names of the columns."""
        return list(self.parts)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return 2

    def copy(self, *_: Any, **__: Any) -> Self:
        """A stand-in of its own."""
        return type(self)(self.parts)

    def apply(self, function: Any, axis: Any = 0) -> Any:
        """A function of each column."""
        if axis not in (0, "index"):
            stop("a function that is applied to each row")
        return table_of({name: function(part) for name, part in self.parts.items()})

    def isna(self) -> Any:
        """Whether each value is missing."""
        return self.apply(_isna)

    def notna(self) -> Any:
        """Whether each value is there."""
        return self.apply(lambda part: ~_isna(part))

    isnull = isna
    notnull = notna

    def rename(self, *, columns: Mapping[str, str]) -> Any:
        """A copy with other names."""
        return table_of({columns.get(name, name): part for name, part in self.parts.items()})

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.parts[self._known(key)]
        if isinstance(key, list) and all(isinstance(name, str) for name in key):
            return table_of({name: self.parts[self._known(name)] for name in key})
        return stop("some of the rows of a frame")

    def _known(self, name: str) -> str:
        if name not in self.parts:
            stop(f"a column {name!r}, which it was not given")
        return name

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str):
            stop("several columns that are assigned at once")
        self.parts[key] = _as_column(value, next(iter(self.parts.values())))

    def __getattr__(self, name: str) -> Any:
        parts = self.__dict__.get("parts", {})
        return parts[name] if name in parts else super().__getattr__(name)


def _isna(part: Symbol) -> Any:
    return part.isna() if isinstance(part, Times) else np.isnan(part)


def _as_column(value: Any, beside: Symbol) -> Symbol:
    """A column as it is assigned to a frame: a vector, or a constant as long as another column."""
    if isinstance(value, Times):
        return value
    tensor = tensor_of(value)
    if rank(tensor) == 0:
        tensor = choose(_isna(beside).tensor, floats(tensor), floats(tensor))
    return Symbol(flat(tensor) if rank(tensor) == 2 and width(tensor) == 1 else tensor)


def table_of(parts: Mapping[str, Any]) -> SymbolFrame:
    """A frame of columns: one of numbers alone where there are no others."""
    odd = next(
        (part for part in parts.values() if not isinstance(part, Symbol) or part.ndim != 1), None
    )
    if odd is not None or not parts:
        stop(f"a frame of a {type(odd).__name__} that is no column")
    if any(isinstance(part, Times) for part in parts.values()):
        return Table(parts)
    return SymbolFrame(
        joined([upright(floats(part.tensor)) for part in parts.values()]), list(parts)
    )


def followed(
    asked: Callable[[Any], Any],
    columns: Columns,
    names: Sequence[str] | None,
    at: Converting,
) -> Columns:
    """What a function gives for a frame of columns; without names, for the only one as a Series.

    Raises ConversionError, with the reason, for a function that cannot be followed.
    """
    given: list[Symbol] = []
    for part in columns.parts:
        dtype = at.time_of(part)
        if dtype is None:
            given += [Symbol(column(floats(part), place)) for place in range(width(part))]
        else:
            given.append(Times(part, np.dtype(dtype)))
    found = _asked(asked, given, names)
    _prove(asked, given, names)
    made = []
    for is_time, group in groupby(found, lambda part: isinstance(part, Times)):
        if is_time:
            made += [at.note_time(upright(part.ticks), str(part.dtype)) for part in group]
        else:
            made.append(joined([upright(floats(part.tensor)) for part in group]))
    return Columns(tuple(made))


def _asked(
    asked: Callable[[Any], Any],
    given: list[Symbol],
    names: Sequence[str] | None,
) -> list[Any]:
    """The columns that a function gives for stand-ins. Raises ConversionError."""
    if names is None and len(given) != 1:
        stop("several columns of a frame whose names are no strings")
    try:
        found = asked(given[0] if names is None else table_of(dict(zip(names, given, strict=True))))
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(
            "it fails on stand-ins for columns, which take operators and methods alone"
        ) from error
    if isinstance(found, Table):
        return list(found.parts.values())
    if not isinstance(found, Symbol):
        stop(f"a {type(found).__name__} that its rows have no part in")
    if found.ndim != 2:
        stop("a vector, and not a column: add .to_frame()")
    return [Symbol(column(found.tensor, place)) for place in range(width(found.tensor))]


def _prove(
    asked: Callable[[Any], Any],
    kinds: list[Symbol],
    names: Sequence[str] | None,
) -> None:
    """Raise ConversionError unless what was written down gives the same values."""
    from modelkit.proto import signature_of
    from modelkit.runtimes.onnx import OnnxModel

    inputs = {}
    given: list[Symbol] = []
    for place, kind in enumerate(kinds):
        is_time = isinstance(kind, Times)
        tensor = argument(TensorSpec(f"x{place}", "int64" if is_time else "float64", ("batch",)))
        inputs[f"x{place}"] = tensor
        given.append(Times(tensor, kind.dtype) if is_time else Symbol(tensor))
    found = _asked(asked, given, names)
    outputs = {}
    for place, part in enumerate(found):
        outputs[f"y{place}"] = part.ticks if isinstance(part, Times) else floats(part.tensor)
    proto = model_of(inputs, outputs)
    with OnnxModel(proto.SerializeToString(), signature_of(proto)) as model:
        for edge in (False, True):
            rows = [_values(kind, place, edge=edge) for place, kind in enumerate(kinds)]
            truth = _truth(asked, rows, names, edge=edge)
            if truth is None:
                continue
            feeds = {
                name: row.view(np.int64) if row.dtype.kind in "mM" else row
                for name, row in zip(inputs, rows, strict=True)
            }
            got = model.run(feeds)
            if len(truth) != len(got) or not all(map(_same, got.values(), truth)):
                raise ConversionError(
                    "its graph gives other values than the function itself, whose rows must not take part in each other"
                )


def _values(
    kind: Symbol,
    seed: int,
    *,
    edge: bool,
) -> Array:
    """Values of a column: usual ones, or else missing ones and the ends of what it holds."""
    rng = np.random.default_rng(seed)
    if not isinstance(kind, Times):
        numbers = np.rint(rng.normal(size=ROWS) * 30) / rng.choice([1, 2, 7], ROWS)
        return np.where(
            edge & (rng.random(ROWS) < 1 / 4), rng.choice([np.nan, np.inf, 1e9], ROWS), numbers
        )
    second = UNITS[kind.unit]
    year = 365 * 86_400 * second
    if edge:
        most = min(-NAT - 1, 290_000 * year)
        ticks = rng.integers(-most, most, ROWS)
        ticks[:4] = [NAT, -most, most, NAT]
    elif kind.dtype.kind == "M":
        months = [np.arange(f"{year}-01", f"{year + 1}-01", dtype="M8[M]") for year in YEARS]
        days = np.concatenate(months).astype(f"M8[{kind.unit}]").astype(np.int64)
        beside = days + rng.choice([0, -1, 1, second, 3600 * second, 86_399 * second], len(days))
        ticks = np.append(beside, rng.integers(-120 * year, 130 * year, ROWS - len(days)))
    else:
        ticks = rng.integers(-3 * year, 3 * year, ROWS)
    return rng.permutation(ticks).view(kind.dtype)


def _truth(
    asked: Callable[[Any], Any],
    rows: list[Array],
    names: Sequence[str] | None,
    *,
    edge: bool,
) -> list[Array] | None:
    """The columns that a function gives for values; None where it refuses the ends of their range."""
    pandas = sys.modules["pandas"]
    given = (
        pandas.Series(rows[0])
        if names is None
        else pandas.DataFrame(dict(zip(names, rows, strict=True)))
    )
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = pandas.DataFrame(asked(given))
    except Exception as error:
        if edge:
            return None
        raise ConversionError("it fails on columns of every value, which it must take") from error
    return [values.to_numpy() for _, values in found.items()]


def _same(got: Array, truth: Array) -> bool:
    if truth.dtype.kind in "mM":
        return np.array_equal(got, truth.view(np.int64))
    wide = truth.astype(np.float64)
    size = np.abs(wide[np.isfinite(wide)]).max(initial=0) * np.finfo(np.float64).eps
    return np.allclose(got, wide, rtol=NEAR_ENOUGH, atol=size, equal_nan=True)

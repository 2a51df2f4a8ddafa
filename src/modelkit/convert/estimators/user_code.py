"""A user's function as it is followed: with what numpy and pandas dispatch to no stand-in.

The function is made again around its own code, with all that it reaches of the user's, and finds
other values under some names: `np.asarray` keeps a stand-in, `pd.concat` joins them, and the clock,
chance and the environment are refused, for they would be frozen into the graph. What it writes into
is a copy.
"""

from __future__ import annotations

import builtins
import copy
import datetime as dt
import dis
import functools
import gc
import operator
import os
import random
import secrets
import sys
import time
import types
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

import numpy as np

from modelkit.convert.estimators.stand_in_cells import always, rearranged
from modelkit.convert.estimators.stand_in_rows import cut
from modelkit.convert.estimators.stand_in_times import refuse_today
from modelkit.convert.estimators.stand_ins import (
    Symbol,
    is_pandas,
    kind_of_values,
    stop,
    symbols_in,
    tracing_now,
)

CHANGING = (time, random, secrets, uuid, np.random)
CHANGING_NAMES = tuple(module.__name__ for module in CHANGING)
DRAWING = (np.random.Generator, np.random.RandomState, random.Random)
CLOCKS = ("now", "today", "utcnow")
OF_OS = (os.environ, os.getenv, os.getpid, os.urandom)
WRITING = ("STORE_GLOBAL", "DELETE_GLOBAL")
USERS_KINDS = (types.FunctionType, type)
COMPILED = (types.MethodDescriptorType, types.WrapperDescriptorType)
CONTAINERS = (dict, list, tuple, set, deque)
CACHED = type(functools.cache(len))
SIMPLE = (int, float, complex, str, bytes, types.NoneType, np.generic)
# All else is the user's, also where it is installed.
LIBRARIES = {
    *sys.stdlib_module_names, "catboost", "dateutil", "joblib", "lightgbm", "loguru", "modelkit", "numpy", "pandas",
    "polars", "pyarrow", "pytz", "scipy", "sklearn", "structlog", "torch", "tqdm", "xgboost",
}  # fmt: skip
COUNTING = {"len", "shape", "size", "index"}
MOST_ROWS = 10_000  # that a function is tried on
FEW = 256  # values of a table whose numbers are tried
FROZEN = "would be the same for ever in a graph; pass it as a column of the rows"


OF_TIMES = (
    "Timestamp", "to_datetime", "Period", "DatetimeIndex", "date_range", "bdate_range", "period_range",
)  # fmt: skip


class Module:
    """A module as a followed function sees it."""

    def __init__(self, module: Any, world: World) -> None:
        self._module = module
        self._world = world

    def __getattr__(self, name: str) -> Any:
        if self._module in CHANGING:
            stop(f"{self._module.__name__}.{name}, which {FROZEN}")
        return self._world.seen(getattr(self._module, name))


class Class:
    """A class as a followed function sees it: it makes stand-ins, and knows them for its own."""

    def __init__(self, kind: Any, make: Callable[..., Any]) -> None:
        self._kind = kind
        self._make = make

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Make one, or what stands for one."""
        return self._make(*args, **named)

    def __instancecheck__(self, value: Any) -> bool:
        """Whether a value is one of the class, or stands for one."""
        return isinstance(value, self._kind)

    def __getattr__(self, name: str) -> Any:
        if name in CLOCKS:
            stop(f"{self._kind.__name__}.{name}, which {FROZEN}")
        return getattr(self._kind, name)


class Beside:
    """What `np.c_` or `np.r_` is."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getitem__(self, key: Any) -> Any:
        parts = key if type(key) is tuple else (key,)
        if not symbols_in(parts):
            return self._of[key]
        return rearranged(lambda inner: self._of[tuple(inner)], list(parts))


ARRAYS = (np.array, np.asarray, np.asanyarray, np.ascontiguousarray)
FILLED = (np.zeros, np.ones, np.full, np.empty)


def _moment(function: Any) -> Callable[..., Any]:
    def followed(*args: Any, **named: Any) -> Any:
        if args and isinstance(args[0], Symbol):
            if kind_of_values(args[0].like) != "M" or len(args) + len(named) > 1:
                stop(f"{function.__name__} of what are not times yet: parse them before fit")
            return args[0]
        for value in (*args, *named.values()):
            for each in value if isinstance(value, list | tuple) else [value]:
                refuse_today(each)
        return function(*args, **named)

    return followed


def _moved(function: Any) -> Callable[..., Any]:
    """A function that moves numbers, of stand-ins too."""

    def followed(first: Any = None, *args: Any, **named: Any) -> Any:
        first = list(first) if type(first) is types.GeneratorType else first
        if not symbols_in(first):
            return function(first, *args, **named)
        dtype = named.pop("dtype", None)
        if args and dtype is None and function in ARRAYS:
            dtype, *args = args  # type: ignore[assignment]
        found = rearranged(function, first, *args, **named)
        return found if dtype is None else found.astype(dtype)

    return followed


def _filled(function: Any) -> Callable[..., Any]:
    """An array that is the same in each row, if it has as many as the stand-ins."""

    def followed(shape: Any, *args: Any, **named: Any) -> Any:
        like = (np.zeros if function is np.empty else function)(shape, *args, **named)
        return always(like) if list(like.shape).count(tracing_now().count) == 1 else like

    return followed


def _by_method(function: Any, name: str) -> Callable[..., Any]:
    def followed(value: Any, *args: Any, **named: Any) -> Any:
        if not isinstance(value, Symbol):
            return function(value, *args, **named)
        if is_pandas(value):
            return getattr(value, name)(*args, **named)
        gaps: Any = np.isnan(value)
        return gaps if name.startswith("is") else ~gaps

    return followed


def _frame(kind: Any) -> Callable[..., Any]:
    """A frame of pandas; one without columns has the rows of the stand-ins."""
    moved = _moved(kind)

    def followed(data: Any = None, *args: Any, **named: Any) -> Any:
        if data is None and "columns" not in named:
            return Symbol([], kind(index=range(tracing_now().count)))
        return moved(data, *args, **named)

    return followed


def known_of_pandas(pandas: Any) -> list[tuple[Any, Any]]:
    """What a followed function finds in place of functions and classes of pandas."""
    if pandas is None:
        return []
    tests = (pandas.isna, pandas.isnull, pandas.notna, pandas.notnull)
    return [
        (pandas.DataFrame, Class(pandas.DataFrame, _frame(pandas.DataFrame))),
        (pandas.Series, Class(pandas.Series, _moved(pandas.Series))),
        *((each, _by_method(each, each.__name__)) for each in tests),
        (pandas.concat, _moved(pandas.concat)),
        (pandas.cut, cut),
        (pandas.get_dummies, lambda *_, **__: stop("pandas.get_dummies: use OneHotEncoder")),
        *((each, Class(each, _moment(each))) for each in (getattr(pandas, at) for at in OF_TIMES)),
    ]


KNOWN: list[tuple[Any, Any]] = [
    *((each, _moved(each)) for each in ARRAYS),
    *((each, _filled(each)) for each in FILLED),
    *((each, Beside(each)) for each in (np.c_, np.r_)),
    *((each, Class(each, each)) for each in (dt.datetime, dt.date, np.ndarray)),
    (np.datetime64, Class(np.datetime64, _moment(np.datetime64))),
]


class Names(dict[str, Any]):
    """The names that a followed function finds beside its own: each is seen when it is asked for."""

    def __init__(self, known: dict[str, Any], world: World) -> None:
        super().__init__(__import__=self._import)
        self._known = known
        self._world = world

    def __missing__(self, name: str) -> Any:
        given = self._known.get("__builtins__", builtins)
        own = self._known if name in self._known else given
        value = own[name] if isinstance(own, dict) else vars(own)[name]
        self._world.note(value)
        return self._world.seen(value)

    def _import(self, name: str, *args: Any, **named: Any) -> Any:
        return self._world.seen(builtins.__import__(name, *args, **named))


class World:
    """What a followed function finds under its names. `codes` are the rebuilt ones."""

    def __init__(self) -> None:
        self.codes: set[types.CodeType] = set()
        self.cached: set[types.CodeType] = set()  # of functions whose answers are kept
        self.numbers: set[float] = set()
        self._made: dict[int, Any] = {}
        self._kept: dict[int, Any] = {}
        self._classes: list[tuple[Any, types.CellType]] = []  # and cells for what is made of them
        self._known: list[tuple[Any, Any]] = [
            (builtins.type, Class(builtins.type, self._type)),
            *KNOWN,
        ]
        self._known += known_of_pandas(sys.modules.get("pandas"))

    def _type(self, *args: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], Symbol):
            return self.seen(builtins.type(args[0].like))
        return builtins.type(*args)

    def seen(self, value: Any) -> Any:
        """A value as a followed function sees it."""
        if isinstance(value, SIMPLE):
            return value
        for known, instead in self._known:
            if value is known:
                return instead
        if _is_changing(value):
            return Frozen(_name_of(value))
        if type(value) in (types.MethodType, partial):
            return self._bound(value)
        if isinstance(value, CACHED):
            found = self.seen(value.__wrapped__)
            self.cached |= set(_codes_in(found.__code__))
            return found
        if _is_of_library(value) and not isinstance(value, (types.ModuleType, *CONTAINERS)):
            return value
        if id(value) not in self._made:
            self._kept[id(value)] = value  # for another could get its id
            self._make(value)
        return self._made[id(value)]

    def _bound(self, value: Any) -> Any:
        if type(value) is partial:
            self.note([value.args, value.keywords])
            named = {name: self.seen(each) for name, each in value.keywords.items()}
            return partial(self.seen(value.func), *map(self.seen, value.args), **named)
        return types.MethodType(self.seen(value.__func__), self.seen(value.__self__))

    def _make(self, value: Any) -> None:
        if type(value) is types.ModuleType:
            self._made[id(value)] = Module(value, self)
        elif type(value) is types.FunctionType:
            self._anew(value)
        else:
            make = self._class_anew if isinstance(value, type) else self._copy
            try:
                self._made[id(value)] = make(value)
            except Exception:  # enumerations, and whatever cannot be copied
                self._made[id(value)] = value

    def note(self, value: Any) -> None:
        """Remember the numbers in a value: a function may do another thing for these."""
        if isinstance(value, dict):
            self.note([*value.keys(), *value.values()])
        elif isinstance(value, tuple | list | set | frozenset | np.ndarray) and len(value) <= FEW:
            for each in value:
                self.note(each)
        elif isinstance(value, int | float | np.number) and abs(float(value)) < np.inf:
            self.numbers.add(float(value))

    def counts(self) -> list[int]:
        """How many rows code may take for few or many, if it counts them."""
        names = {name for code in self.codes for name in code.co_names}
        if not names & COUNTING:
            return []
        near = [number + step for number in self.numbers for step in (-1, 0, 1)]
        return sorted({int(count) for count in near if 0 < count <= MOST_ROWS and count % 1 == 0})

    def _anew(self, function: types.FunctionType) -> None:
        code = function.__code__
        codes = set(_codes_in(code))
        self.codes |= codes
        self.note([each.co_consts for each in codes])
        self.note([function.__defaults__, function.__kwdefaults__])
        cells = function.__closure__ or ()
        closure = tuple(types.CellType() for _ in cells)
        known = {"__name__": function.__module__, "__builtins__": Names(function.__globals__, self)}
        made = types.FunctionType(code, known, function.__name__, None, closure or None)
        self._made[id(function)] = made
        made.__defaults__ = self.seen(function.__defaults__)
        made.__kwdefaults__ = self.seen(function.__kwdefaults__)
        made.__dict__.update({name: self.seen(each) for name, each in vars(function).items()})
        for name, made_cell, cell in zip(code.co_freevars, closure, cells, strict=True):
            with suppress(ValueError):  # of one that is empty
                value = cell.cell_contents
                if name == "__class__":  # which `super` goes by
                    self._classes.append((value, made_cell))
                    if id(value) not in self._kept:
                        self.seen(value)
                else:
                    self.note(value)
                    made_cell.cell_contents = self.seen(value)

    def _class_anew(self, kind: type) -> type:
        """A class like a user's, with its functions rebuilt, and its bases."""
        if any(type(each) in COMPILED for each in vars(kind).values()):
            return kind
        own = {
            name: self._member(value)
            for name, value in vars(kind).items()
            if name not in ("__dict__", "__weakref__")
            and type(value) is not types.MemberDescriptorType
        }
        self.note(own)
        bases = tuple(map(self.seen, kind.__bases__))
        made: type = self._made.get(id(kind)) or type(kind)(kind.__name__, bases, own)
        for known, cell in self._classes:
            if known is kind:
                cell.cell_contents = made
        return made

    def _member(self, value: Any) -> Any:
        if isinstance(value, staticmethod | classmethod):
            return type(value)(self.seen(value.__func__))
        if type(value) is property:
            return property(*map(self.seen, (value.fget, value.fset, value.fdel)))
        if type(value) is functools.cached_property:
            return functools.cached_property(self.seen(value.func))
        return self.seen(value)

    def _copy(self, value: Any) -> Any:
        """A container, or an object of a user's class, that a function may write into."""
        if hasattr(type(value), "__del__"):  # what it frees is the original's too
            return value
        if isinstance(value, tuple):
            parts = list(map(self.seen, value))
            same = all(map(operator.is_, parts, value))
            made: Any = value if same else tuple.__new__(type(value), parts)
        else:
            made = copy.copy(value)
        if made is value:
            return value
        self._made[id(value)] = made
        if isinstance(value, dict):
            for key, each in value.items():
                dict.__setitem__(made, key, self.seen(each))
        elif isinstance(value, list | deque):
            for place, each in enumerate(value):
                made[place] = self.seen(each)
        if not _is_of_library(value):
            self._fill(made, value)
        return made

    def _fill(self, made: Any, value: Any) -> None:
        """Give the copy of an object its class and its attributes, as others see them."""
        object.__setattr__(made, "__class__", self.seen(type(value)))
        held = dict(getattr(value, "__dict__", {}))
        self.note(held)
        for name, each in held.items():
            made.__dict__[name] = self.seen(each)
        for kind in type(value).__mro__:
            for name in vars(kind):
                if type(vars(kind)[name]) is types.MemberDescriptorType and hasattr(value, name):
                    self.note(getattr(value, name))
                    object.__setattr__(made, name, self.seen(getattr(value, name)))


class Frozen:
    """What would be frozen into a graph."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse any use of it."""
        stop(f"{self._name}, which {FROZEN}")

    __getattr__ = __getitem__ = __call__


def _is_changing(value: Any) -> bool:
    """Whether something gives other values at other times."""
    owner = getattr(value, "__self__", None)
    if isinstance(owner, type):
        return issubclass(owner, dt.date) and value.__name__ in CLOCKS
    return (
        isinstance(value if owner is None else owner, DRAWING)
        or any(value is each for each in OF_OS)
        or getattr(value, "__module__", None) in CHANGING_NAMES
    )


def _name_of(value: Any) -> str:
    """`time.time`, or `date.today`."""
    owner = getattr(value, "__self__", None)
    place = (
        getattr(value, "__module__", None) if owner is None else getattr(owner, "__name__", None)
    )
    return ".".join(filter(None, [place, getattr(value, "__name__", type(value).__name__)]))


def _is_of_library(value: Any) -> bool:
    """Whether something, or its class, belongs to a library, and not to the user's code."""
    owner = value if isinstance(value, USERS_KINDS) else type(value)
    name = str(getattr(owner, "__module__", None)).partition(".")[0]
    return name in LIBRARIES or name.startswith("_cython")


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code, and the codes of the functions that it makes."""
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _codes_in(value)


def writes_globals(codes: set[types.CodeType]) -> bool:
    """Whether code writes a global name."""
    return any(step.opname in WRITING for code in codes for step in dis.get_instructions(code))


@contextmanager
def unchanging() -> Iterator[None]:
    """The user's code does not ask the clock or chance here, by whatever name. Raises ConversionError."""

    def at_event(frame: Any, event: str, called: Any) -> None:
        caller = frame if event == "c_call" else frame.f_back
        if event not in ("call", "c_call") or caller is None:
            return
        if str(caller.f_globals.get("__name__")).partition(".")[0] in LIBRARIES:
            return
        name = ""
        if event == "c_call" and _is_changing(called):
            name = _name_of(called)
        elif event == "call" and frame.f_globals.get("__name__") in CHANGING_NAMES:
            name = f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"
        if name and not _of_collector(caller):
            stop(f"{name}, which {FROZEN}")

    before = sys.getprofile()
    sys.setprofile(at_event)
    try:
        yield
    finally:
        sys.setprofile(before)


def _of_collector(frame: Any) -> bool:
    """Whether a call is of a listener to the garbage collector, which comes at any step."""
    codes = [getattr(each, "__code__", None) for each in gc.callbacks]
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return frame is not None

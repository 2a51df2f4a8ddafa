"""A user's function as it is followed: with what numpy and pandas dispatch to no stand-in.

The function is made anew around its own code, and finds other values under some global names:
`np.asarray` keeps a stand-in, `pd.concat` joins them, and the clock, chance and the environment are
refused, for they would be frozen into the graph.
"""

from __future__ import annotations

import builtins
import copy
import datetime as dt
import dis
import os
import random
import secrets
import sys
import time
import types
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from modelkit.convert.estimators.stand_in_functions import always, cut
from modelkit.convert.estimators.stand_ins import (
    Symbol,
    is_pandas,
    kind_of_values,
    rearranged,
    replaced,
    stop,
)

CHANGING = (time, random, secrets, uuid, np.random)
CHANGING_NAMES = tuple(module.__name__ for module in CHANGING)
DRAWING = (np.random.Generator, np.random.RandomState, random.Random)
CLOCKS = ("now", "today", "utcnow")
WRITING = ("STORE_GLOBAL", "DELETE_GLOBAL")
USERS_KINDS = (types.FunctionType, type)
INSTALLED = (f"{Path(os.__file__).parent}{os.sep}", "site-packages", "dist-packages")
_LRU = type(lru_cache(len))
COUNTING = {"len", "shape", "size", "index"}
MOST_ROWS = 10_000  # that a function is tried on
FEW = 256  # values of a table whose numbers are tried
FROZEN = "would be the same for ever in a graph; pass it as a column of the rows"


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
        if not _symbols_in(parts):
            return self._of[key]
        return rearranged(lambda inner: self._of[tuple(inner)], list(parts))


def _symbols_in(value: Any) -> list[Symbol]:
    found: list[Symbol] = []
    replaced(value, found.append)
    return found


ARRAYS = (np.array, np.asarray, np.asanyarray, np.ascontiguousarray)
FILLED = (np.zeros, np.ones, np.full, np.empty)


def _moment(function: Any) -> Callable[..., Any]:
    def followed(*args: Any, **named: Any) -> Any:
        if args and isinstance(args[0], Symbol):
            if kind_of_values(args[0].like) != "M" or len(args) + len(named) > 1:
                stop(f"{function.__name__} of what are no times yet: parse them before fit")
            return args[0]
        if args[:1] in (("now",), ("today",)):
            stop(f"{function.__name__}({args[0]!r}), which {FROZEN}")
        return function(*args, **named)

    return followed


def _moved(function: Any) -> Callable[..., Any]:
    """A function that moves numbers, of stand-ins too."""

    def followed(first: Any = None, *args: Any, **named: Any) -> Any:
        first = list(first) if type(first) is types.GeneratorType else first
        if not _symbols_in(first):
            return function(first, *args, **named)
        dtype = named.pop("dtype", None)
        if args and dtype is None and function in ARRAYS:
            dtype, *args = args  # type: ignore[assignment]
        found = rearranged(function, first, *args, **named)
        return found if dtype is None else found.astype(dtype)

    return followed


def _filled(function: Any) -> Callable[..., Any]:
    """An array that is the same in each row, if it has as many as the stand-ins."""

    def followed(world: World, shape: Any, *args: Any, **named: Any) -> Any:
        like = (np.zeros if function is np.empty else function)(shape, *args, **named)
        return always(like) if list(like.shape).count(world.count) == 1 else like

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


def _frame(world: World, kind: Any) -> Callable[..., Any]:
    """A frame of pandas; one without columns has the rows of the stand-ins."""
    moved = _moved(kind)

    def followed(data: Any = None, *args: Any, **named: Any) -> Any:
        if data is None and "columns" not in named:
            return Symbol([], kind(index=range(world.count)))
        return moved(data, *args, **named)

    return followed


def _known_of_pandas(pandas: Any, world: World) -> list[tuple[Any, Any]]:
    if pandas is None:
        return []
    tests = (pandas.isna, pandas.isnull, pandas.notna, pandas.notnull)
    return [
        (pandas.DataFrame, Class(pandas.DataFrame, _frame(world, pandas.DataFrame))),
        (pandas.Series, Class(pandas.Series, _moved(pandas.Series))),
        *((each, _by_method(each, each.__name__)) for each in tests),
        (pandas.concat, _moved(pandas.concat)),
        (pandas.cut, cut),
        (pandas.get_dummies, lambda *_, **__: stop("pandas.get_dummies: use OneHotEncoder")),
        *((each, Class(each, _moment(each))) for each in (pandas.Timestamp, pandas.to_datetime)),
    ]


KNOWN: list[tuple[Any, Any]] = [
    *((each, _moved(each)) for each in ARRAYS),
    *((each, Beside(each)) for each in (np.c_, np.r_)),
    *((each, Class(each, each)) for each in (dt.datetime, dt.date, np.ndarray)),
    (np.datetime64, Class(np.datetime64, _moment(np.datetime64))),
]


class World:
    """What a followed function finds under its global names. `codes` are those that were made anew."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.codes: set[types.CodeType] = set()
        self.cached: set[types.CodeType] = (
            set()
        )  # of functions whose answers are kept, and not made again
        self.numbers: set[float] = set()
        self._made: dict[int, Any] = {}
        self._kept: list[Any] = []
        self._known: list[tuple[Any, Any]] = [
            *((each, partial(_filled(each), self)) for each in FILLED),
            (builtins.type, Class(builtins.type, self._type)),
            *KNOWN,
        ]
        self._known += _known_of_pandas(sys.modules.get("pandas"), self)

    def _type(self, *args: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], Symbol):
            return self.seen(builtins.type(args[0].like))
        return builtins.type(*args)

    def seen(self, value: Any) -> Any:
        """A value as a followed function sees it."""
        for known, instead in self._known:
            if value is known:
                return instead
        if _is_changing(value):
            return Frozen(_name_of(value))
        if type(value) in (types.MethodType, partial):
            return self._bound(value)
        if type(value) in (dict, list, tuple):
            return self._inside(value)
        if type(value) is _LRU:
            found = self.seen(value.__wrapped__)
            self.cached |= set(_codes_in(found.__code__))
            return found
        of_library = _is_of_library(value if isinstance(value, USERS_KINDS) else type(value))
        if of_library and type(value) is not types.ModuleType:
            return value
        if id(value) not in self._made:
            self._kept.append(value)  # for another could get its id
            self._make(value)
        return self._made[id(value)]

    def _inside(self, value: Any) -> Any:
        """A container with what is seen in it; itself if that is the same."""
        if id(value) in self._made:
            return self._made[id(value)]
        self._kept.append(value)
        self._made[id(value)] = value  # where it holds itself
        parts = [*value.keys(), *value.values()] if type(value) is dict else value
        seen = [self.seen(each) for each in parts]
        if any(new is not old for new, old in zip(seen, parts, strict=True)):
            pairs = zip(seen[: len(value)], seen[len(value) :], strict=False)
            self._made[id(value)] = dict(pairs) if type(value) is dict else type(value)(seen)
        return self._made[id(value)]

    def _bound(self, value: Any) -> Any:
        if type(value) is partial:
            named = {name: self.seen(each) for name, each in value.keywords.items()}
            return partial(self.seen(value.func), *map(self.seen, value.args), **named)
        return types.MethodType(self.seen(value.__func__), self.seen(value.__self__))

    def _make(self, value: Any) -> None:
        if type(value) is types.ModuleType:
            self._made[id(value)] = Module(value, self)
        elif type(value) is types.FunctionType:
            self._anew(value)
        else:
            try:
                self._made[id(value)] = (
                    self._class_anew if isinstance(value, type) else self._object_anew
                )(value)
            except (TypeError, AttributeError):  # enumerations, and what cannot be copied
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
        known = dict(function.__globals__)
        given = known.get("__builtins__", builtins)
        own = given if isinstance(given, dict) else vars(given)
        known["__builtins__"] = own | {"type": self.seen(builtins.type), "__import__": self._import}
        made = types.FunctionType(code, known, function.__name__, closure=closure or None)
        self._made[id(function)] = made
        for name in {name for each in codes for name in each.co_names} & known.keys():
            self.note(known[name])
            known[name] = self.seen(known[name])
        made.__defaults__ = self.seen(function.__defaults__)
        made.__kwdefaults__ = self.seen(function.__kwdefaults__)
        made.__dict__.update({name: self.seen(each) for name, each in vars(function).items()})
        for name, made_cell, cell in zip(code.co_freevars, closure, cells, strict=True):
            with suppress(ValueError):  # of one that is empty
                value = cell.cell_contents
                self.note(value)
                made_cell.cell_contents = value if name == "__class__" else self.seen(value)

    def _import(self, name: str, *args: Any, **named: Any) -> Any:
        return self.seen(builtins.__import__(name, *args, **named))

    def _class_anew(self, kind: type) -> type:
        """A class derived from a user's, with its functions made anew."""
        own: dict[str, Any] = {}
        users = [base for base in reversed(kind.__mro__) if not _is_of_library(base)]
        for name, value in [pair for base in users for pair in vars(base).items()]:
            if isinstance(value, staticmethod | classmethod):
                own[name] = type(value)(self.seen(value.__func__))
            elif isinstance(value, property):
                own[name] = property(self.seen(value.fget), value.fset, value.fdel)
            elif not name.startswith("__") or isinstance(value, types.FunctionType):
                own[name] = self.seen(value)
        return type(kind)(kind.__name__, (kind,), own)

    def _object_anew(self, value: Any) -> Any:
        """An object of a user's class, which finds in its functions what others do."""
        self.note(list(getattr(value, "__dict__", {}).values()))
        made = copy.copy(value)
        if made is not value:
            object.__setattr__(made, "__class__", self.seen(type(value)))
            for name, each in vars(made).items() if hasattr(made, "__dict__") else ():
                object.__setattr__(made, name, self.seen(each))
        return made


class Frozen:
    """What would be frozen into a graph."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse any use of it."""
        stop(f"{self._name}, which {FROZEN}")

    __getattr__ = __getitem__ = __call__


def _name_of(value: Any) -> str:
    name = getattr(value, "__qualname__", type(value).__name__)
    module = getattr(value, "__module__", None)
    return f"{module}.{name}" if module in CHANGING_NAMES else name


def _is_changing(value: Any) -> bool:
    """Whether something gives other values at other times."""
    of = getattr(value, "__self__", value)
    return (
        type(of) in DRAWING
        or (isinstance(of, type) and issubclass(of, dt.date) and value.__name__ in CLOCKS)
        or value is os.environ
        or value is os.getenv
        or getattr(value, "__module__", None) in CHANGING_NAMES
    )


@contextmanager
def asking_no_clock() -> Iterator[None]:
    """Refuse what the user's code asks the clock or chance for here, however it came by these."""
    asked: list[str] = []

    def at_call(frame: Any, event: str, called: Any) -> None:
        if event == "c_call" and _is_changing(called) and not _is_installed(frame.f_code):
            asked.append(_name_of(called))

    before = sys.getprofile()
    sys.setprofile(at_call)
    try:
        yield
    finally:
        sys.setprofile(before)
    if asked:
        stop(f"{asked[0]}, which {FROZEN}")


def _is_installed(code: types.CodeType) -> bool:
    return any(place in code.co_filename for place in INSTALLED)


def _is_of_library(value: Any) -> bool:
    """Whether a function or a class belongs to what is installed, and not to the user's code."""
    name = str(getattr(value, "__module__", None))
    if name == "__main__" or name not in sys.modules:  # as of a notebook, or of joblib
        return not isinstance(value, USERS_KINDS)
    file = str(getattr(sys.modules[name], "__file__", None) or INSTALLED[0])
    return any(place in file for place in INSTALLED)


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code, and those of the functions that it makes."""
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _codes_in(value)


def writes_globals(codes: set[types.CodeType]) -> bool:
    """Whether code writes a global name."""
    return any(step.opname in WRITING for code in codes for step in dis.get_instructions(code))


@contextmanager
def watched(codes: set[types.CodeType]) -> Iterator[set[tuple[Any, int]]]:
    """The steps of codes that run here."""
    ran: set[tuple[Any, int]] = set()

    def at_step(frame: Any, event: str, _: Any) -> Any:
        if event == "opcode":
            ran.add((frame.f_code, frame.f_lasti))
        return at_step

    def at_call(frame: Any, *_: Any) -> Any:
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes = True
        return at_step

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        yield ran
    finally:
        sys.settrace(before)

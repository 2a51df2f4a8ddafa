"""A stand-in for a frame of numbers, whose columns have names: see `symbols`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from modelkit.convert.estimators.arithmetic import choose
from modelkit.convert.estimators.symbols import Symbol, floats, stop, tensor_of
from modelkit.convert.estimators.tensors import (
    Var,
    column,
    joined,
    one_column,
    op,
    picked,
    rank,
    upright,
    width,
)

KEEPING = ("abs", "astype", "clip", "fillna", "round")  # methods that leave each column its name


class SymbolFrame(Symbol):
    """(n, columns) of float64, as a function of frames sees it; its columns may be assigned."""

    def __init__(self, tensor: Var, names: Sequence[str]) -> None:
        super().__init__(tensor)
        self.names = list(names)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self.names)

    @property
    def loc(self) -> Located:
        """Columns by name, of all rows."""
        return Located(self)

    @property
    def values(self) -> Symbol:
        """The numbers without the names."""
        return Symbol(self.tensor)

    def to_numpy(self, *_: Any, **__: Any) -> Symbol:
        """The numbers without the names."""
        return self.values

    def copy(self, *_: Any, **__: Any) -> Self:
        """A stand-in of its own."""
        return type(self)(self.tensor, self.names)

    def assign(self, **columns: Any) -> Self:
        """A copy with more columns, or others."""
        found = self.copy()
        for name, value in columns.items():
            found[name] = value(found) if callable(value) else value
        return found

    def drop(
        self,
        labels: Any = None,
        *,
        axis: Any = 0,
        columns: Any = None,
    ) -> Any:
        """A copy without some columns."""
        dropped = columns
        if columns is None and axis in (1, "columns"):
            dropped = labels
        if dropped is None:
            stop("a frame without some of its rows")
        gone = {dropped} if isinstance(dropped, str) else set(dropped)
        return self[[name for name in self.names if name not in gone]]

    def apply(self, function: Any, axis: Any = 0) -> Any:
        """A function of numpy, of each number."""
        if axis not in (0, "index") or not isinstance(function, np.ufunc):
            stop("a function that is applied to each row or column")
        return function(self)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return Symbol(column(self.tensor, self._place(key)))
        if isinstance(key, list) and all(isinstance(name, str) for name in key):
            places = [self._place(name) for name in key]
            return type(self)(picked(self.tensor, places), key)
        return stop("some of the rows of a frame")

    def _place(self, name: str) -> int:
        if name not in self.names:
            stop(f"a column {name!r}, which it was not given")
        return self.names.index(name)

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str):
            stop("several columns that are assigned at once")
        tensor = floats(tensor_of(value))
        if rank(tensor) == 0:
            gaps = op.isnan(one_column(self.tensor, 0))
            tensor = choose(gaps, tensor, tensor)  # as long as the frame
        added = upright(tensor) if rank(tensor) == 1 else tensor
        parts = [one_column(self.tensor, place) for place in range(len(self.names))]
        if key in self.names:
            parts[self.names.index(key)] = added
        else:
            parts.append(added)
            self.names.append(key)
        self.tensor = joined(parts)

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("names", ()):
            return self[name]
        return super().__getattr__(name)

    def __array_ufunc__(
        self,
        function: Any,
        method: str,
        *inputs: Any,
        **named: Any,
    ) -> Any:
        for each in inputs:
            if isinstance(each, Symbol) and each is not self and not self._is_like(each):
                stop("a frame together with one of its columns")
        return self._named(super().__array_ufunc__(function, method, *inputs, **named))

    def _is_like(self, other: Symbol) -> bool:
        return isinstance(other, SymbolFrame) and other.names == self.names

    def __array_function__(
        self,
        function: Any,
        types: Any,
        args: Any,
        named: Any,
    ) -> Any:
        return self._named(super().__array_function__(function, types, args, named))

    def _named(self, found: Any) -> Any:
        """What was found, with the names of the columns where it has as many."""
        same = isinstance(found, Symbol) and found.ndim == 2
        if not same or width(found.tensor) != len(self.names):
            return found
        return type(self)(found.tensor, self.names)


class Located:
    """What `frame.loc` is."""

    def __init__(self, frame: SymbolFrame) -> None:
        self._frame = frame

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, tuple) or len(key) != 2 or key[0] != slice(None):
            stop("some of the rows of a frame")
        return self._frame[key[1]]


def _keeping(name: str) -> Callable[..., Any]:
    def method(frame: SymbolFrame, *args: Any, **options: Any) -> Any:
        plain = getattr(frame.values, name)(*args, **options)
        return frame._named(plain)  # noqa: SLF001 - of the same module

    return method


for each in KEEPING:
    setattr(SymbolFrame, each, _keeping(each))

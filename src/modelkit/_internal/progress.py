"""Bars that show how far long work is: in notebooks, and where they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any, TypeVar

Item = TypeVar("Item")

# What makes a bar, None where no bar is wanted; and the bar that `step` moves.
_NEW_BAR: ContextVar[Any] = ContextVar("new_bar", default=None)
_BAR: ContextVar[Any] = ContextVar("bar", default=None)


@contextmanager
def bars(asked: bool | None, what: str = "") -> Iterator[None]:
    """Show bars of the work within, if tqdm is there.

    None shows them in notebooks, and where the work around shows bars. With `what`, one bar counts
    the calls of `step`.
    """
    if asked is None:
        # Without ipywidgets, a notebook would keep the bars of a terminal in its output.
        notebook = "ipykernel" in sys.modules and find_spec("ipywidgets") is not None
        asked = notebook or _NEW_BAR.get() is not None
    new_bar: Any = None
    if asked and find_spec("tqdm") is not None:
        from tqdm.auto import tqdm

        new_bar = tqdm
    makes = _NEW_BAR.set(new_bar)
    bar = new_bar(desc=what, unit="step", leave=False) if new_bar and what else None
    moves = _BAR.set(bar)
    try:
        yield
    finally:
        _NEW_BAR.reset(makes)
        _BAR.reset(moves)
        if bar is not None:
            bar.close()


def step(doing: str) -> None:
    """Say what the work does now on its bar, if there is one."""
    bar = _BAR.get()
    if bar is not None:
        bar.set_postfix_str(doing, refresh=False)
        bar.update()


def counted_off(items: Sequence[Item], what: str, unit: str) -> Iterator[Item]:
    """The items one after the other; where `bars` shows them, a bar appears with the first."""
    new_bar = _NEW_BAR.get()
    yield from items if new_bar is None else new_bar(items, desc=what, unit=unit, leave=False)

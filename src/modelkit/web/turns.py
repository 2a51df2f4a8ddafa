"""Work that yields where others may have a turn: it runs to its end at once, or turn by turn."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

from modelkit.web.request import Request

T = TypeVar("T")
Turns = Generator[None, None, T]


def run_now(steps: Coroutine[Any, Any, T]) -> T:
    """Run steps whose request blocks, and so never suspends, to their end."""
    try:
        steps.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    steps.close()
    raise AssertionError("a request that blocks has suspended")


def at_once(steps: Turns[T]) -> T:
    """What steps end with, without a turn for others."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        value: T = end.value
        return value


async def with_turns(steps: Turns[T], request: Request) -> T:
    """What steps end with, with turns for others in between."""
    try:
        while True:
            next(steps)
            await request.turn()
    except StopIteration as end:
        value: T = end.value
        return value

"""Runs what is written in steps: to its end at once, or with turns for others in between."""

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


async def with_turns(steps: Turns[T], request: Request) -> T:
    """What steps end with, with turns for others in between."""
    try:
        while True:
            next(steps)
            await request.turn()
    except StopIteration as end:
        value: T = end.value
        return value

"""Split a large batch into chunks, and run them side by side on threads that end with the call.

The inputs of a bulk need no look where one output is not finite for every row with a missing or
infinite value: then that output is checked in their place.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterable
from contextvars import copy_context
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.model.call import PLAIN
from modelkit.model.manifest import Manifest
from modelkit.signature.coercion import Block
from modelkit.signature.signature import Signature

NOT_FINITE = (np.nan, np.inf, -np.inf)
PROBED = 1024  # columns at most, each of which is tried in three rows


class FiniteCheck(NamedTuple):
    """An output that is checked in place of the inputs: a sum of functions of one column each, or a link of such a sum.

    What a column adds depends on its own value alone. So where a missing or infinite value makes the
    sum so in one row, it does in every row, for nothing can be added to that which makes it finite. A
    link keeps that, but it may give 0 for a sum of minus infinity.

    Attributes:
        name: of the output.
        least: what its values are above where the sum is finite: minus infinity, or 0 behind a link.
        block: how rows become the only input.
    """

    name: str
    least: float
    block: Block

    def passes(self, values: Array) -> bool:
        """Whether values of the output, at least one, come from finite sums."""
        return bool(values.min() > self.least and values.max() < np.inf)

    def holds(self, run: Any) -> bool:
        """Whether the check passes a row of zeros, and no row with one value that is not finite.

        `run` is the `_run` of the Model, which is given 1 + 3 * columns rows.
        """
        (width,) = self.block.trailing
        rows = np.zeros((1 + 3 * width, width), self.block.rule.target)
        for value, square in zip(NOT_FINITE, rows[1:].reshape(3, width, width), strict=True):
            np.fill_diagonal(square, value)
        answers = run({self.block.name: rows}, (self.name,), PLAIN)[self.name]
        return [*map(self.passes, answers)] == [True] + [False] * (3 * width)


def finite_check(signature: Signature, manifest: Manifest | None) -> FiniteCheck | None:
    """The check that may replace a look at the inputs; None unless all columns refuse what is not finite."""
    block = signature.block
    if manifest is None or block is None or block.trailing > (PROBED,) or signature.refusals:
        return None
    for name, found in manifest.structures.items():
        if block.rule.bounds and not (block.rule.nullable or found.groups):
            return FiniteCheck(name, -np.inf if found.link == "identity" else 0.0, block)
    return None


def chunk_bounds(rows: int, size: int, threads: int = 1) -> list[tuple[int, int]]:
    """Start and stop of few chunks of at most `size` rows, as equal as they can be.

    Where they are more than `threads`, each thread has as many of them as the others.
    """
    count = max(1, -(-rows // size))
    if count > threads:
        count = min(rows, count + -count % threads)
    edges = [rows * i // count for i in range(count + 1)]
    return list(pairwise(edges))


class Gathered:
    """The answers to all rows of a bulk, written side by side as its parts are done."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._whole: dict[str, Array] = {}

    def put(self, start: int, stop: int, parts: Iterable[tuple[str, Array]]) -> None:
        """Write the answers to the rows from `start` to `stop`, by output; safe from any thread."""
        for name, part in parts:
            whole = self._whole.get(name)
            if whole is None:
                empty = np.empty((self._rows, *part.shape[1:]), part.dtype)
                whole = self._whole.setdefault(name, empty)  # of several threads, one is first
            whole[start:stop] = part

    def answers(self, outputs: Iterable[str]) -> dict[str, Array]:
        """The answers by output, once all parts are written."""
        return {name: self._whole[name] for name in outputs}


def run_all(run: Callable[..., None], todo: Iterable[tuple[Any, ...]], helpers: int) -> None:
    """Call `run` with each of `todo`, in this thread and `helpers` more; raises the first failure.

    `todo` may be a generator: one thread at a time advances it, while the others run.
    """
    failures: list[BaseException] = []
    rest = iter(todo)
    turn = _thread.allocate_lock()

    def work() -> None:
        try:
            while not failures:
                with turn:
                    arguments = next(rest, None)
                if arguments is None:
                    return
                run(*arguments)
        except BaseException as error:  # raised again in the caller's thread
            failures.append(error)

    def help_out(done: _thread.LockType) -> None:
        try:
            work()
        finally:
            done.release()

    # threading.Thread.start waits for the new thread to begin, which puts it on the caller's core:
    # on two cores both then shared one for several milliseconds, a whole bulk run of a linear
    # model.
    locks = [_thread.allocate_lock() for _ in range(helpers)]
    for lock in locks:
        lock.acquire()
        # A bar is shown wherever the next part is taken.
        _thread.start_new_thread(copy_context().run, (help_out, lock))
    work()
    for lock in locks:
        lock.acquire()
    if failures:
        raise failures[0]

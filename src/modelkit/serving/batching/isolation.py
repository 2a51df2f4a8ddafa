"""Run many calls as one batch, and keep a failure with the call that caused it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import BatchError
from modelkit.model.model import Call, Outputs
from modelkit.serving.batching.interrupts import is_interrupt
from modelkit.signature.refusing import moved, share
from modelkit.signature.signature import Feeds

Names = tuple[str, ...]  # of outputs
Run = Callable[[Feeds, Names, Call], Outputs]
Outcome = Outputs | BaseException

_GIVEN = "_modelkit_given"

_NO_MEMORY = ("out of memory", "failed to allocate memory", "bad_alloc", "bad allocation")

# A row that is kept keeps the output of its whole batch alive, up to this size in bytes; beyond it,
# rows are copied.
PINNED = 1 << 16


def attempt(
    run: Run, calls: list[Feeds], outputs: Names, call: Call, *, mine: bool = False
) -> tuple[list[Outcome], bool]:
    """Run calls as a batch; if it fails, its halves, until each failure belongs to one call.

    Where the model says which rows it refuses, the calls without such rows are run again together.
    A call that alone is too large for memory is run in parts.

    Returns an outcome for each call, and whether the batch was too large for memory: whether that
    was what failed, and smaller runs did not. `mine` is whether the only call is this thread's,
    which then raises everything that is not an Exception.
    """
    sizes = [row_count(feeds) for feeds in calls]
    try:
        return [*split(run(join_rows(calls), outputs, call), sizes)], False
    except BaseException as error:
        if is_interrupt(error) or (mine and not isinstance(error, Exception)):
            raise
        failure = error
    no_memory = out_of_memory(failure)
    if len(calls) == 1:
        if not no_memory or sizes[0] <= 1:
            return [own(failure)], False
        outcome = _by_halves(run, calls[0], outputs, call)
        return [outcome], not isinstance(outcome, BaseException)
    bounds = pairwise(accumulate(sizes, initial=0))
    outcomes: list[Any] = [share(failure, start, stop) for start, stop in bounds]
    left = [place for place, refusal in enumerate(outcomes) if refusal is None]
    middle = len(left) // 2 if len(left) == len(calls) else 0
    too_large = False
    for part in filter(None, (left[:middle], left[middle:])):
        found, larger = attempt(run, [calls[place] for place in part], outputs, call)
        too_large |= larger
        for place, outcome in zip(part, found, strict=True):
            outcomes[place] = outcome
    failed = any(isinstance(outcome, BaseException) for outcome in outcomes)
    return outcomes, too_large or (no_memory and not failed)


def _by_halves(run: Run, feeds: Feeds, outputs: Names, call: Call) -> Outcome:
    """One call's answer from two runs, each of which may be split further."""
    rows = row_count(feeds)
    middle = rows // 2
    answers: list[Outputs] = []
    for start, stop in ((0, middle), (middle, rows)):
        part = {name: feed[start:stop] for name, feed in feeds.items()}
        (outcome,), _ = attempt(run, [part], outputs, call)
        if isinstance(outcome, BaseException):
            return moved(outcome, start)
        answers.append(outcome)
    try:
        return join_rows(answers)
    except Exception as error:  # outputs whose other sizes differ
        return error


def own(failure: BaseException) -> BaseException:
    """A failure that one call may have to itself, and that a Future can carry."""
    public = f"the model raised {type(failure).__name__}"
    try:
        if isinstance(failure, Exception) and not isinstance(failure, StopIteration):
            # A model may raise the same instance again.
            given = failure.__dict__.setdefault(_GIVEN, False)
            failure.__dict__[_GIVEN] = True
            if not given:
                return failure
        error = BatchError(f"the model raised {failure!r}", public=public)
    except Exception:  # its repr is the model's code as well
        error = BatchError(public)
    error.__cause__ = failure
    return error


def out_of_memory(error: BaseException) -> bool:
    """Whether a run failed for want of memory, as numpy, onnxruntime and GPU libraries say it."""
    try:
        text = str(error).lower()
    except Exception:  # it is the model's code
        text = ""
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


def row_count(feeds: Feeds) -> int:
    """The number of rows in a batch."""
    return len(next(iter(feeds.values())))


def join_rows(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """The tensors of several calls as one batch, or the answers to pieces as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    whole = {}
    for name in first:
        whole[name] = np.concatenate([part[name] for part in parts])
    return whole


def split(answers: Outputs, sizes: list[int]) -> list[Outputs]:
    """The answer to a batch, call by call; the inverse of `join_rows`."""
    if len(sizes) == 1:
        return [answers]
    parts = [_split(array, sizes) for array in answers.values()]
    if len(parts) == 1:
        (name,) = answers
        return [{name: array} for array in parts[0]]
    by_call = zip(*parts, strict=True)
    return [dict(zip(answers, arrays, strict=True)) for arrays in by_call]


def _split(array: Array, sizes: list[int]) -> list[Array]:
    if sizes.count(1) == len(sizes):
        # Iterating slices without bytecode.
        shape = (len(array), 1, *array.shape[1:])
        arrays = list(array.reshape(shape))
    else:
        bounds = accumulate(sizes, initial=0)
        arrays = [array[start:stop] for start, stop in pairwise(bounds)]
    if array.nbytes <= PINNED:
        return arrays
    return [part.copy() for part in arrays]

"""Run many calls as one batch, share the answer out, and keep a failure with the call that caused it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise

import numpy as np

from modelkit.batching.interrupts import is_interrupt
from modelkit.cast import Array
from modelkit.errors import BatchError
from modelkit.model import Outputs
from modelkit.runtimes.bulk import chunk_bounds
from modelkit.signature import Feeds

Run = Callable[[Feeds, tuple[str, ...]], Outputs]
Outcome = Outputs | BaseException

_GIVEN = "_modelkit_given"

# A row that is kept keeps the output of its whole batch alive, up to this size in bytes; beyond it,
# rows are copied.
PINNED = 1 << 16


def attempt(
    run: Run, calls: list[Feeds], sizes: list[int], outputs: tuple[str, ...], *, mine: bool = False
) -> tuple[list[Outcome], bool]:
    """Run calls of so many rows as a batch; if it fails its halves, until each failure is that of one call.

    A call that alone is too large for memory is run in parts. Returns an outcome for each call, and
    whether the batch was too large for memory: whether that was what failed, and smaller runs did
    not. `mine` is whether the only call is that of this thread, in which then everything is raised
    that is no Exception.
    """
    try:
        return [*split(run(join(calls), outputs), sizes)], False
    except BaseException as error:
        if is_interrupt(error) or (mine and not isinstance(error, Exception)):
            raise
        failure = error
    outcomes: list[Outcome]
    if len(calls) > 1:
        middle = len(calls) // 2
        outcomes = []
        for half in (slice(middle), slice(middle, None)):
            outcomes += attempt(run, calls[half], sizes[half], outputs)[0]
    elif out_of_memory(failure) and sizes[0] > 1:
        outcomes = [_in_parts(run, calls[0], sizes[0], outputs)]
    else:
        return [own(failure)], False
    return outcomes, out_of_memory(failure) and not any(
        isinstance(outcome, BaseException) for outcome in outcomes
    )


def _in_parts(run: Run, feeds: Feeds, rows: int, outputs: tuple[str, ...]) -> Outcome:
    """One call's answer from two runs, each of which may be split further."""
    parts: list[Outputs] = []
    for start, stop in chunk_bounds(rows, (rows + 1) // 2):
        part = {name: feed[start:stop] for name, feed in feeds.items()}
        (outcome,), _ = attempt(run, [part], [stop - start], outputs)
        if isinstance(outcome, BaseException):
            return outcome
        parts.append(outcome)
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}
    except Exception as error:  # noqa: BLE001 - outputs whose other sizes differ
        return error


def own(failure: BaseException) -> BaseException:
    """A failure that one call may have to itself, and that a Future can carry."""
    try:
        if isinstance(failure, Exception) and not isinstance(failure, StopIteration):
            given = failure.__dict__.setdefault(
                _GIVEN, False
            )  # a model may raise the same instance again
            failure.__dict__[_GIVEN] = True
            if not given:
                return failure
        error = BatchError(f"the model raised {failure!r}")
    except Exception:  # noqa: BLE001 - its repr is the model's code as well
        error = BatchError(f"the model raised a {type(failure).__name__}")
    error.__cause__ = failure
    return error


def out_of_memory(error: BaseException) -> bool:
    """Whether a run failed for want of memory, as Python, numpy, onnxruntime and the GPU libraries say it."""
    try:
        text = str(error).lower()
    except Exception:  # noqa: BLE001 - it is the model's code
        text = ""
    return isinstance(error, MemoryError) or any(
        words in text
        for words in ("out of memory", "failed to allocate memory", "bad_alloc", "bad allocation")
    )


def rows_of(feeds: Feeds) -> int:
    """The number of rows in a batch."""
    return len(next(iter(feeds.values())))


def join(feeds: list[Feeds]) -> Feeds:
    """The rows of several calls as one batch."""
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([rows[name] for rows in feeds]) for name in feeds[0]}


def split(answers: Outputs, sizes: list[int]) -> list[Outputs]:
    """The answer to a batch, call by call; the inverse of `join`."""
    if len(sizes) == 1:
        return [answers]
    parts = [_split(array, sizes) for array in answers.values()]
    if len(parts) == 1:
        (name,) = answers
        return [{name: array} for array in parts[0]]
    return [dict(zip(answers, arrays, strict=True)) for arrays in zip(*parts, strict=True)]


def _split(array: Array, sizes: list[int]) -> list[Array]:
    if sizes.count(1) == len(sizes):
        arrays = list(
            array.reshape(len(array), 1, *array.shape[1:])
        )  # iterating slices without bytecode
    else:
        arrays = [array[start:stop] for start, stop in pairwise(accumulate(sizes, initial=0))]
    return arrays if array.nbytes <= PINNED else [part.copy() for part in arrays]

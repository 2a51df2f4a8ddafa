"""Time a model on its golden rows, to begin with a plan that fits it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from modelkit import golden
from modelkit.batching.policy import Curve
from modelkit.cast import Array
from modelkit.errors import BatchError
from modelkit.model import Model, Outputs
from modelkit.signature import Feeds, Signature

BUDGET = 1.0  # seconds for everything
ENOUGH = 2e-3  # seconds for one size, or TIMES runs, whichever comes later; at most 20 runs
TIMES = 3
GAIN = 1.03  # a size that is not this much faster a row than all before it is no reason to try larger ones

Run = Callable[[Feeds, tuple[str, ...]], Outputs]


def golden_feeds(model: Model) -> Feeds | None:
    """The golden rows of the package that the model came from, or None."""
    data = model.attachments.get(golden.GOLDEN)
    return None if data is None else golden.decode_golden(data, model.signature)[0]


def resized(feeds: Feeds, rows: int) -> Feeds:
    """So many rows, repeated from the top as often as needed."""
    at = np.arange(rows) % len(next(iter(feeds.values())))
    return {name: feed[at] for name, feed in feeds.items()}


def sizes_up_to(most: int, *, steps: bool = True) -> list[int]:
    """1, 2, 4, 5, 8, 9, 16, 17, ...: the powers of two, and what one row more costs, up to where steps matter."""
    sizes = [1 << power for power in range(most.bit_length())]
    return sorted(
        {*sizes, *(size + 1 for size in sizes if steps and 4 <= size <= 32 and size < most)}
    )


def measure(
    run: Run, signature: Signature, rows: Feeds, max_rows: int, costs: Callable[[Feeds], int] | None
) -> tuple[Curve, bool]:
    """What runs of 1, 2, 4, ...

    rows take at best, and whether a row gave the same bits in all of them.
    """
    clock, outputs = time.perf_counter, signature.output_names
    end = clock() + BUDGET
    few = resized(rows, min(max_rows, len(next(iter(rows.values())))))
    alone = [
        run({name: feed[i : i + 1] for name, feed in few.items()}, outputs)
        for i in range(len(next(iter(few.values()))))
    ]
    points, identical, best, dull = list[tuple[int, float]](), True, 0.0, 0
    # One row more is a step of kernels that work on 4 or 8 at a time; of a declared cost it is some
    # amount or other.
    for size in sizes_up_to(max_rows, steps=costs is None):
        feeds = resized(rows, size)
        fastest, spent, times = np.inf, 0.0, 0
        while times < TIMES or (spent < ENOUGH and times < 20):
            start = clock()
            answers = run(feeds, outputs)
            seconds = clock() - start
            fastest, spent, times = min(fastest, seconds), spent + seconds, times + 1
            if clock() + seconds > end:
                break
        identical &= all(
            _same_bits(answers[name][i : i + 1], one[name])
            for i, one in enumerate(alone[:size])
            for name in outputs
        )
        points.append((size if costs is None else max(1, costs(feeds)), fastest))
        speed = points[-1][0] / fastest
        dull = 0 if speed > GAIN * best else dull + 1
        best = max(best, speed)
        if dull == 4 or clock() + 2 * TIMES * fastest > end:
            break
    return tuple(points), identical


def check_stable(run: Run, signature: Signature, rows: Feeds | None, shape: int) -> None:
    """Raise BatchError unless a row gives the same bits at every place of a batch of this shape."""
    if rows is None:
        return
    outputs = signature.output_names
    alone = run(resized(rows, 1), outputs)
    others = resized(rows, shape)
    for place in range(shape):
        at = np.roll(np.arange(shape), place)
        answers = run({name: feed[at] for name, feed in others.items()}, outputs)
        for name in outputs:
            if not _same_bits(answers[name][place : place + 1], alone[name]):
                raise BatchError(
                    f"stable_shapes=True cannot be had: at place {place} of a batch of {shape} "
                    f"rows, {name!r} of the "
                    f"first golden row has other bits than at place 0",
                    output=name,
                    place=place,
                )


def _same_bits(one: Array, other: Array) -> bool:
    if one.dtype == object:
        return bool((one == other).all())
    return one.shape == other.shape and one.tobytes() == other.tobytes()

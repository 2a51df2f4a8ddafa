"""Time a model on its golden rows, to begin with a plan that fits it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import BatchError
from modelkit.model import golden
from modelkit.model.model import Model, Outputs
from modelkit.serving.batching.isolation import Names, RunFeeds, row_count
from modelkit.serving.batching.policy import BatchPlan, Curve, make_plan, straighten
from modelkit.signature.signature import Feeds, Signature

BUDGET = 1.0  # seconds for everything
# One size is run for these seconds, or this often, whichever takes longer; and at most MOST_TIMES.
LEAST_SECONDS = 2e-3
LEAST_TIMES = 3
MOST_TIMES = 20
GAIN = 1.03  # a size counts as faster if a row takes this much less than in all sizes before it
DULL = 4  # sizes in a row that are not faster, after which no larger ones are tried

Prepare = Callable[[Feeds], tuple[Feeds, int]]
timer = time.perf_counter


def golden_feeds(model: Model) -> Feeds | None:
    """The golden rows of the package that the model came from, or None."""
    data = model.attachments.get(golden.GOLDEN)
    return None if data is None else golden.decode_golden(data, model.signature)[0]


def resized(feeds: Feeds, rows: int) -> Feeds:
    """A batch of this many rows, repeated from the top as often as needed."""
    at = np.arange(rows) % row_count(feeds)
    return {name: feed[at] for name, feed in feeds.items()}


def sizes_up_to(most: int, *, steps: bool = True) -> list[int]:
    """1, 2, 4, 5, 8, 9, 16, 17, ...: the powers of two, and one row more where steps matter."""
    sizes = [1 << power for power in range(most.bit_length())]
    if steps:
        sizes += [size + 1 for size in sizes if 4 <= size <= 32 and size < most]
    return sorted(sizes)


def first_plan(
    model: Model,
    run: RunFeeds,
    rows: Feeds | None,
    max_rows: int,
    plan: BatchPlan | str,
    prepare: Prepare | None,
) -> BatchPlan:
    """The plan to begin with: measured on the golden rows, unknown, or that of another Batcher."""
    if isinstance(plan, BatchPlan):
        if max(plan.cap, plan.piece) <= max_rows:
            return plan
        return make_plan(plan.curve, plan.slots, max_rows, bit_identical=plan.bit_identical)
    slots = model.runs_at_once
    if plan == "learn" or rows is None:
        return make_plan((), slots, max_rows)
    curve, identical = measure(run, model.signature, rows, max_rows, prepare)
    if prepare is not None:
        curve = straighten(curve)
    return make_plan(curve, slots, max_rows, bit_identical=identical)


def measure(
    run: RunFeeds, signature: Signature, rows: Feeds, max_rows: int, prepare: Prepare | None
) -> tuple[Curve, bool]:
    """What runs of 1, 2, 4, ... rows take at best, and whether a row has the same bits in all."""
    end = timer() + BUDGET
    outputs = signature.output_names
    if prepare is not None:
        rows, _ = prepare(rows)
    count = min(max_rows, row_count(rows))
    few = resized(rows, count)
    alone = [run(_row_at(few, place), outputs) for place in range(count)]
    points: list[tuple[int, float]] = []
    identical = True
    best = 0.0
    dull = 0
    # One row more is a step of kernels that work on 4 or 8 at a time; of a declared cost it is some
    # amount or other.
    for rows_of_run in sizes_up_to(max_rows, steps=prepare is None):
        feeds = resized(rows, rows_of_run)
        fastest, answers = _fastest(run, feeds, outputs, end)
        identical &= _are_same(answers, alone[:rows_of_run])
        size = rows_of_run if prepare is None else max(1, prepare(feeds)[1])
        points.append((size, fastest))
        speed = size / fastest
        dull = 0 if speed > GAIN * best else dull + 1
        best = max(best, speed)
        if dull == DULL or timer() + 2 * LEAST_TIMES * fastest > end:
            break
    return tuple(points), identical


def _fastest(run: RunFeeds, feeds: Feeds, outputs: Names, end: float) -> tuple[float, Outputs]:
    """The seconds of the fastest of several runs, until `end` at most, and the answers."""
    fastest = np.inf
    spent = 0.0
    times = 0
    while True:
        start = timer()
        answers = run(feeds, outputs)
        seconds = timer() - start
        fastest = min(fastest, seconds)
        spent += seconds
        times += 1
        enough = times >= LEAST_TIMES and spent >= LEAST_SECONDS
        if enough or times == MOST_TIMES or timer() + seconds > end:
            return fastest, answers


def _row_at(feeds: Feeds, place: int) -> Feeds:
    return {name: feed[place : place + 1] for name, feed in feeds.items()}


def _are_same(answers: Outputs, alone: list[Outputs]) -> bool:
    """Whether the first rows of a batch have the bits that they had alone."""
    for place, one in enumerate(alone):
        for name, array in one.items():
            if not _same_bits(answers[name][place : place + 1], array):
                return False
    return True


def check_stable(run: RunFeeds, signature: Signature, rows: Feeds | None, shape: int) -> None:
    """Raise BatchError unless a row gives the same bits at every place of a batch of this shape."""
    if rows is None:
        return
    outputs = signature.output_names
    alone = run(resized(rows, 1), outputs)
    others = resized(rows, shape)
    for place in range(shape):
        at = np.roll(np.arange(shape), place)
        batch = {name: feed[at] for name, feed in others.items()}
        answers = run(batch, outputs)
        for name in outputs:
            there = answers[name][place : place + 1]
            if not _same_bits(there, alone[name]):
                raise BatchError(
                    f"stable_shapes=True cannot be had: at place {place} of a batch of {shape} "
                    f"rows, {name!r} of the first golden row has other bits than at place 0",
                    output=name,
                    place=place,
                )


def _same_bits(one: Array, other: Array) -> bool:
    if one.dtype == object:
        return bool((one == other).all())
    return one.shape == other.shape and one.tobytes() == other.tobytes()

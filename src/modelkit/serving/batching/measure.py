"""Time a model on its golden rows, to begin with a plan that fits it."""

from __future__ import annotations

import time

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import BatchError
from modelkit.model import golden
from modelkit.model.model import PLAIN, Model, Outputs
from modelkit.serving.batching.checks import declares_cost, preparation_of
from modelkit.serving.batching.isolation import Names, Run, join_rows, row_count
from modelkit.serving.batching.policy import BatchPlan, Curve, make_plan, straighten
from modelkit.signature.signature import Feeds, Signature

BUDGET = 1.0  # seconds for everything
# One size is run for these seconds, or this often, whichever takes longer; and at most MOST_TIMES.
LEAST_SECONDS = 2e-3
LEAST_TIMES = 3
MOST_TIMES = 20
GAIN = 1.03  # a size counts as faster if a row takes this much less than in all sizes before it
DULL = 4  # sizes in a row that are not faster, after which no larger ones are tried

timer = time.perf_counter


def golden_feeds(model: Model) -> Feeds | None:
    """The golden rows of the package that the model came from, or None."""
    data = model.attachments.get(golden.GOLDEN)
    return None if data is None else golden.decode_golden(data, model.signature)[0]


def _rows_at(feeds: Feeds, places: Array) -> Feeds:
    """A batch of the rows at these places; after the last comes the first again."""
    at = places % row_count(feeds)
    return {name: feed[at] for name, feed in feeds.items()}


def sizes_up_to(most: int, *, steps: bool = True) -> list[int]:
    """1, 2, 4, 5, 8, 9, 16, 17, ...: the powers of two, and one row more where steps matter."""
    sizes = [1 << power for power in range(most.bit_length())]
    if steps:
        sizes += [size + 1 for size in sizes if 4 <= size <= 32 and size < most]
    return sorted(sizes)


def first_plan(
    model: Model, run: Run, rows: Feeds | None, max_rows: int, plan: BatchPlan | str
) -> BatchPlan:
    """The plan to begin with: measured on the golden rows, unknown, or taken from another Batcher."""
    if isinstance(plan, BatchPlan):
        if max(plan.cap, plan.piece) <= max_rows:
            return plan
        return make_plan(plan.curve, plan.slots, max_rows, bit_identical=plan.bit_identical)
    slots = model.runs_at_once
    if plan == "learn" or rows is None:
        return make_plan((), slots, max_rows)
    curve, identical = measure(model, run, rows, max_rows)
    if declares_cost(model):
        curve = straighten(curve)
    return make_plan(curve, slots, max_rows, bit_identical=identical)


def measure(model: Model, run: Run, rows: Feeds, max_rows: int) -> tuple[Curve, bool]:
    """What runs of 1, 2, 4, ... rows take at best, and whether a row has the same bits in all."""
    end = timer() + BUDGET
    outputs = model.signature.output_names
    prepared = preparation_of(model)
    rows, _ = prepared(rows)
    each = np.arange(min(max_rows, row_count(rows)))[:, np.newaxis]
    alone = join_rows([run(_rows_at(rows, place), outputs, PLAIN) for place in each])
    points: list[tuple[int, float]] = []
    identical = True
    best = 0.0
    dull = 0
    # One row more is a step of kernels that work on 4 or 8 at a time; of a declared cost it is some
    # amount or other.
    for count in sizes_up_to(max_rows, steps=not declares_cost(model)):
        feeds = _rows_at(rows, np.arange(count))
        fastest, answers = _fastest(run, feeds, outputs, end)
        identical &= not _other_bits(answers, alone)
        _, size = prepared(feeds)
        points.append((size, fastest))
        speed = size / fastest
        dull = 0 if speed > GAIN * best else dull + 1
        best = max(best, speed)
        if dull == DULL or timer() + 2 * LEAST_TIMES * fastest > end:
            break
    return tuple(points), identical


def _fastest(run: Run, feeds: Feeds, outputs: Names, end: float) -> tuple[float, Outputs]:
    """The seconds of the fastest of several runs, until `end` at most, and the answers."""
    times: list[float] = []
    while True:
        start = timer()
        answers = run(feeds, outputs, PLAIN)
        times.append(timer() - start)
        enough = len(times) >= LEAST_TIMES and sum(times) >= LEAST_SECONDS
        if enough or len(times) == MOST_TIMES or timer() + times[-1] > end:
            return min(times), answers


def check_stable(run: Run, signature: Signature, rows: Feeds | None, shape: int) -> None:
    """Raise BatchError unless a row gives the same bits at every place of a batch of this shape."""
    if rows is None:
        return
    outputs = signature.output_names
    alone = run(_rows_at(rows, np.arange(1)), outputs, PLAIN)
    for place in range(shape):
        batch = _rows_at(rows, np.roll(np.arange(shape), place))
        name = _other_bits(run(batch, outputs, PLAIN), alone, place)
        if name:
            raise BatchError(
                f"stable_shapes=True cannot be had: at place {place} of a batch of {shape} "
                f"rows, {name!r} of the first golden row has other bits than at place 0",
                output=name,
                place=place,
            )


def _other_bits(answers: Outputs, alone: Outputs, place: int = 0) -> str | None:
    """An output whose rows from `place` on have other bits than alone, as far as both go."""
    for name, array in alone.items():
        there = answers[name][place : place + len(array)]
        if _bits(there) != _bits(array[: len(there)]):
            return name
    return None


def _bits(array: Array) -> object:
    return array.tolist() if array.dtype == object else (array.shape, array.tobytes())

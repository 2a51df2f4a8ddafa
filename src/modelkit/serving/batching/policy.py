"""How to batch, decided from what one run costs. No clock, no thread, no I/O.

A curve is what runs were measured to take: ((size, seconds), ...), sizes ascending. Size is rows,
or the cost that the model declares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from modelkit._internal import fields

Curve = tuple[tuple[int, float], ...]

# Seconds that pass between the end of a batch and a waiting thread at work again, per thread: a
# wake-up by the kernel and a turn at the interpreter lock. Measured 9 to 15 microseconds on two
# cores.
HANDOFF = 12e-6
# Seconds from an event loop to a thread and back: two wake-ups of a sleeping core, and what each
# call adds.
HOP = 2.5e-4
HOP_CALL = 4e-6
# An event loop whose last tick had a single call runs calls one by one for these seconds, or for
# this number of calls, before it looks again whether there are others to run with them.
LONE = 2e-4
LONE_CALLS = 31
# An event loop runs by itself what takes no longer than this; then others of its tasks get their
# turn.
LOOP = 2e-3
# A large call is run in pieces of about these seconds, between which others get their turn.
PIECE = 5e-3
# The batch need not grow further once it gives this part of the best throughput.
KNEE = 0.95
# This part is good enough for a batch beside one that runs, and on an event loop, where large
# batches push the loop's own data out of the cache.
GOOD_ENOUGH = 0.9
# A call of a thread that takes longer is worth the order of a queue, whatever the model.
LONGEST_AT_ONCE = 5e-4
EVERYTHING = 1 << 62
HARDLY = 1.25

DIRECT = "direct"
PARALLEL = "parallel direct"
BATCH = "batch"


@dataclass(frozen=True)
class BatchPlan:
    """What a Batcher does with a model, and why.

    Args:
        curve: what runs took: ((size, seconds), ...); size is rows, or the cost that the model
            declares.
        mode: "parallel direct": a call from a thread runs at once, for it is cheaper than waiting
            for company; "direct": calls run one by one on each slot, since larger batches are not
            faster a row; "batch": calls that find every slot taken are gathered.
        cap: the largest batch, but for a trial now and then.
        enough: the size of a batch that is run beside others, rather than waiting for their end.
        piece: the size of the largest piece of a call that is run at once.
        slots: the number of runs at a time.
        loop_rows: the most rows of a tick that an event loop runs by itself; larger ticks go to
            threads. 0 for none.
        loop_batch: the largest batch of an event loop; between two its other tasks have their turn.
        lone: the calls that an event loop runs one by one while it seems to have one caller.
        bit_identical: whether a row gave the same bits in every batch size that was tried; None if
            no size was.
    """

    curve: Curve
    mode: str
    cap: int
    enough: int
    piece: int
    slots: int
    loop_rows: int = 0
    loop_batch: int = 0
    lone: int = 0
    bit_identical: bool | None = None

    __repr__ = fields.brief

    @property
    def why(self) -> str:
        """The plan in a sentence."""
        if not self.curve:
            return (
                "nothing was measured yet: batches are as large as they come, until runs have been "
                "timed"
            )
        first = self.curve[0][1]
        size, seconds = max(self.curve, key=lambda point: point[0] / point[1])
        alone = f"{first * 1e6:,.0f} us alone"
        together = f"{seconds / size * 1e6:,.2f} us each in a batch of {size:,}"
        speed = f"a run takes {alone} and {together}"
        return f"{speed}; {_REASONS[self.mode]}"

    def __str__(self) -> str:
        bits = _BITS[self.bit_identical]
        return (
            f"{self.mode}: batches of at most {self.cap:,}, {self.slots} at a time, "
            f"{self._on_loops}; across batch sizes {bits}; {self.why}"
        )

    @property
    def _on_loops(self) -> str:
        if not self.loop_rows:
            return "nothing on an event loop itself"
        most = "everything" if self.loop_rows == EVERYTHING else f"up to {self.loop_rows:,}"
        return f"{most} on an event loop itself, {self.loop_batch:,} at a time"


_BITS = {None: "bits not compared", True: "bit-identical", False: "equal within tolerance"}
_REASONS = {
    PARALLEL: (
        "so a thread is done before it could be woken from a queue, and only event loops gather "
        "batches"
    ),
    DIRECT: "so a larger batch would only make others wait",
    BATCH: "so calls that must wait are gathered",
}


def seconds_of(curve: Curve, size: int) -> float:
    """How many seconds a run of a size should take.

    Between the measured points on a straight line, and in proportion beyond the last; none without
    measurements.
    """
    if not curve:
        return 0.0
    low, before = curve[0]
    if size <= low:
        return before
    for high, after in curve[1:]:
        if size <= high:
            return before + (after - before) * (size - low) / (high - low)
        low = high
        before = after
    return before * size / low


def make_plan(
    curve: Curve, slots: int, max_rows: int, *, bit_identical: bool | None = None
) -> BatchPlan:
    """Choose how to batch a model that takes what `curve` says, with `slots` runs at a time."""
    if not curve:
        return BatchPlan(
            curve=(),
            mode=BATCH,
            cap=max_rows,
            enough=1,
            piece=max_rows,
            slots=slots,
            bit_identical=bit_identical,
        )
    best = max(size / seconds for size, seconds in curve)
    cap = min(max_rows, _first_size(curve, KNEE * best))
    enough = min(max_rows, _first_size(curve, GOOD_ENOUGH * best))
    if _grows(curve, cap):
        cap = min(max_rows, 2 * cap)
    mode = _mode_of(curve, slots, cap)
    batches = max(1, int(PIECE / seconds_of(curve, cap)))
    piece = max(cap, min(max_rows, cap * batches))
    loop_rows, loop_batch = _on_loop(curve, slots, cap, enough)
    lone = 0
    if loop_batch:
        calls = int(LONE / seconds_of(curve, 1))
        lone = min(LONE_CALLS, max(1, calls))
    return BatchPlan(
        curve=curve,
        mode=mode,
        cap=cap,
        enough=enough,
        piece=piece,
        slots=slots,
        loop_rows=loop_rows,
        loop_batch=loop_batch,
        lone=lone,
        bit_identical=bit_identical,
    )


def _first_size(curve: Curve, speed: float) -> int:
    """The smallest measured size that runs at least this many rows a second."""
    return next(size for size, seconds in curve if size / seconds >= speed)


def _mode_of(curve: Curve, slots: int, cap: int) -> str:
    """What threads do.

    By themselves they serve slots / alone calls a second; gathered, 1 / (HANDOFF + row / slots).
    """
    alone = seconds_of(curve, 1)
    row = seconds_of(curve, cap) / cap
    if alone <= min(LONGEST_AT_ONCE, slots * HANDOFF + row):
        return PARALLEL
    return BATCH if cap > 1 else DIRECT


def _grows(curve: Curve, cap: int) -> bool:
    """Whether batches above those tried may be better: the largest was, by more than chance."""
    last, seconds = curve[-1]
    if cap != last or len(curve) == 1:
        return cap == last
    before, its = curve[-2]
    return last / seconds > 1.1 * before / its


def _on_loop(curve: Curve, slots: int, cap: int, enough: int) -> tuple[int, int]:
    """The rows that an event loop had better run by itself, and its largest batch."""
    smaller = [size for size, _ in curve if size < cap]
    sizes = sorted({1, cap, *smaller})
    batch = 0
    for size in sizes:
        if size <= enough and seconds_of(curve, size) <= LOOP:
            batch = size
    threads = max(2, slots)  # one more than the loop's own, if only to keep the loop free
    if batch:
        saved = seconds_of(curve, batch) / batch * (1 - 1 / threads)
        if saved <= HOP_CALL:
            return EVERYTHING, batch
    fits = 0
    for size in sizes:
        shared = HOP + seconds_of(curve, -(-size // slots))
        if seconds_of(curve, size) > min(LOOP, shared):
            break
        fits = size
    return fits, fits


def off_loops(plan: BatchPlan) -> BatchPlan:
    """The plan, but an event loop leaves everything to threads."""
    return replace(plan, loop_rows=0, loop_batch=0, lone=0)


def share(waiting: int, running: int, plan: BatchPlan) -> int:
    """The size of what a free slot should take of what waits.

    Its equal part of all the work there is, and no more than fits: otherwise the first slot takes
    everything, and the others run the crumbs that come in meanwhile. But all of it where that takes
    hardly longer than the part.
    """
    curve = plan.curve
    equal = -(-(waiting + running) // plan.slots)
    part = max(1, min(plan.cap, equal))
    whole = max(1, min(plan.cap, waiting))
    if not curve:
        return part
    if part < whole:
        hardly_longer = HARDLY * seconds_of(curve, part)
        if seconds_of(curve, whole) <= hardly_longer:
            part = whole
    return _even(curve, min(part, whole))


def _even(curve: Curve, size: int) -> int:
    """The size, or a smaller one that was measured to be much better.

    Kernels work on 4 or 8 rows at a time.
    """
    speed = size / seconds_of(curve, size)
    smaller = [(at / seconds, at) for at, seconds in curve if at < size]
    fastest, at = max(smaller, default=(0.0, size))
    return at if fastest > HARDLY * speed else size


def opens(waiting: int, running: int, active: int, usual: float, plan: BatchPlan) -> bool:
    """Whether a batch of what waits should be run now, beside `active` others.

    These are of size `running` in all.

    `usual` is the size of what waits and runs, in the mean.

    On a model whose rows are cheaper in company, small batches side by side take the processor from
    each other and from the callers that would make the next one larger; so a batch beside another
    must be as large as that one and as its usual share, or large enough. The end of a run is always
    followed by the next one, so nothing waits for a timer.
    """
    if active == 0:
        return True
    if active >= plan.slots:
        return False
    as_large = -(-running // active)
    usual_share = int(usual / plan.slots)
    return waiting >= min(plan.enough, max(as_large, usual_share))


def learn_curve(curve: Curve, size: int, fastest: float) -> Curve:
    """The curve after several runs of about a size, of which the fastest took these seconds.

    A run is slower than the model whenever something else has the processor or the interpreter
    lock, and never faster. So a fast run bounds the others: a smaller batch takes no longer, and a
    larger one no longer than several of these.
    """
    if fastest < seconds_of(curve, size) / 2:
        return ((size, fastest),)  # the curve is that of another machine, or of a busy one
    if all(not near / 2 < size < near * 2 for near, _ in curve):
        curve = tuple(sorted((*curve, (size, fastest))))
    at, seconds = min(curve, key=lambda point: abs(point[0] - size))
    seconds *= fastest / max(seconds_of(curve, size), 1e-9)
    return tuple((near, _bounded(near, its, at, seconds)) for near, its in curve)


def _bounded(size: int, before: float, at: int, seconds: float) -> float:
    """What a run of a size takes, which took `before`, now that one of `at` takes `seconds`."""
    if size == at:
        return seconds
    if size < at:
        return min(before, seconds)
    return min(before, seconds * -(-size // at))


def straighten(curve: Curve) -> Curve:
    """A curve at the same sizes on the straight line with the least squares of relative errors.

    For a declared cost, which is meant to be in proportion to what a run takes beyond its start;
    one point says little.
    """
    if len({size for size, _ in curve}) < 2:
        return curve
    sizes, seconds = np.array(curve).T
    each, start = np.polyfit(sizes, seconds, 1, w=1 / seconds).tolist()
    if start < 0:
        start = 0.0
        rates = sizes / seconds
        each = float(rates.sum() / (rates @ rates))
    if each <= 0:
        return curve
    return tuple((size, start + each * size) for size, _ in curve)


def stable_size(plan: BatchPlan, max_rows: int) -> tuple[BatchPlan, int]:
    """The plan for batches of one shape, and that shape: it should cost a lone call little."""
    curve = plan.curve
    size = min(max_rows, 32)
    if curve:
        dearest = 2 * curve[0][1]
        fits = [at for at, seconds in curve if seconds <= dearest]
        size = min(max_rows, max(fits))
        if size > 1:
            always = seconds_of(curve, size)
            curve = ((1, always), (size, always))
    return make_plan(curve, plan.slots, size, bit_identical=True), size

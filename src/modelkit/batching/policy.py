"""How to batch, decided from what one run costs. No clock, no thread, no I/O.

A curve is what runs were measured to take: ((size, seconds), ...), sizes ascending. Size is rows,
or the cost that the model declares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Curve = tuple[tuple[int, float], ...]

# Seconds that pass between the end of a batch and a waiting thread at work again, per thread: a
# wake-up by the kernel and a turn at the interpreter lock. Measured 9 to 15 microseconds on two
# cores.
HANDOFF = 12e-6
# Seconds from an event loop to a thread and back: two wake-ups of a sleeping core, and so much for
# each call.
HOP, HOP_CALL = 2.5e-4, 4e-6
# An event loop whose last tick had a single call runs calls one by one, so many of them or for so
# long, before it looks again whether there are others to run with them.
LONE, LONE_CALLS = 2e-4, 31
# An event loop runs by itself what takes no longer than this; then others of its tasks get their
# turn.
LOOP = 2e-3
# A large call is run in pieces of about so many seconds, between which others get their turn.
PIECE = 5e-3
# The batch need not grow further once it gives this part of the best throughput; and so much is
# good enough for a batch beside one that runs, and on an event loop, where large batches push the
# loop's own data out of the cache.
KNEE, ENOUGH = 0.95, 0.9
# A call of a thread that takes longer is worth the order of a queue, whatever the model.
LONGEST_AT_ONCE = 5e-4
EVERYTHING = 1 << 62
HARDLY = 1.25

DIRECT = "direct"
PARALLEL = "parallel direct"
BATCH = "batch"

# The ways a call takes, see `way_of`.
AT_ONCE = "at once"
IN_SLOT = "in a slot"
ON_LOOP = "on the loop"
QUEUED = "queued"
IN_PIECES = "in pieces"


@dataclass(frozen=True)
class Plan:
    """What a Batcher does with a model, and why.

    Args:
        curve: what runs took: ((size, seconds), ...); size is rows, or the cost that the model
            declares.
        mode: "parallel direct": a call from a thread runs at once, for it is cheaper than waiting
            for company; "direct": calls run one by one on each slot, since larger batches are no
            faster a row; "batch": calls that find every slot taken are gathered.
        cap: the largest batch, but for a trial now and then.
        enough: a batch that is run beside others, rather than waiting for one of them to end.
        slots: how many runs go on at a time.
        loop_rows: how much an event loop runs by itself; more goes to threads. 0 for nothing.
        loop_batch: its largest batch; between these its other tasks have their turns.
        lone: calls that an event loop runs one by one while it seems to have one caller.
        piece: the most of one large call that is run at once.
        bit_identical: whether a row gave the same bits in every batch size that was tried; None if
            none was.
    """

    curve: Curve
    mode: str
    cap: int
    enough: int
    slots: int
    loop_rows: int
    loop_batch: int
    lone: int
    piece: int
    bit_identical: bool | None = None

    @property
    def why(self) -> str:
        """The plan in a sentence."""
        if not self.curve:
            return "nothing was measured yet: batches are as large as they come, until runs have been timed"
        first, (size, seconds) = (
            self.curve[0][1],
            max(self.curve, key=lambda point: point[0] / point[1]),
        )
        alone = f"{first * 1e6:,.0f} us alone"
        together = f"{seconds / size * 1e6:,.2f} us each in a batch of {size:,}"
        speed = f"a run takes {alone} and {together}"
        return f"{speed}; {_REASONS[self.mode]}"

    def __str__(self) -> str:
        bits = {None: "bits not compared", True: "bit-identical", False: "equal within tolerance"}[
            self.bit_identical
        ]
        return (
            f"{self.mode}: batches of at most {self.cap:,}, {self.slots} at a time, "
            f"{self._on_loops}; across batch "
            f"sizes {bits}; {self.why}"
        )

    @property
    def _on_loops(self) -> str:
        if not self.loop_rows:
            return "nothing on an event loop itself"
        most = "everything" if self.loop_rows == EVERYTHING else f"up to {self.loop_rows:,}"
        return f"{most} on an event loop itself, {self.loop_batch:,} at a time"


_REASONS = {
    PARALLEL: "so a thread is done before it could be woken from a queue, and only event loops gather batches",
    DIRECT: "so a larger batch would only make others wait",
    BATCH: "so calls that must wait are gathered",
}


def seconds_of(curve: Curve, size: int) -> float:
    """How long a run should take: between the measured points on a straight line, in proportion beyond the last."""
    low, before = curve[0]
    if size <= low:
        return before
    for high, after in curve[1:]:
        if size <= high:
            return before + (after - before) * (size - low) / (high - low)
        low, before = high, after
    return before * size / low


def make_plan(
    curve: Curve, slots: int, max_rows: int, *, bit_identical: bool | None = None
) -> Plan:
    """Choose how to batch a model that takes as long as `curve` says, on `slots` runs at a time."""
    if not curve:
        return Plan((), BATCH, max_rows, 1, slots, 0, 0, 0, max_rows, bit_identical)
    best = max(size / seconds for size, seconds in curve)
    cap, enough = (
        min(max_rows, next(size for size, seconds in curve if size / seconds >= part * best))
        for part in (KNEE, ENOUGH)
    )
    if _grows(curve, cap):
        cap = min(max_rows, 2 * cap)
    alone, row = seconds_of(curve, 1), seconds_of(curve, cap) / cap
    # By themselves threads serve slots / alone calls a second; gathered, 1 / (HANDOFF + row /
    # slots).
    at_once = alone <= min(LONGEST_AT_ONCE, slots * HANDOFF + row)
    mode = PARALLEL if at_once else BATCH if cap > 1 else DIRECT
    piece = max(cap, min(max_rows, cap * max(1, int(PIECE / seconds_of(curve, cap)))))
    loop_rows, loop_batch = _on_loop(curve, slots, cap, enough)
    lone = min(LONE_CALLS, max(1, int(LONE / alone))) if loop_batch else 0
    return Plan(curve, mode, cap, enough, slots, loop_rows, loop_batch, lone, piece, bit_identical)


def _grows(curve: Curve, cap: int) -> bool:
    """Whether larger batches than were tried may be better: the largest was, by more than chance."""
    if cap != curve[-1][0] or len(curve) == 1:
        return cap == curve[-1][0]
    (before, its), (last, seconds) = curve[-2:]
    return last / seconds > 1.1 * before / its


def _on_loop(curve: Curve, slots: int, cap: int, enough: int) -> tuple[int, int]:
    """How much an event loop had better run by itself than share out over threads, and how much of it at a time."""
    sizes = sorted({1, cap, *(size for size, _ in curve if size < cap)})
    batch = max(
        (size for size in sizes if size <= enough and seconds_of(curve, size) <= LOOP), default=0
    )
    threads = max(2, slots)  # one more than the loop's own, if only to keep the loop free
    if batch and seconds_of(curve, batch) / batch * (1 - 1 / threads) <= HOP_CALL:
        return EVERYTHING, batch
    fits = 0
    for size in sizes:
        if seconds_of(curve, size) > min(LOOP, HOP + seconds_of(curve, -(-size // slots))):
            break
        fits = size
    return fits, fits


def way_of(plan: Plan, size: int, *, on_loop: bool) -> str:
    """Which way a call of `size` takes, from a thread or from an event loop.

    See the table in `modelkit.batching.batcher`.
    """
    if on_loop:
        if size <= plan.loop_batch:
            return ON_LOOP
    elif plan.mode == PARALLEL:
        return AT_ONCE
    if size > plan.piece:
        return IN_PIECES
    return QUEUED if on_loop else IN_SLOT


def off_loops(plan: Plan) -> Plan:
    """The plan, but an event loop leaves everything to threads."""
    return replace(plan, loop_rows=0, loop_batch=0, lone=0)


def share(waiting: int, running: int, plan: Plan) -> int:
    """How much of what waits a free slot should take.

    Its equal part of all the work there is, and no more than fits: otherwise the first slot takes
    everything, and the others run the crumbs that come in meanwhile. But all of it where that takes
    hardly longer than the part.
    """
    part = max(1, min(plan.cap, -(-(waiting + running) // plan.slots)))
    whole = max(1, min(plan.cap, waiting))
    if not plan.curve:
        return part
    if part < whole and seconds_of(plan.curve, whole) <= HARDLY * seconds_of(plan.curve, part):
        part = whole
    return _even(plan.curve, min(part, whole))


def _even(curve: Curve, size: int) -> int:
    """The size, or a smaller one that was measured to be much better: kernels work on 4 or 8 rows at a time."""
    speed = size / seconds_of(curve, size)
    smaller = [(at / seconds, at) for at, seconds in curve if at < size]
    fastest, at = max(smaller, default=(0.0, size))
    return at if fastest > HARDLY * speed else size


def opens(waiting: int, running: int, active: int, usual: float, plan: Plan) -> bool:
    """Whether a batch of what waits should be run now, beside `active` others of size `running` in all.

    `usual` is the size of what waits and runs, in the mean.

    On a model whose rows are cheaper in company, small batches side by side take the processor from
    each other and from the callers that would make the next one larger; so a batch beside another
    must be as large as that one and as its usual share, or large enough. The end of a run is always
    followed by the next one, so nothing waits for a timer.
    """
    if active == 0:
        return True
    return active < plan.slots and waiting >= min(
        plan.enough, max(-(-running // active), int(usual / plan.slots))
    )


def learn(curve: Curve, size: int, fastest: float) -> Curve:
    """The curve after several runs of about that size, of which the fastest took so long.

    A run is slower than the model whenever something else has the processor or the interpreter
    lock, and never faster. So a fast run bounds the others: a smaller batch takes no longer, and a
    larger one no longer than several of these.
    """
    if (
        curve and fastest < seconds_of(curve, size) / 2
    ):  # the curve is that of another machine, or of a busy one
        return ((size, fastest),)
    if all(not near / 2 < size < near * 2 for near, _ in curve):
        curve = tuple(sorted((*curve, (size, fastest))))
    at, seconds = min(curve, key=lambda point: abs(point[0] - size))
    seconds *= fastest / max(seconds_of(curve, size), 1e-9)
    return tuple(
        (
            near,
            seconds
            if near == at
            else min(its, seconds)
            if near < at
            else min(its, seconds * -(-near // at)),
        )
        for near, its in curve
    )


def straighten(curve: Curve) -> Curve:
    """A curve at the same sizes on the straight line that misses its points by the least squares of relative errors.

    For a declared cost, which is meant to be in proportion to what a run takes beyond its start;
    one point says little.
    """
    if len({size for size, _ in curve}) < 2:
        return curve
    uu, uv, vv = (sum(size**power / seconds**2 for size, seconds in curve) for power in (0, 1, 2))
    u, v = (sum(size**power / seconds for size, seconds in curve) for power in (0, 1))
    start, each = (u * vv - v * uv) / (uu * vv - uv**2), (v * uu - u * uv) / (uu * vv - uv**2)
    if start < 0:
        start, each = 0.0, v / vv
    return curve if each <= 0 else tuple((size, start + each * size) for size, _ in curve)


def stable_size(plan: Plan, max_rows: int) -> tuple[Plan, int]:
    """The one shape in which every batch is run, and the plan for that: it should cost a lone call little."""
    fits = [size for size, seconds in plan.curve if seconds <= 2 * plan.curve[0][1]]
    size = min(max_rows, max(fits, default=32))
    seconds = seconds_of(plan.curve, size) if plan.curve else 0.0
    curve = ((1, seconds), (size, seconds)) if size > 1 and seconds else plan.curve
    return make_plan(curve, plan.slots, size, bit_identical=True), size

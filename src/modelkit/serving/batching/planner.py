"""The plan of one Batcher, made again as its runs are timed, under the lock of the Scheduler."""

from __future__ import annotations

from modelkit.serving.batching.policy import (
    PARALLEL,
    BatchPlan,
    Curve,
    learn_curve,
    make_plan,
    off_loops,
    seconds_of,
    share,
    straighten,
)

SLOW = 2e-4  # seconds of a run beside which learning from it is cheap
# Of other runs one in eight is learned from, those whose number ends in three zero bits.
OBSERVE = 7
# One batch in 64, those whose number ends in six ones, may be twice as large as is thought best:
# what larger ones take was perhaps learned in a bad moment, and only a run can tell.
EXPLORE = 63
CAUTION = 4.0  # times as long as the curve says is the most that a run is expected to take
# Runs of about one size after which the fastest of them is believed: of a new size, and of a known.
LEARN = 4
RELEARN = 32


class Planner:
    """Makes `plan` again from what runs take; no batch is larger than `max_rows`.

    The curve says what runs take at best; `caution` is how many times as long nearly all of them
    take. Without `loop`, an event loop runs nothing by itself.

    `declared` is whether sizes are costs that the model declares. What these take lies on a
    straight line, whose form is known once it was measured: a text encoder borrows idle threads, so
    that later runs of one size take half as long as others, by what else runs.
    """

    def __init__(
        self, plan: BatchPlan, max_rows: int, *, declared: bool = False, loop: bool = True
    ) -> None:
        self.max_rows = max_rows
        self._loop = loop
        self._closed = False
        self._follow(plan)
        self.caution = 1.0
        self._slowness = 1.0
        self._spread = 0.0
        self._declared = declared
        self._start = plan.curve
        self._timed = 0
        # By the bits of the size: the fastest run, its size, and how many there were.
        self._seen: dict[int, tuple[float, int, int]] = {}

    def time(self, size: int, seconds: float) -> None:
        """Learn from one run in eight, or each where little is known."""
        self._timed += 1
        cheap = seconds > SLOW
        little_known = len(self.plan.curve) < LEARN
        if cheap or little_known or self._timed & OBSERVE == 0:
            self.observe(size, seconds)

    def observe(self, size: int, seconds: float) -> None:
        """Learn from the fastest of several runs of about one size."""
        bits = size.bit_length()
        curve = self.plan.curve
        fastest, of_size, count = self._seen.get(bits, (seconds, size, 0))
        if seconds < fastest:
            fastest = seconds
            of_size = size
        self._seen[bits] = fastest, of_size, count + 1
        known = any(at.bit_length() == bits for at, _ in curve)
        # Nothing makes a run faster than the model is, so a faster one is believed at once.
        faster = known and seconds < 0.9 * seconds_of(curve, size)
        enough = count + 1 >= (RELEARN if known else LEARN)
        if curve and not faster and not enough:
            return
        del self._seen[bits]
        self._replan(self._learned(of_size, fastest), self.plan.slots)

    def _learned(self, size: int, fastest: float) -> Curve:
        """The curve after the fastest of several runs of a size."""
        if self._declared and self._start:
            # One size tells how fast this machine is, for all.
            level = fastest / seconds_of(self._start, size)
            return tuple((at, its * level) for at, its in self._start)
        curve = learn_curve(self.plan.curve, size, fastest)
        return straighten(curve) if self._declared else curve

    def compare(self, size: int, seconds: float) -> None:
        """Learn from a run in a queue how much longer than the curve says runs take."""
        curve = self.plan.curve
        if not curve:
            return
        error = seconds / seconds_of(curve, size) - self._slowness
        self._slowness += error / 8
        self._spread += (abs(error) - self._spread) / 4
        longest = self._slowness + 3 * self._spread
        self.caution = min(CAUTION, max(1.0, longest))

    def room(self, work: int, running: int, batches: int) -> int:
        """How large the next batch may be, after so many."""
        room = share(work, running, self.plan)
        return min(2 * room, self.max_rows) if batches & EXPLORE == EXPLORE else room

    def longest(self, waiting: int, running: int) -> float:
        """The seconds in which the next batch is surely done."""
        return self.caution * seconds_of(self.plan.curve, share(waiting, running, self.plan))

    def shrink(self, size: int) -> None:
        """A run of that size was too large for memory."""
        self.max_rows = max(1, min(self.max_rows, size // 2))
        self._replan(self.plan.curve, self.plan.slots)

    def use_slots(self, slots: int) -> None:
        """The model does so many runs at a time from now on."""
        self._replan(self.plan.curve, slots)

    def close(self) -> None:
        """Let no thread run a call at once any longer."""
        self._closed = True
        self._follow(self.plan)

    def _replan(self, curve: Curve, slots: int) -> None:
        identical = self.plan.bit_identical
        self._follow(make_plan(curve, slots, self.max_rows, bit_identical=identical))

    def _follow(self, plan: BatchPlan) -> None:
        self.plan = plan if self._loop else off_loops(plan)
        self.parallel = plan.mode == PARALLEL and not self._closed  # threads run calls at once

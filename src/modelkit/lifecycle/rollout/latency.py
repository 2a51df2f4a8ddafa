"""Which calls are slow: what is measured in one tick says it of the calls of the next ones.

Where CPUs are not free, a run that takes k times as long is interrupted k times as often, and an
interruption takes what the others do with the CPU, however short the run was. The arm with fewer
calls is colder, so that its runs take longer, by less than what matters; its calls at the end of
the distribution are then k times as many, and longer by more than what matters. So where that
explains long calls of the candidate, one in k of the long calls of either arm counts for a rollback.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf
from statistics import median
from typing import NamedTuple, final

from modelkit.lifecycle.rollout.counts import ByArm
from modelkit.lifecycle.rollout.guards import (
    BLAMED_KINDS,
    LONGER_KINDS,
    QUANTILES,
    SLOW_EVENTS,
    SLOW_KINDS,
    Guard,
)

WARM_CALLS = 50  # of each arm, which may be slow because it is new
LEAST_TIMES = 100  # of the champion, for quantiles
MOST_TIMES = 2_000
MOST_RATIOS = 500  # of the candidate's calls, whose median is known to about 3 % from so many
A_SECOND = 1_000_000_000  # in nanoseconds

Times = tuple[deque[int], deque[int]]  # nanoseconds of calls of the champion, and of the candidate


def no_times() -> Times:
    """Before any call was timed."""
    return deque(maxlen=MOST_TIMES), deque(maxlen=MOST_TIMES)


class Threshold(NamedTuple):
    """A time from which on calls are slow.

    Attributes:
        nanoseconds: the time.
        slow: the kind of event that a slow call is.
        longer: of a call of the candidate that is slow by more than what does not matter.
        blamed: of a call that counts for a rollback.
    """

    nanoseconds: int
    slow: str
    longer: str
    blamed: str


@final
class Latency:
    """Which calls of a rollout are slow, from one stage to the next.

    Args:
        guards: what is watched.
        draw: gives numbers from 0 to 1, which choose the long calls that count.

    Attributes:
        least: the nanoseconds from which on a call is slow.
        part: the share of long calls that count for a rollback; 1 where nothing explains them.
    """

    def __init__(self, guards: Iterable[Guard], draw: Callable[[], float]) -> None:
        self.least = inf
        self.part = 0.0
        self._guard = next((guard for guard in guards if guard.name == SLOW_EVENTS), None)
        self._draw = draw
        self._longer = int(self._guard.longer * A_SECOND) if self._guard else 0
        self._thresholds: tuple[Threshold, ...] = ()  # the least comes first
        self._ratios: deque[float] = deque(maxlen=MOST_RATIOS)
        self._colder = 0.0  # nanoseconds by which a usual call of the candidate is longer
        self._calls = ByArm()

    def kinds(self, took: int, *, in_candidate: bool) -> Iterator[str]:
        """The kinds of events that a slow call is."""
        drawn = self._draw() < self.part
        less = took - self._longer
        for threshold in self._thresholds:
            if took <= threshold.nanoseconds:
                return
            yield threshold.slow
            if in_candidate:
                if less <= threshold.nanoseconds:
                    return  # nor is it above the next
                yield threshold.longer
            if drawn or (not in_candidate and less + self._colder > threshold.nanoseconds):
                yield threshold.blamed

    def learn(self, calls: ByArm, times: Times) -> None:
        """Say from when on calls of the next tick are slow, by the calls of this one and their times."""
        self._calls += calls
        if self._guard is None or min(self._calls.candidate, self._calls.champion) < WARM_CALLS:
            return
        champion, candidate = times
        if self._guard.above is not None:
            self._set((Threshold(int(self._guard.above * A_SECOND), SLOW_EVENTS, "", ""),))
        elif len(champion) >= LEAST_TIMES:
            ordered = sorted(champion)
            last = len(ordered) - 1
            limits = [ordered[last * quantile // 100] for quantile in QUANTILES]
            kinds = zip(limits, SLOW_KINDS, LONGER_KINDS, BLAMED_KINDS, strict=True)
            self._set(tuple(Threshold(*each) for each in kinds))
            self.compare(list(candidate), limits[0])
            champion.clear()
            candidate.clear()

    def _set(self, thresholds: tuple[Threshold, ...]) -> None:
        self._thresholds = thresholds
        self.least = thresholds[0].nanoseconds

    def compare(self, candidate: list[int], usual: int) -> None:
        """Compare calls of the candidate with the champion's median meanwhile.

        All its long calls count if it is quicker, or longer by what matters, and one in k where a
        usual call takes k times as long; none before a call of it is known.
        """
        self._ratios.extend(each / max(usual, 1) for each in candidate)
        if not self._ratios:
            return
        ratio = median(self._ratios)
        explained = ratio > 1 and (ratio - 1) * usual < self._longer
        self.part = 1 / ratio if explained else 1.0
        self._colder = usual / self.part - usual

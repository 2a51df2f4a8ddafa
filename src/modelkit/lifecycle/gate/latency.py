"""How long two models take for one row, measured in turns; the clock is passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.model.model import Model
from modelkit.signature.signature import Feeds

TURNS = 40
CALLS = 20  # of a turn
FEWEST_CALLS = 3
LONGEST = 6.0  # seconds that measuring should take
WARM_CALLS = 5
Clock = Callable[[], float]


class TurnTimes(NamedTuple):
    """Seconds of each call in each turn, (turns, calls), of both models."""

    candidate: Array
    champion: Array


def timed_turns(
    candidate: tuple[Model, Feeds], champion: tuple[Model, Feeds], clock: Clock
) -> TurnTimes:
    """Call two models with one row, a turn the one, a turn the other.

    What else the machine does, and how warm it is, then meets both: the logarithm of the ratio of
    two medians has a standard deviation of .003 in turns, and of .025 one after the other.

    Args:
        candidate: a model and rows that it takes.
        champion: the other and its rows.
        clock: gives seconds, such as `time.perf_counter`.
    """
    sides = (candidate, champion)
    slowest = max(float(np.median(_turn(*side, clock, WARM_CALLS, 0))) for side in sides)
    fitting = int(LONGEST / (2 * TURNS * max(slowest, 1e-9)))
    calls = min(max(fitting, FEWEST_CALLS), CALLS)
    times = np.empty((2, TURNS, calls))
    for turn in range(TURNS):
        # Whoever begins changes, so that nobody is always second.
        for which in (turn % 2, 1 - turn % 2):
            times[which, turn] = _turn(*sides[which], clock, calls, turn * calls)
    return TurnTimes(times[0], times[1])


def _turn(model: Model, feeds: Feeds, clock: Clock, calls: int, start: int) -> Array:
    signature = model.signature
    rows = signature.count(feeds)
    places = [np.array([(start + at) % rows]) for at in range(calls)]
    asked = [signature.columns(signature.take(feeds, place)) for place in places]
    times = np.empty(calls)
    for at, row in enumerate(asked):
        began = clock()
        model.run(row)
        times[at] = clock() - began
    return times

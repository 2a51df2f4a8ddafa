"""What a candidate may cost: the time of a call, measured in turns, and size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.check import GateCheck
from modelkit.lifecycle.gate.claims import Levels, tested
from modelkit.lifecycle.gate.opened import Judged
from modelkit.model.manifest import Manifest
from modelkit.model.model import Model
from modelkit.signature.signature import Feeds
from modelkit.stats.paired import PairedDifference

TURNS = 40
CALLS = 20  # of a turn
FEWEST_CALLS = 3
LONGEST = 6.0  # seconds that measuring should take
WARM_CALLS = 5
Clock = Callable[[], float]
BYTES = "the bytes of graph and weights"
IN_TURNS = (
    "one-row calls of both models in turns; t of the {turns} turns, each with the median of its "
    "{calls} calls"
)


class TurnTimes(NamedTuple):
    """Seconds of each call in each turn, (turns, calls), of both models."""

    candidate: Array
    champion: Array


def budget_checks(
    budgets: Mapping[str, float],
    candidate: tuple[Judged, Feeds],
    champion: tuple[Judged, Feeds],
    levels: Levels,
    *,
    clock: Clock,
) -> list[GateCheck]:
    """Whether the candidate keeps each budget."""
    sides = (candidate, champion)
    sizes = [model_size(judged.manifest) for judged, _ in sides]
    timed = None
    found = []
    for name, limit in budgets.items():
        if name.startswith("size"):
            found.append(size_check(name, limit, *sizes))
            continue
        if timed is None:
            ours, theirs = ((judged.model, feeds) for judged, feeds in sides)
            timed = timed_turns(ours, theirs, clock)
        found.append(median_check(name, limit, timed, levels))
    return found


def model_size(manifest: Manifest) -> float:
    """The bytes of all members that are not attachments."""
    attached = {attachment.path for attachment in manifest.attachments}
    return float(sum(member.size for member in manifest.files if member.path not in attached))


def size_check(name: str, limit: float, ours: float, theirs: float) -> GateCheck:
    """Whether the bytes of the candidate are within their budget."""
    ratio = name.endswith("_ratio")
    value = ours / max(theirs, 1.0) if ratio else ours
    return GateCheck(
        name,
        _question("the size of the model", name, limit),
        "pass" if value <= limit else "fail",
        part="budget",
        formula=f"{BYTES}, over the champion's" if ratio else BYTES,
        estimate=value,
        bound=limit,
        text=f"{ours:,.0f} bytes, and {theirs:,.0f} of the champion",
    )


def _question(what: str, name: str, limit: float) -> str:
    unit = name.partition("_")[2]
    if unit == "ratio":
        return f"Is {what} at most {limit:g} times the champion's?"
    return f"Is {what} at most {limit:g} {unit}?"


def median_check(name: str, limit: float, timed: TurnTimes, levels: Levels) -> GateCheck:
    """Whether the usual time of a call is shown to be within its budget."""
    ours, theirs = (np.median(times, axis=1) for times in timed)
    turns, calls = timed.candidate.shape
    # By how much calls are faster, as a logarithm.
    faster = -np.log(ours / theirs if name.endswith("_ratio") else ours)
    error = float(faster.std(ddof=1) / np.sqrt(turns))
    found = PairedDifference(float(faster.mean()), error, turns)
    level = 1 - 2 * levels.shown
    high, low = (float(np.exp(-end)) for end in found.interval(level))
    check = GateCheck(
        name,
        _question("the median time of a call", name, limit),
        "unclear",
        part="budget",
        formula=IN_TURNS.format(turns=turns, calls=calls),
        bound=limit,
        text=f"{_micro(np.median(ours))}, and {_micro(np.median(theirs))} of the champion",
        estimate=float(np.exp(-found.value)),
        low=low,
        high=high,
        level=level,
    )
    return tested(check, found, -log(limit), levels)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} \N{GREEK SMALL LETTER MU}s"


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
    return TurnTimes(*times)


def _turn(model: Model, feeds: Feeds, clock: Clock, calls: int, start: int) -> Array:
    """The seconds of each of some calls with one row, (calls,)."""
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

"""What a candidate may cost: time, memory and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import log
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import UsageError
from modelkit.lifecycle.gate.check import GateCheck
from modelkit.lifecycle.gate.claims import Levels
from modelkit.lifecycle.gate.footprint import memory_of
from modelkit.lifecycle.gate.latency import Clock, TurnTimes, timed_turns
from modelkit.lifecycle.gate.opened import Judged
from modelkit.model.manifest import Manifest
from modelkit.signature.signature import Feeds
from modelkit.stats.paired import PairedDifference
from modelkit.stats.tests import bootstrap

DRAWS = 400
OF_PEAK = "by how much opening it and running its golden rows raise the peak of a process"
IN_TURNS = (
    "one-row calls of both models in turns; t of the {turns} turns, each with the median of its "
    "{calls} calls"
)
OF_TAIL = "the 99th percentile of one-row calls in turns; t with the standard error of {draws} draws of turns"


class Measurements(NamedTuple):
    """What a budget compares: the figures of the candidate and of the champion."""

    candidate: float
    champion: float


def budget_checks(
    budgets: Mapping[str, float],
    candidate: tuple[Judged, Feeds],
    champion: tuple[Judged, Feeds],
    levels: Levels,
    *,
    clock: Clock,
    seed: int,
) -> list[GateCheck]:
    """Whether the candidate keeps each budget. Raises UsageError where one cannot be measured."""
    judged = (candidate[0], champion[0])
    timed = None
    if any(name.startswith("p") for name in budgets):
        sides = (judged[0].model, candidate[1]), (judged[1].model, champion[1])
        timed = timed_turns(*sides, clock)
    found = []
    for name, limit in budgets.items():
        if timed is None or not name.startswith("p"):
            found.append(_plain_budget(name, limit, judged))
        elif name.startswith("p50"):
            found.append(median_check(name, limit, timed, levels))
        else:
            found.append(tail_check(name, limit, timed, levels, seed))
    return found


def _plain_budget(name: str, limit: float, judged: tuple[Judged, Judged]) -> GateCheck:
    if name.startswith("size"):
        sizes = Measurements(*(model_size(each.manifest) for each in judged))
        return plain_check(name, limit, sizes, "the bytes of graph and weights")
    used = Measurements(*map(_memory, judged))
    return plain_check(name, limit, used, OF_PEAK)


def model_size(manifest: Manifest) -> float:
    """The bytes of all members that are no attachments."""
    attached = {attachment.path for attachment in manifest.attachments}
    return float(sum(member.size for member in manifest.files if member.path not in attached))


def _memory(judged: Judged) -> float:
    if judged.path is None:
        raise UsageError(
            f"memory is measured in a process of its own, which opens the package of {judged.named}: "
            "pass its path, not a Model"
        )
    return memory_of(judged.path)


def plain_check(name: str, limit: float, found: Measurements, formula: str) -> GateCheck:
    """A budget of what was measured once."""
    ratio = name.endswith("_ratio")
    value = found.candidate / max(found.champion, 1.0) if ratio else found.candidate
    text = f"{found.candidate:,.0f} bytes, and {found.champion:,.0f} of the champion"
    return GateCheck(
        name,
        _question(name, limit),
        "pass" if value <= limit else "fail",
        part="budget",
        formula=f"{formula}, over the champion's" if ratio else formula,
        estimate=value,
        bound=limit,
        text=text,
    )


def median_check(name: str, limit: float, timed: TurnTimes, levels: Levels) -> GateCheck:
    """Whether the usual time of a call is shown to be within its budget."""
    ours = np.median(timed.candidate, axis=1)
    theirs = np.median(timed.champion, axis=1)
    turns = np.log(ours / theirs) if name.endswith("_ratio") else np.log(ours)
    error = float(turns.std(ddof=1) / np.sqrt(len(turns)))
    found = PairedDifference(-float(turns.mean()), error, len(turns))
    shape = timed.candidate.shape
    formula = IN_TURNS.format(turns=shape[0], calls=shape[1])
    text = _beside(np.median(ours), np.median(theirs))
    return _timed_check(replace(_asked(name, limit, formula), text=text), found, levels)


def tail_check(name: str, limit: float, timed: TurnTimes, levels: Levels, seed: int) -> GateCheck:
    """Whether the slowest calls are shown to be beyond their budget.

    They vary too much to be shown to be within it, so this is not required.
    """
    turns = len(timed.candidate)
    tail = partial(_tail_ratio, timed)
    draws = bootstrap(tail, turns, DRAWS, np.random.default_rng(seed))
    value = tail(np.ones(turns, np.int64))
    found = PairedDifference(-value, float(draws.std(ddof=1)), turns)
    asked = _asked(name, limit, OF_TAIL.format(draws=DRAWS))
    text = _beside(*(np.quantile(times, 0.99) for times in timed))
    return _timed_check(replace(asked, required=False, text=text), found, levels)


def _asked(name: str, limit: float, formula: str) -> GateCheck:
    question = _question(name, limit)
    return GateCheck(name, question, "unclear", part="budget", formula=formula, bound=limit)


def _tail_ratio(timed: TurnTimes, times: Array) -> float:
    """The logarithm of the ratio of the tails of turns that were drawn so many times."""
    turns = np.repeat(np.arange(len(times)), times)
    ours = np.quantile(timed.candidate[turns], 0.99)
    return float(np.log(ours / np.quantile(timed.champion[turns], 0.99)))


def _beside(ours: float, theirs: float) -> str:
    return f"{_micro(ours)}, and {_micro(theirs)} of the champion"


def _timed_check(asked: GateCheck, found: PairedDifference, levels: Levels) -> GateCheck:
    """The answer by a difference of logarithms, of which above zero is faster."""
    bound = -log(asked.bound or 1.0)
    p = found.p_above(bound)
    level = 1 - 2 * levels.shown
    low, high = (float(np.exp(-end)) for end in found.interval(level)[::-1])
    told = replace(
        asked,
        estimate=float(np.exp(-found.value)),
        low=low,
        high=high,
        level=level,
        p=p,
        alpha=levels.shown,
    )
    if p <= levels.shown:
        return replace(told, outcome="pass")
    harm = found.exchanged().p_above(-bound)
    if harm <= levels.harm:
        return replace(told, outcome="fail", p=harm, alpha=levels.harm)
    return told


def _question(name: str, limit: float) -> str:
    what, _, unit = name.partition("_")
    named = {
        "p50": "the median time of a call",
        "p99": "the 99th percentile of the time of a call",
        "memory": "the memory it takes",
        "size": "the size of the model",
    }[what]
    if unit == "ratio":
        return f"Is {named} at most {limit:g} times the champion's?"
    return f"Is {named} at most {limit:g} {unit}?"


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} \N{GREEK SMALL LETTER MU}s"

"""Whole rollouts: what `Trial` decides in a day with its usual guards, stage by stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from benchmarks.common.measure import judge, table
from benchmarks.rollout.errors import LIMIT, figure
from benchmarks.rollout.traffic import QUARTERS, Array, generator

from modelkit.lifecycle.rollout.counts import ByArm, CompleteKey, Counts, EventCounts, Unit
from modelkit.lifecycle.rollout.guards import (
    ERROR_EVENTS,
    NONFINITE_EVENTS,
    QUANTILES,
    REFUSED_EVENTS,
    SLOW_EVENTS,
    USUAL_GUARDS,
    Guard,
)
from modelkit.lifecycle.rollout.policy import RolloutPolicy, RolloutStage
from modelkit.lifecycle.rollout.routing import WHOLE, limit_of
from modelkit.lifecycle.rollout.trial import Trial

HOUR, TICK = 3600.0, 900.0
STAGES = tuple(
    RolloutStage(share, hours * HOUR) for share, hours in ((0.05, 4), (0.25, 8), (0.5, 8))
)
VOLUME = 200_000  # calls without keys
KEYS, CALLS = 20_000, 1_000_000  # of keys: 50 calls for each in the mean
FEWER = {"without keys": 5, "20,000 keys": 25}  # times fewer runs
SLOWS = [f"{SLOW_EVENTS}:{quantile}" for quantile in QUANTILES]
# What is drawn here are slow answers, and not by how much they are slow.
GUARDS = tuple(
    Guard(SLOW_EVENTS, material=0.0) if guard.name == SLOW_EVENTS else guard
    for guard in USUAL_GUARDS
)
DECIDED = ("rollback", "promote", "hold", "undecided")


@dataclass(frozen=True)
class Candidate:
    """How many times the champion's rate of errors, and of slow answers, from a quarter on."""

    errors: float = 1.0
    slow: float = 1.0
    since: int = 0


CANDIDATES = {
    "equal": Candidate(),
    "better: half the errors, faster": Candidate(0.5, 0.6),
    "twice the errors": Candidate(errors=2.0),
    "slower": Candidate(slow=1.5),
    "twice the errors, after 12 h": Candidate(errors=2.0, since=QUARTERS // 2),
}


def whole(args) -> str:
    """Whole rollouts of a day with the usual guards at 1 %: .05 for 4 h, .25 for 8 h, then .5"""
    lines = []
    for traffic, draw in {"without keys": of_calls, "20,000 keys": of_keys}.items():
        for name, candidate in CANDIDATES.items():
            rng = generator(f"whole {traffic} {name}")
            runs = max(4, args.runs // FEWER[traffic])
            ended = [rollout(draw(rng, candidate)) for _ in range(runs)]
            found = Counter(kind for kind, _ in ended)
            hours = [hour for kind, hour in ended if kind in ("rollback", "promote")]
            cells = [figure(found[kind] / runs) for kind in DECIDED]
            when = f"{np.median(hours):.1f}" if hours else "-"
            wrong = (
                found["promote" if max(candidate.errors, candidate.slow) > 1 else "rollback"] / runs
            )
            lines.append([traffic, name, *cells, when, *judge(wrong, "at most", LIMIT)])
    header = "traffic | candidate | rolled back | promoted | held | undecided | hours | target of the wrong | reached"
    return table(header, lines)


def rollout(draw) -> tuple[str, float]:
    """What becomes of one, and after how many hours."""
    trial = Trial(RolloutPolicy(STAGES, GUARDS, tick=TICK), 0.0)
    next(draw)
    for quarter in range(QUARTERS):
        counts = draw.send((quarter, trial.in_stage.share))
        decision = trial.tick(counts, (quarter + 1) * TICK)
        if decision.kind == "advance":
            trial.enter(trial.stage + 1)
        if trial.over or decision.kind == "hold":
            return decision.kind, (quarter + 1) / 4
    return "undecided", QUARTERS / 4


def rates_of(candidate: Candidate, quarter: int) -> dict[str, tuple[float, float]]:
    """The champion's rate of each kind of events, and how many times that the candidate has."""
    late = quarter >= candidate.since
    errors = candidate.errors if late else 1.0
    slow = candidate.slow if late else 1.0
    found = {
        ERROR_EVENTS: (0.01, errors),
        NONFINITE_EVENTS: (0.0, 1.0),
        REFUSED_EVENTS: (0.0002, 1.0),
    }
    return found | {kind: (1 - q / 100, slow) for kind, q in zip(SLOWS, QUANTILES, strict=True)}


def of_calls(rng: np.random.Generator, candidate: Candidate):
    """Counts of the ticks that are asked for, of calls whose arms are drawn."""
    counts = None
    while True:
        quarter, share = yield counts
        calls = rng.poisson(VOLUME / QUARTERS * np.array([share, 1 - share]))
        arms = ByArm(*calls.tolist())
        events = {
            kind: EventCounts(
                ByArm(*rng.binomial(calls, np.minimum([rate * risk, rate], 1)).tolist())
            )
            for kind, (rate, risk) in rates_of(candidate, quarter).items()
        }
        counts = Counts(calls=arms, plain=arms, events=events)


def of_keys(rng: np.random.Generator, candidate: Candidate):
    """The same of keys, each with its own traffic and its own rates."""
    traffic = rng.gamma(1, CALLS / KEYS / QUARTERS, KEYS)
    hashes = rng.integers(0, WHOLE, KEYS, dtype=np.uint64)
    frailty = rng.gamma(0.3, 1 / 0.3, KEYS)  # of errors; slow answers differ less
    slowness = rng.gamma(4, 1 / 4, KEYS)
    made, before, counts = np.zeros(KEYS, np.int64), 0.0, None
    while True:
        quarter, share = yield counts
        if share > before:  # keys are drawn anew, and count again
            before, made = share, np.zeros(KEYS, np.int64)
        inside = hashes < np.uint64(limit_of(share))
        calls = rng.poisson(traffic)
        new = (made == 0) & (calls > 0)
        chances = {
            kind: np.minimum(
                rate * np.where(inside, risk, 1.0) * (slowness if kind in SLOWS else frailty), 0.95
            )
            for kind, (rate, risk) in rates_of(candidate, quarter).items()
        }
        failed = {kind: rng.binomial(calls, chance) for kind, chance in chances.items()}
        events = {
            kind: EventCounts(
                keys=units(hashes, bad > 0, inside),
                keyed=ByArm(int(bad[inside].sum()), int(bad[~inside].sum())),
            )
            for kind, bad in failed.items()
        }
        done = np.flatnonzero((made < 20) & (made + calls >= 20))
        made += calls
        counts = Counts(
            calls=ByArm(int(calls[inside].sum()), int(calls[~inside].sum())),
            keys=units(hashes, new, inside),
            events=events,
            done=tuple(
                CompleteKey(
                    int(hashes[key]),
                    bool(inside[key]),
                    {kind: rng.binomial(20, chance[key]) / 20 for kind, chance in chances.items()},
                )
                for key in done
            ),
        )


def units(hashes: Array, which: Array, inside: Array) -> tuple[Unit, ...]:
    places = np.flatnonzero(which)
    return tuple(map(Unit, hashes[places].tolist(), inside[places].tolist()))

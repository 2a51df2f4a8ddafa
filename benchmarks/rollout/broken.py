"""What breaks the assumptions, and what then happens: equal models, a day of 100,000 calls, 1 % errors."""

from __future__ import annotations

import numpy as np
from benchmarks.common.measure import judge, table
from benchmarks.rollout.errors import LIMIT, figure
from benchmarks.rollout.ours import (
    ALPHA,
    BLOCK,
    Array,
    judged,
    mixture,
    paired,
    rolled_back,
    values,
)
from benchmarks.rollout.rivals import z_test
from benchmarks.rollout.traffic import MINUTES, Day, World, day_of, generator

from modelkit.lifecycle.rollout.arms import Above
from modelkit.stats.betting import ABOVE, log_split

SHARE, RATE, VOLUME = 0.05, 0.01, 100_000
EARLY, LATER = 0.05, 0.5  # shares of a ramp
QUIET, BUSY = 0.005, 0.02  # rates of errors, before and after it


def ramp(args) -> str:
    """A share of .05 in the quiet half of a day and .5 in the busy one, equal models: rollbacks"""
    rng = generator("ramp")
    halves = [
        day_of(rng, args.runs, World(VOLUME, rate, share))
        for rate, share in ((QUIET, EARLY), (BUSY, LATER))
    ]
    half = MINUTES // 2
    parts = [
        np.hstack([one[:, :half], two[:, half:]])
        for one, two in zip(*(vars(day).values() for day in halves), strict=True)
    ]
    day = Day(*parts)
    shares = np.repeat([EARLY, LATER], half)
    pooled = (EARLY + LATER) / 2
    wealth = mixture(day.candidate_events, day.champion_events, pooled, 1.0, ABOVE)[:, -1]
    found = {
        "z test 1 %, pooled": (z_test(day, 0, alpha=ALPHA, least=5) < MINUTES).mean(),
        "modelkit's bets, pooled, with the share of all calls": (wealth >= -np.log(ALPHA)).mean(),
        "modelkit 1 %, by stage": share_of(
            rolled_back(day.candidate_events, day.champion_events, shares)
        ),
    }
    lines = [
        [
            name,
            figure(float(rate)),
            *judge(float(rate), "at most", LIMIT if "by stage" in name else None),
        ]
        for name, rate in found.items()
    ]
    return table("counted | rolled back | target | reached", lines)


def share_of(minute: Array) -> float:
    return float((minute < MINUTES).mean())


def broken(args) -> str:
    """What breaks the assumptions: equal models, share .05, a day of 100,000 calls with 1 % errors; rollbacks at 1 %"""
    cases = {
        "as assumed": day_of(generator("assumed"), args.runs, World(VOLUME, RATE, SHARE)),
        "a client retries, and the retry is drawn anew": retried(args.runs, anew=True),
        "a client retries, and the retry goes to the other arm": retried(args.runs, anew=False),
        "rows of one kind, which fail twice as often, go to the candidate": day_of(
            generator("content"), args.runs, World(VOLUME, RATE, SHARE, risk=2)
        ),
        "the salt is that of an earlier rollout, whose keys still fail 1.5 times as often": day_of(
            generator("salt"), args.runs, World(VOLUME, RATE, SHARE, risk=1.5)
        ),
        "the share is said to be .05, and is .1": day_of(
            generator("share"), args.runs, World(VOLUME, RATE, 2 * SHARE)
        ),
    }
    lines = []
    for name, day in cases.items():
        rate = share_of(rolled_back(day.candidate_events, day.champion_events, SHARE))
        limit = LIMIT if "assumed" in name or "anew" in name else None
        lines.append([name, figure(rate), *judge(rate, "at most", limit)])
    return table("what happens | rolled back | target | reached", lines)


def retried(runs: int, *, anew: bool) -> Day:
    """A row that fails is sent once more, and fails again."""
    rng = generator(f"retried {anew}")
    day = day_of(rng, runs, World(VOLUME, RATE, SHARE))
    bad = day.candidate_events + day.champion_events
    again = rng.binomial(bad, SHARE) if anew else day.champion_events
    events = day.candidate_events + again, day.champion_events + bad - again
    return Day(day.candidate, day.champion, *events)


def interference(args) -> str:
    """A candidate of three times the errors makes the champion err too: share .05, 1,000,000 calls"""
    lines = []
    for name, spread in (
        ("the champion as before", 1.0),
        ("the champion 1.5 times", 1.5),
        ("the champion 3 times", 3.0),
    ):
        rng = generator(f"interference {spread}")
        day = day_of(
            rng, max(20, args.runs // 4), World(10 * VOLUME, RATE * spread, SHARE, risk=3 / spread)
        )
        minute = rolled_back(day.candidate_events, day.champion_events, SHARE)
        caught = minute[minute < MINUTES]
        when = f"{np.median(caught) + 1:.0f}" if len(caught) else "-"
        lines.append([name, figure(share_of(minute)), when])
    return table("errors | rolled back | minutes", lines)


def selection(args) -> str:
    """Labels that only come for the rows that the answering model accepts: 60,000 rows, share .5, margin .01"""
    lines = []
    for name, chosen in (("labels of all rows", False), ("labels of accepted rows", True)):
        rng = generator(f"selection {chosen}")
        found = [selected(rng, chosen=chosen) for _ in range(max(20, args.runs // 10))]
        lines.append(
            [name, *(figure(float(np.mean(column))) for column in zip(*found, strict=True))]
        )
    return table(
        "a candidate that is .03 worse | shown to be worse | promoted | labels by arm differ", lines
    )


def selected(rng: np.random.Generator, *, chosen: bool) -> tuple[bool, bool, bool]:
    """One rollout: the candidate accepts fewer rows, those it is surest of."""
    candidate = rng.random(60_000) < 0.5
    difficulty = rng.random(len(candidate))
    loss = (rng.random(len(candidate)) < 0.3 * difficulty + 0.03 * candidate).astype(float)
    labelled = (
        (difficulty < np.where(candidate, 0.4, 0.8)) if chosen else np.ones(len(candidate), bool)
    )
    worse, within = judged(paired(loss[labelled], candidate[labelled]), 0.01)
    return bool(np.isfinite(worse)), bool(np.isfinite(within)), differs(candidate[labelled])


def differs(candidate: Array) -> bool:
    """Whether labels are shown to come for one arm more often than its share of the rows."""
    inside = np.cumsum(candidate)[BLOCK - 1 :: BLOCK].tolist()
    looks = [(count, (place + 1) * BLOCK - count) for place, count in enumerate(inside)]
    return max(log_split(0.5, *look) for look in looks) >= -np.log(ALPHA)


def split(args) -> str:
    """The check of the split at 1 %: a candidate loses calls before they are counted; 1,000,000 calls, share .05"""
    lines = []
    for lost in (0.0, 0.01, 0.02, 0.05, 0.1):
        rng = generator(f"split {lost}")
        runs = args.runs if not lost else max(20, args.runs // 4)
        day = day_of(rng, runs, World(10 * VOLUME, RATE, SHARE, bursty=True))
        candidate = rng.binomial(day.candidate, 1 - lost)
        when = np.array([split_alarm(*pair) for pair in zip(candidate, day.champion, strict=True)])
        found = when[when < MINUTES]
        calls = (day.candidate + day.champion).cumsum(axis=1)[when < MINUTES, found]
        rate = len(found) / runs
        needed = f"{np.median(calls):,.0f}" if len(found) else "-"
        lines.append(
            [
                f"{lost:.0%} lost",
                figure(rate),
                needed,
                *judge(rate, "at most", None if lost else LIMIT),
            ]
        )
    return table("calls of the candidate | alarm | calls until then | target | reached", lines)


def split_alarm(candidate: Array, champion: Array) -> int:
    """The quarter-hour at which the split is shown to be another one, in minutes."""
    looks = zip(
        candidate.cumsum()[14::15].tolist(), champion.cumsum()[14::15].tolist(), strict=True
    )
    logs = np.array([log_split(SHARE, *look) for look in looks])
    reached = logs >= -np.log(ALPHA)
    return int(reached.argmax()) * 15 + 14 if reached.any() else MINUTES


def floor(args) -> str:
    """Two events where there are almost none: a champion without errors; 100,000 calls, share .05"""
    lines = []
    for rate in (0.0005, 0.005, 0.02):
        rng = generator(f"floor {rate}")
        runs = max(20, args.runs // 4)
        day = day_of(rng, runs, World(VOLUME, 0.0, SHARE))
        events = rng.binomial(day.candidate, rate)
        worse = values(events, day.champion_events, SHARE, 1.2)
        above = np.array([above_floor(*pair) for pair in zip(day.candidate, events, strict=True)])
        without = (worse.max(axis=1) >= 1 / ALPHA).mean()
        both = np.minimum(np.maximum.accumulate(worse, axis=1)[:, 14::15], above).max(axis=1)
        lines.append(
            [f"{rate:g}", figure(float(without)), figure(float((both >= 1 / ALPHA).mean()))]
        )
    return table("candidate's rate | rolled back without a floor | with a floor of .001", lines)


def above_floor(calls: Array, events: Array) -> Array:
    """`Above.peak` at the end of each quarter of an hour."""
    evidence, found = Above(np.array([0.001])), []
    for each, bad in zip(
        calls.reshape(-1, 15).sum(axis=1), events.reshape(-1, 15).sum(axis=1), strict=True
    ):
        evidence.tick(each, bad)
        found.append(evidence.peak[0])
    return np.array(found)

"""Rollbacks and promotions on events: false ones, and how soon the true ones come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from benchmarks.common.measure import judge, log, table
from benchmarks.rollout.ours import promoted, rolled_back
from benchmarks.rollout.rivals import RULES, kayenta
from benchmarks.rollout.traffic import LATE, MINUTES, Array, Day, World, day_of, generator

SHARE = 0.05
RATES, VOLUMES = (0.001, 0.01, 0.05), (1_000, 10_000, 100_000, 1_000_000)
LIMIT = 0.015  # of the runs with a false decision, at alpha .01
FEWER = 10  # times fewer runs for Kayenta's rule, which takes long
FOUND_WITHIN = {(0.01, 2): 2500, (0.01, 5): 250}  # rows of the candidate, in the median
MARGIN = 1.5  # of a promotion
Rule = Callable[[Day, float], Array]


def modelkit(day: Day, _rate: float) -> Array:
    return rolled_back(day.candidate_events, day.champion_events, SHARE)


def modelkit_5(day: Day, _rate: float) -> Array:
    return rolled_back(day.candidate_events, day.champion_events, SHARE, alpha=0.05)


def modelkit_tolerant(day: Day, _rate: float) -> Array:
    return rolled_back(day.candidate_events, day.champion_events, SHARE, margin=1.2)


OURS: dict[str, Rule] = {
    "modelkit 1 %": modelkit,
    "modelkit 5 %": modelkit_5,
    "modelkit 1 %, margin 1.2": modelkit_tolerant,
}
KAYENTA = "Kayenta: Mann-Whitney hourly"


def stops(day: Day, rate: float) -> Iterator[tuple[str, Array]]:
    """When each rule rolls back each run."""
    for name, rule in (RULES | OURS).items():
        yield name, rule(day, rate)
    yield KAYENTA, kayenta(day.first(max(10, len(day.candidate) // FEWER)), rate)


def false_rollbacks(args) -> str:
    """False rollbacks of an equal candidate in a day, calm / bursty"""
    found: dict[str, list[tuple[float, ...]]] = {}
    names = []
    for rate in RATES:
        for volume in VOLUMES:
            names.append(f"{rate:.1%}, {volume:,}")
            of_rule: dict[str, list[float]] = {}
            for bursty in (False, True):
                rng = generator(f"false rollbacks {names[-1]} {bursty}")
                day = day_of(rng, args.runs, World(volume, rate, SHARE, bursty=bursty))
                for name, minute in stops(day, rate):
                    of_rule.setdefault(name, []).append(float((minute < MINUTES).mean()))
            for name, pair in of_rule.items():
                found.setdefault(name, []).append(tuple(pair))
    lines = []
    for name, cells in found.items():
        worst = float(np.max(cells))
        limit = LIMIT if name in OURS and "5 %" not in name else None
        shown = [" / ".join(figure(value) for value in pair) for pair in cells]
        lines.append([name, *shown, figure(worst), *judge(worst, "at most", limit)])
        log(f"  {lines[-1]}")
    return table(" | ".join(["rule", *names, "worst", "target", "reached"]), lines)


def figure(value: float) -> str:
    return f"{value:.3f}".lstrip("0") if value < 1 else "1.0"


def found(args) -> str:
    """How soon a worse candidate is rolled back: 1,000,000 calls a day, bursty; minutes, and rows of the candidate"""
    cases = [
        (0.01, 1),
        (0.01, 1.2),
        (0.01, 1.5),
        (0.01, 2),
        (0.01, 5),
        (0.001, 2),
        (0.001, 5),
        (0.05, 2),
    ]
    cells: dict[str, list[str]] = {}
    judged: dict[str, list[str]] = {}
    for rate, risk in cases:
        rng = generator(f"found {rate} {risk}")
        day = day_of(
            rng, max(20, args.runs // 4), World(VOLUMES[-1], rate, SHARE, risk=risk, bursty=True)
        )
        rows = day.candidate.cumsum(axis=1)
        for name, minute in stops(day, rate):
            caught = np.flatnonzero(minute < MINUTES)
            needed = float(np.median(rows[caught, minute[caught]])) if len(caught) else np.inf
            cells.setdefault(name, []).append(
                soon(len(caught) / len(minute), minute[caught], needed)
            )
            limit = FOUND_WITHIN.get((rate, risk)) if name in OURS else None
            if limit:
                judged.setdefault(name, []).extend(judge(needed, "at most", limit))
    names = ["equal, 1 %", *(f"{risk:g} times, {rate:.1%}" for rate, risk in cases[1:])]
    lines = [[name, *cells[name], *judged.get(name, [""] * 4)] for name in cells]
    header = ["rule", *names, "target of 2 times", "reached", "target of 5 times", "reached"]
    return table(" | ".join(header), lines)


def soon(share: float, minutes: Array, rows: float) -> str:
    if not share:
        return "never"
    rarely = "" if share == 1 else f"{figure(share)}: "
    return f"{rarely}{np.median(minutes) + 1:.0f} min, {rows:,.0f}"


def late(args) -> str:
    """A change after twelve quiet hours beside one at the start: minutes to the rollback"""
    lines = []
    for risk in (2, 3, 5):
        delays = []
        for since in (0, LATE):
            rng = generator(f"late {risk} {since}")
            day = day_of(
                rng,
                max(20, args.runs // 4),
                World(VOLUMES[-1], 0.01, SHARE, risk=risk, since=since),
            )
            minute = modelkit(day, 0.01)
            caught = minute[(minute >= since) & (minute < MINUTES)]
            before = float((minute < since).mean())
            delays.append((float(np.median(caught)) - since + 1, len(caught) / len(minute), before))
        (early, of_early, _), (delay, of_late, before) = delays
        cells = [
            f"{early:.0f}",
            f"{of_early:.2f}",
            f"{delay:.0f}",
            f"{of_late:.2f}",
            f"{before:.3f}",
        ]
        lines.append(
            [
                f"{risk} times as many",
                *cells,
                f"{delay / early:.2f}",
                *judge(delay / early, "at most", 3),
            ]
        )
    header = (
        "candidate | early | found | late | found | rolled back before | ratio | target | reached"
    )
    return table(header, lines)


def promotions(args) -> str:
    """Promotions by calls without keys in a day, against a margin of 1.5, share .25, bursty"""
    lines = []
    for rate in RATES:
        for volume in VOLUMES:
            cells = []
            for risk in (MARGIN, 1.0, 2.0):
                rng = generator(f"promotions {rate} {volume} {risk}")
                day = day_of(rng, args.runs, World(volume, rate, 0.25, risk=risk, bursty=True))
                minute = promoted(day.candidate_events, day.champion_events, 0.25, MARGIN)
                cells.append(float((minute < MINUTES).mean()))
            wrong = max(cells[0], cells[2])
            lines.append(
                [
                    f"{rate:.1%}, {volume:,} calls",
                    *map(figure, cells),
                    *judge(wrong, "at most", LIMIT),
                ]
            )
    header = "errors, volume | at the margin | equal | twice as many | target of the wrong ones | reached"
    return table(header, lines)

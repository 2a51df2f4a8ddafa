"""What follows a first alarm: further alarms while a change lasts, and days or rows until a larger one is seen.

Rows are normal, of a reference of 8,000; units are 60 rows of a level of their own, of a reference of 100. The level
is in standard deviations of a row; that of units varies by 0.2. alpha is .01, of one feature.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from benchmarks.common.measure import judge, table
from benchmarks.drift.ours import ALPHA, collect, share

import modelkit as mk

Part = tuple[int, float]  # rows or units, and their level
ROWS: dict[str, Sequence[Part]] = {
    "no change": [(40_000, 0.0)],
    "0.3 that lasts": [(2_000, 0.0), (40_000, 0.3)],
    "0.6 that lasts": [(2_000, 0.0), (40_000, 0.6)],
    "1.5 that lasts": [(2_000, 0.0), (40_000, 1.5)],
    "0.15, then 0.6": [(8_000, 0.15), (4_000, 0.6)],
    "0.4, then 1": [(4_000, 0.4), (4_000, 1.0)],
    "0.6, then -0.6": [(4_000, 0.6), (4_000, -0.6)],
    "0.6, none, then 0.6": [(4_000, 0.6), (4_000, 0.0), (4_000, 0.6)],
}
UNITS: dict[str, Sequence[Part]] = {
    "no change": [(200, 0.0)],
    "0.5 that lasts": [(10, 0.0), (200, 0.5)],
    "1.5 that lasts": [(10, 0.0), (200, 1.5)],
    "0.1, then 1.5": [(60, 0.1), (20, 1.5)],
    "1, then 2.5": [(20, 1.0), (20, 2.5)],
    "1, then -1": [(20, 1.0), (20, -1.0)],
    "1, none, then 1": [(20, 1.0), (30, 0.0), (20, 1.0)],
}
AT_ONCE = "acknowledged at once"


def of_rows(rng: np.random.Generator, n: int, level: float) -> list[dict[str, Any]]:
    return [{"x": rng.normal(level, 1, 100)} for _ in range(n // 100)]


def of_units(rng: np.random.Generator, n: int, level: float) -> list[dict[str, Any]]:
    return [{"x": rng.normal(level + 0.2 * rng.normal(), 1, 60)} for _ in range(n)]


def row_profile(rng: np.random.Generator) -> mk.Profile:
    return mk.Profile.fit({"x": rng.normal(size=2_000)}, reference={"x": rng.normal(size=8_000)})


def unit_profile(rng: np.random.Generator) -> mk.Profile:
    past = of_units(rng, 100, 0.0)
    return mk.Profile.fit({"x": rng.normal(size=2_000)}, reference=past, unit="batch")


def alarms(
    profile: Callable[..., mk.Profile],
    made: Callable[..., list[dict[str, Any]]],
    parts: Sequence[Part],
    known: str,
    seed: np.random.SeedSequence,
) -> list[list[tuple[str, int]]]:
    """For each part the kinds of its alarms, and after how many calls of it they came."""
    rng = np.random.default_rng(seed)
    detector = mk.Detector(
        profile(rng), alpha=ALPHA, seed=int(seed.generate_state(1)[0]), history=0
    )
    found = []
    for n, level in parts:
        own = []
        for at, call in enumerate(made(rng, n, level), 1):
            for alarm in detector.update(call):
                own.append((alarm.kind, at))
                if known == AT_ONCE:
                    detector.acknowledge(alarm, "known")
        found.append(own)
    return found


def again(args) -> str:
    """After a first alarm: the same change again, and a larger, another or a recurring one"""
    runs = max(20, args.runs // 10)
    lines = []
    for noun, profile, made, plans, call in (
        ("rows", row_profile, of_rows, ROWS, 100),
        ("units", unit_profile, of_units, UNITS, 1),
    ):
        for name, parts in plans.items():
            for known in (AT_ONCE, "not acknowledged"):
                task = partial(alarms, profile, made, parts, known)
                found = collect(task, f"{noun} {name} {known}", runs)
                lines.append([noun, name, known, f"{runs}", *line(found, len(parts), call, name)])
    header = "| | level | alarms are | runs | a false alarm | target | reached | last change seen | median | 90 %"
    return table(header, lines)


def line(found: list, parts: int, call: int, name: str) -> list[str]:
    """Where a change lasts, more than one alarm of a kind is false; elsewhere the delay of the last one."""
    if "then" not in name:
        false = 0
        for run in found:
            kinds = [kind for part in run for kind, _ in part]
            false += bool(kinds) if parts == 1 else len(kinds) > len(set(kinds)) or bool(run[0])
        rate, low, high = share(false, len(found))
        return [f"{rate:.1%} ({low:.1%} to {high:.1%})", *judge(low, "at most", ALPHA), "", "", ""]
    delays = [min((at * call for _, at in run[-1]), default=np.inf) for run in found]
    ends = [f"{q:,.0f}" for q in np.quantile(delays, (0.5, 0.9), method="higher")]
    return ["", "", "", f"{np.isfinite(delays).mean():.0%}", *ends]

"""Days of flights as units, from the counts of each day alone: rates, delays, few units and seasons.

The cells of a day's rows are counted once, so that a run of a hundred days takes a tenth of a
second. `units.py` has the whole Detector, other data and other libraries.

    python -m benchmarks.drift.day_ranks --runs 300
"""

import argparse
import os

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

from functools import cache

import numpy as np
from benchmarks.common.measure import judge, table
from benchmarks.drift.data import Rows
from benchmarks.drift.ours import share
from benchmarks.drift.real import FLIGHTS, INJECTED, columns, flights

import modelkit as mk
from modelkit.drift.alpha import unit_sequence
from modelkit.drift.cells import CELLS
from modelkit.drift.unit_ranks import UnitBag
from modelkit.drift.units import ReferenceUnits, group_table, shares_of

ALPHA = 0.01
STREAM, BEFORE, AFTER = 100, 10, 60  # days
REFERENCES = (20, 60, 140, 240)  # days
PARTS = {"changed": 2 / 3, "material": 1 / 3}  # of alpha
POWER_RUNS = 40
YEAR = 365


@cache
def by_day() -> tuple[tuple, dict[str, np.ndarray]]:
    """The counts of each day of the year, (365, 6, 67), as they were and with each change."""
    frame = flights()
    rows = columns(frame[FLIGHTS])
    day = frame["date"].dt.dayofyear.to_numpy() - 1
    edges = np.random.default_rng(0).permutation(YEAR)[:60]  # of days that set edges alone
    of_edges = {name: column[np.isin(day, edges)] for name, column in rows.items()}
    others = {name: column[~np.isin(day, edges)] for name, column in rows.items()}
    features = mk.Profile.fit(of_edges, reference=others).features
    found = {change: counts_of(features, alter(rows), day) for change, alter in INJECTED.items()}
    return features, found | {"": counts_of(features, rows, day)}


def counts_of(features, rows: Rows, day: np.ndarray) -> np.ndarray:
    counts = np.zeros((YEAR, len(features), CELLS), np.int64)
    for j, feature in enumerate(features):
        at = day * CELLS + feature.cells(rows[feature.name])
        counts[:, j] = np.bincount(at, minlength=YEAR * CELLS).reshape(YEAR, CELLS)
    return counts


def judged(reference: np.ndarray, stream: np.ndarray, alpha: float, seed: int, **strata) -> list:
    """The numbers of the days at which an alarm was raised, once for each feature."""
    own = strata.get("own", np.zeros(len(reference), np.int64))
    later = strata.get("later", np.zeros(len(stream), np.int64))
    features, _ = by_day()
    groups = group_table(features)
    units, days = (
        np.array([shares_of(each, groups) for each in part]) for part in (reference, stream)
    )
    levels = {
        kind: np.full(len(features), alpha * part / len(features)) for kind, part in PARTS.items()
    }
    tolerances = np.full(len(features), 0.03)
    past = ReferenceUnits(units, own, len(units))
    seeds = np.random.SeedSequence(seed)
    bag = UnitBag(past, int(own.max()) + 1, features, tolerances, seeds)
    sequence = unit_sequence(bag, levels, "ever")
    found = []
    for at, (counts, shares, stratum) in enumerate(zip(stream, days, later, strict=True)):
        sequence.take(bag.rank(counts, shares, int(stratum), at))
        found += [at for _ in sequence.settle()]
    return found


def false_alarms(runs: int) -> str:
    """Days drawn at random from the year, 100 after the reference: runs with any alarm."""
    whole = by_day()[1][""]
    lines = []
    for m in REFERENCES:
        for alpha in (ALPHA, 0.05):
            hits = 0
            for seed in range(runs):
                days = np.random.default_rng(seed).permutation(YEAR)
                hits += bool(judged(whole[days[:m]], whole[days[m : m + STREAM]], alpha, seed))
            rate, low, high = share(hits, runs)
            cells = [f"{m}", f"{alpha:g}", f"{runs}", f"{rate:.1%}", f"{low:.1%} to {high:.1%}"]
            lines.append([*cells, *judge(low, "at most", alpha)])
    return table(
        "days of reference | alpha | runs | with an alarm | 95 % interval | target | reached", lines
    )


def days_to_find() -> str:
    """Ten days as before, then sixty changed ones; alpha .01."""
    _, found = by_day()
    lines = []
    for change in INJECTED:
        for m in REFERENCES:
            delays = []
            early = 0
            for seed in range(POWER_RUNS):
                days = np.random.default_rng(seed).permutation(YEAR)
                own = days[m : m + BEFORE + AFTER]
                stream = np.concatenate([found[""][own[:BEFORE]], found[change][own[BEFORE:]]])
                alarms = judged(found[""][days[:m]], stream, ALPHA, seed)
                early += any(at < BEFORE for at in alarms)
                delays.append(
                    min((at - BEFORE + 1 for at in alarms if at >= BEFORE), default=np.inf)
                )
            seen = np.isfinite(delays).mean()
            ends = [
                f"{q:.0f}" if np.isfinite(q) else "-"
                for q in np.quantile(delays, (0.5, 0.9), method="higher")
            ]
            lines.append([change, f"{m}", f"{early}", f"{seen:.0%}", *ends])
    return table("change | days of reference | early | found | days, median | 90 %", lines)


def seasons() -> str:
    """Days in their order: 120 days of reference, then those that follow, without injected change."""
    whole = by_day()[1][""]
    weekday = (np.arange(YEAR) + 1) % 7  # 1 January 2013 was a Tuesday
    lines = []
    for name, stratum in (("days", np.zeros(YEAR, np.int64)), ("days, by weekday", weekday)):
        delays = []
        for start in range(0, 180, 10):
            past, later = slice(start, start + 120), slice(start + 120, start + 180)
            strata = {"own": stratum[past], "later": stratum[later]}
            alarms = judged(whole[past], whole[later], ALPHA, start, **strata)
            delays.append(min((at + 1 for at in alarms), default=np.inf))
        seen = np.isfinite(delays).mean()
        lines.append([name, f"{len(delays)}", f"{seen:.0%}", f"{np.median(delays):.0f}"])
    return table("compared | starts | with an alarm in 60 days | days to it, median", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    args = parser.parse_args()
    print(false_alarms(args.runs), days_to_find(), seasons(), sep="\n\n")


if __name__ == "__main__":
    main()

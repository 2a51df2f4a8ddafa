"""Ten real changes of regime: how soon each is seen, and what is raised before.

Rows are shuffled within a regime, so that they are exchangeable before the change.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from benchmarks.common.measure import judge, log, table
from benchmarks.drift.data import Rows
from benchmarks.drift.delays import Delay
from benchmarks.drift.ours import ALPHA, collect
from benchmarks.drift.real import Regimes, chosen
from benchmarks.drift.real import regimes as real_regimes
from benchmarks.drift.rivals import BATCH, ONLINE, Online, ask, version

import modelkit as mk

REFERENCE, BEFORE, AFTER = 2_000, 1_500, 5_000
OUR_RUNS, RIVER_RUNS, SLOW_RUNS, CHILD_RUNS = 100, 40, 5, 10
Alarms = dict[str, list[int]]


class Halves(NamedTuple):
    """Training rows, reference, and live rows of which `at` come before the change."""

    train: Rows
    reference: Rows
    live: Rows
    at: int


def shuffled(source: Regimes, seed: np.random.SeedSequence) -> Halves:
    rng = np.random.default_rng(seed)
    before, after = (len(next(iter(rows.values()))) for rows in (source.before, source.after))
    order = rng.permutation(before)
    n = min(REFERENCE, round(0.35 * before))
    at = min(BEFORE, before - 2 * n)
    parts = [order[:n], order[n : 2 * n], order[2 * n : 2 * n + at]]
    train, reference, quiet = (chosen(source.before, part) for part in parts)
    changed = chosen(source.after, rng.permutation(after)[:AFTER])
    live = {name: np.concatenate([quiet[name], changed[name]]) for name in quiet}
    return Halves(train, reference, live, at)


def numbers(run: Halves) -> list[np.ndarray]:
    """Each live column as numbers: a category as its rank in training, and no gaps."""
    columns = []
    for name, column in run.live.items():
        if column.dtype == object:
            names, often = np.unique(run.train[name].astype(str), return_counts=True)
            rank = {value: float(k) for k, value in enumerate(names[np.argsort(-often)])}
            columns.append(np.array([rank.get(str(value), len(rank)) for value in column]))
        else:
            columns.append(np.where(np.isfinite(column), column, np.nan))
    return columns


def fired(one: Online, value: float, columns: list[np.ndarray], at: int) -> list[int]:
    """The alarms of any column, up to its first after the change."""
    found: set[int] = set()
    for column in columns:
        detector = one.make(value)
        for row, x in enumerate(column.tolist(), 1):
            if x != x:  # a gap, which river cannot take
                continue
            detector.update(x)
            if detector.drift_detected:
                found.add(row)
                if row > at:
                    break
    return sorted(found)


def delay(runs: list[tuple[list[int], int]]) -> Delay:
    """From the alarms of each run and the row of its change."""
    rows = [min((row - at for row in alarms if row > at), default=np.inf) for alarms, at in runs]
    early = [any(row <= at for row in alarms) for alarms, at in runs]
    return Delay(np.array(rows), float(np.mean(early)))


def ours(source: Regimes, seed: np.random.SeedSequence) -> tuple[Alarms, int]:
    run = shuffled(source, seed)
    number = int(seed.generate_state(1)[0])
    profile = mk.Profile.fit(run.train, reference=run.reference, seed=number)
    detector = mk.Detector(profile, alpha=ALPHA, seed=number)
    total = len(next(iter(run.live.values())))
    found: Alarms = {"changed": [], "material": []}
    for start in range(0, total, 100):
        part = slice(start, start + 100)
        for alarm in detector.update({name: column[part] for name, column in run.live.items()}):
            found[alarm.kind].append(alarm.row)
    return found, run.at


def river(source: Regimes, name: str, seed: np.random.SeedSequence) -> tuple[list[int], int]:
    run = shuffled(source, seed)
    one = next(one for one in ONLINE if one.name == name)
    value = 1e-4 if one.slow else one.default  # KSWIN at its default of 0.005 alarms all the time
    return fired(one, value, numbers(run), run.at), run.at


def in_batches(
    library: str, method: str, source: Regimes, runs: int, seed: np.random.SeedSequence
) -> list[tuple[Alarms, int]]:
    """The alarms of any column, and for Evidently those of its verdict on the data set."""
    drawn = [shuffled(source, one) for one in seed.spawn(runs)]
    pairs = [(plain(run.reference), plain(run.live)) for run in drawn]
    scores = ask(library, method, pairs)
    whole = scores.pop("dataset", None)
    found = []
    for at_run, run in enumerate(drawn):
        most = np.max([column[at_run] for column in scores.values()], axis=0)
        alarms = {"any column": of_scores(most)}
        if whole is not None:
            alarms["data set"] = of_scores(np.array(whole[at_run]))
        found.append((alarms, run.at))
    return found


def plain(rows: Rows) -> Rows:
    """Texts as numpy stores them without objects."""
    return {
        name: column.astype(str) if column.dtype == object else column
        for name, column in rows.items()
    }


def of_scores(scores: np.ndarray) -> list[int]:
    return ((np.flatnonzero(scores >= 1) + 1) * BATCH).tolist()


def regimes(args) -> str:
    """Ten real changes of regime, alpha .01: median / p90 / missed of rows until seen; alarm before the change"""
    lines = []
    share = min(1, args.units / 300)
    for source in real_regimes():
        found = measured(source, share)
        early = found["changed"].early
        lines.append([source.name, *(f"{one}; {one.early:.0%}" for one in found.values())])
        lines[-1] += judge(early, "at most", 0.05)
        log(f"  {dict(zip(found, lines[-1][1:], strict=False))}")
    header = " | ".join(["", *found, "target of the share before", "reached"])
    return table(header, lines)


def measured(source: Regimes, share: float) -> dict[str, Delay]:
    runs = collect(partial(ours, source), source.name, max(2, round(OUR_RUNS * share)))
    found = {
        kind: delay([(alarms[kind], at) for alarms, at in runs]) for kind in ("changed", "material")
    }
    for name, most in (("ADWIN", RIVER_RUNS), ("PageHinkley", RIVER_RUNS), ("KSWIN", SLOW_RUNS)):
        of_river = collect(partial(river, source, name), source.name, max(2, round(most * share)))
        found[name] = delay(of_river)
    for library, method in (("nannyml", "univariate"), ("evidently", "preset")):
        if version(library) is None:
            continue
        each = max(1, round(CHILD_RUNS * share) // 2)
        parts = collect(partial(in_batches, library, method, source, each), source.name, 2)
        batches = [run for part in parts for run in part]
        for what in batches[0][0]:
            found[f"{library}, {what}"] = delay([(alarms[what], at) for alarms, at in batches])
    return found

"""Real days without drift, and with three injected changes: false alarms and what is seen.

Days of one pool are drawn at random for training, reference and stream, so that days are
exchangeable by construction and rows are not.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from benchmarks.common.measure import judge, log, table
from benchmarks.drift.data import Rows
from benchmarks.drift.ours import ALPHA, collect, share
from benchmarks.drift.real import INJECTED, Days, chosen, days
from benchmarks.drift.rivals import ONLINE, ask_units, version

import modelkit as mk

STREAM, TRAIN = 40, 60  # units
REFERENCE = 140  # at most
CHANGED_AT = 20  # units
POWER_RUNS = 20
CHILD_RUNS = 30
Alarmed = dict[str, list[int]]  # by contender, the units at which it raised an alarm


class Drawn(NamedTuple):
    """Training rows, rows of the reference, and the units of the stream, with a column "unit"."""

    train: Rows
    reference: Rows
    stream: list[Rows]


def drawn(
    source: Days, seed: np.random.SeedSequence, change: Callable[[Rows], Rows] | None
) -> Drawn:
    rng = np.random.default_rng(seed)
    units = rng.permutation(int(source.day.max()) + 1)
    train = min(TRAIN, len(units) // 4)
    stream = min(STREAM, len(units) // 4)
    reference = min(REFERENCE, len(units) - train - stream)
    ends = np.cumsum([train, reference, stream])
    parts = [units[: ends[0]], units[ends[0] : ends[1]], units[ends[1] : ends[2]]]
    rows = source.rows | {"unit": source.day.astype(float)}
    places = {number: at for at, number in enumerate(parts[2])}
    of_day = [np.flatnonzero(source.day == number) for number in parts[2]]
    later = []
    for number, which in zip(parts[2], of_day, strict=True):
        own = chosen(rows, which)
        if change is not None and places[number] >= CHANGED_AT:
            own = own | change({name: own[name] for name in source.rows})
        later.append(own)
    train_rows, reference_rows = (chosen(rows, np.isin(source.day, part)) for part in parts[:2])
    return Drawn(train_rows, reference_rows, later)


def without_unit(rows: Rows) -> Rows:
    return {name: column for name, column in rows.items() if name != "unit"}


def named_units(rows: Rows) -> Rows:
    return rows | {"unit": np.array([f"{unit:.0f}" for unit in rows["unit"]], object)}


# --- modelkit ---


def by_unit(run: Drawn, seed: int) -> list[int]:
    """Whole days, named by a column."""
    profile = mk.Profile.fit(
        named_units(run.train), reference=named_units(run.reference), unit="unit", seed=seed
    )
    detector = mk.Detector(profile, alpha=ALPHA, seed=seed)
    found = []
    for at, rows in enumerate(run.stream):
        # A day is judged when the next one begins.
        found += [at - 1] * bool(detector.update(named_units(rows)))
    return found


def by_batch(run: Drawn, seed: int) -> list[int]:
    """Each call a unit, as in a nightly job."""
    parts = [
        chosen(run.reference, run.reference["unit"] == u) for u in np.unique(run.reference["unit"])
    ]
    profile = mk.Profile.fit(
        without_unit(run.train),
        reference=[without_unit(part) for part in parts],
        unit="batch",
        seed=seed,
    )
    detector = mk.Detector(profile, alpha=ALPHA, seed=seed)
    return [at for at, rows in enumerate(run.stream) if detector.update(without_unit(rows))]


def by_row(run: Drawn, seed: int, **options: bool) -> list[int]:
    """The misuse: rows of days are taken for exchangeable rows."""
    profile = mk.Profile.fit(
        without_unit(run.train), reference=without_unit(run.reference), seed=seed, **options
    )
    detector = mk.Detector(profile, alpha=ALPHA, seed=seed)
    return [at for at, rows in enumerate(run.stream) if detector.update(without_unit(rows))]


OURS: dict[str, Callable[[Drawn, int], list[int]]] = {
    'modelkit, unit="day"': by_unit,
    'modelkit, unit="batch"': by_batch,
    "modelkit, rows (misuse)": by_row,
    "modelkit, ordered=True (misuse)": partial(by_row, ordered=True),
}


def adwin(run: Drawn) -> list[int]:
    """ADWIN at its default on each column of numbers, and its alarms by unit."""
    one = ONLINE[0]
    sizes = [len(rows["unit"]) for rows in run.stream]
    ends = np.cumsum(sizes)
    found: set[int] = set()
    for name in run.train:
        whole = np.concatenate([rows[name] for rows in run.stream])
        if name == "unit" or whole.dtype == object:
            continue
        detector = one.make(one.default)
        for at, value in enumerate(whole[np.isfinite(whole)].tolist()):
            detector.update(value)
            if detector.drift_detected:
                found.add(int(np.searchsorted(ends, at, side="right")))
    return sorted(found)


def ours(source: Days, change: str | None, seed: np.random.SeedSequence) -> Alarmed:
    run = drawn(source, seed, INJECTED[change] if change else None)
    number = int(seed.generate_state(1)[0])
    found = {name: contender(run, number) for name, contender in OURS.items()}
    return found | {"ADWIN, default": adwin(run)}


# --- children ---


def child(
    library: str, source: Days, change: str | None, runs: int, seed: np.random.SeedSequence
) -> list[list[float]]:
    """For each run the largest score of any column, by unit."""
    pairs = []
    for one in seed.spawn(runs):
        run = drawn(source, one, INJECTED[change] if change else None)
        live = {name: np.concatenate([rows[name] for rows in run.stream]) for name in run.train}
        sizes = [len(rows["unit"]) for rows in run.stream]
        live["unit"] = np.repeat(np.arange(len(sizes)), sizes).astype(float)
        _, old = np.unique(run.reference["unit"], return_inverse=True)
        pairs.append((run.reference | {"unit": old.astype(float)}, live))
    found = ask_units(library, pairs)
    found.pop("dataset", None)
    return [
        np.max([column[run] for column in found.values()], axis=0).tolist() for run in range(runs)
    ]


def beyond(runs: Sequence[Sequence[float]], limit: float) -> list[list[int]]:
    return [[at for at, score in enumerate(run) if score >= limit] for run in runs]


def tuned_limit(runs: Sequence[Sequence[float]], rate: float) -> float:
    """The limit that so many of the runs without drift exceed."""
    return float(
        np.nextafter(np.quantile([max(run) for run in runs], 1 - rate, method="higher"), np.inf)
    )


# --- tables ---


def units(args) -> str:
    """Real days without drift, drawn from one pool: 40 days, alpha .01"""
    quiet = {source.name: of_all(source, None, args.units, args) for source in days()}
    lines = []
    for name, found in quiet.items():
        for contender, runs in found.items():
            rate, low, high = share(sum(map(bool, runs)), len(runs))
            judged = judge(low, "at most", ALPHA) if "unit=" in contender else ["", ""]
            lines.append(
                [
                    name,
                    contender,
                    f"{len(runs)}",
                    f"{rate:.1%}",
                    f"{low:.1%} to {high:.1%}",
                    *judged,
                ]
            )
    return "\n\n".join(
        [
            table(
                "| | runs | with an alarm | 95 % interval | target of the lower limit | reached",
                lines,
            ),
            "Changes of flights after 20 of 40 days: share of runs with an alarm before, seen after, median days:",
            power(args),
        ]
    )


def of_all(source: Days, change: str | None, runs: int, args) -> dict[str, list[list[int]]]:
    name = f"{source.name} {change}"
    found = collect(partial(ours, source, change), name, runs)
    by_contender = {key: [run[key] for run in found] for key in found[0]}
    for library in ("evidently", "nannyml"):
        if version(library) is None:
            continue
        scores = children(library, source, change, args)
        by_contender[f"{library}, default"] = beyond(scores, 1.0)
        if change is None:
            LIMITS[library, source.name] = tuned_limit(scores, ALPHA)
        else:
            limit = LIMITS[library, source.name]
            by_contender[f"{library}, tuned on days without drift"] = beyond(scores, limit)
    log(
        f"  {name}: { {key: np.mean([bool(run) for run in runs]) for key, runs in by_contender.items()} }"
    )
    return by_contender


LIMITS: dict[tuple[str, str], float] = {}


def children(library: str, source: Days, change: str | None, args) -> list[list[float]]:
    runs = max(2, round(CHILD_RUNS * min(1, args.units / 300)))
    parts = collect(partial(child, library, source, change, runs // 2), f"{library} {change}", 2)
    return [run for part in parts for run in part]


def power(args) -> str:
    source = days()[0]
    lines = []
    for change in INJECTED:
        runs = max(2, min(POWER_RUNS, args.units))
        for contender, found in of_all(source, change, runs, args).items():
            early = np.mean([any(at < CHANGED_AT for at in run) for run in found])
            late = [
                min((at - CHANGED_AT + 1 for at in run if at >= CHANGED_AT), default=np.inf)
                for run in found
            ]
            seen = np.isfinite(late).mean()
            median = np.median(late)
            shown = f"{median:.0f}" if np.isfinite(median) else "-"
            lines.append([change, contender, f"{early:.0%}", f"{seen:.0%}", shown])
    return table("| | alarm before | seen after | days, median", lines)


# --- seasons ---


def cycled(source: Days, seed: np.random.SeedSequence) -> Drawn:
    """Days of one pool, of which those of the stream come as weekdays do: Monday, Tuesday and so on."""
    rng = np.random.default_rng(seed)
    number, first = np.unique(source.day, return_index=True)
    weekday = source.weekday[first]
    parts: list[list[int]] = [[], [], []]
    of_stream = []
    for day in range(7):
        pool = rng.permutation(number[weekday == day])
        train, reference = len(pool) // 4, min(len(pool) // 2, REFERENCE // 7)
        parts[0] += pool[:train].tolist()
        parts[1] += pool[train : train + reference].tolist()
        of_stream.append(pool[train + reference :][: STREAM // 7])
    weeks = min(map(len, of_stream))
    order = [of_stream[day][week] for week in range(weeks) for day in range(7)]
    names = np.array(["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"], object)
    rows = source.rows | {"unit": source.day.astype(float), "weekday": names[source.weekday]}
    sides = (chosen(rows, np.isin(source.day, part)) for part in parts[:2])
    return Drawn(*sides, [chosen(rows, source.day == day) for day in order])


def in_season(source: Days, seed: np.random.SeedSequence) -> Alarmed:
    run = cycled(source, seed)
    number = int(seed.generate_state(1)[0])
    found = {}
    for name, stratum, unit in (
        ('unit="day", stratum="weekday"', "weekday", "unit"),
        ('unit="day"', None, "unit"),
        ('rows, stratum="weekday" (misuse)', "weekday", None),
    ):
        left_out = [key for key, used in (("weekday", stratum), ("unit", unit)) if used is None]

        def seen(rows: Rows, left_out: list[str] = left_out) -> Rows:
            return {key: column for key, column in named_units(rows).items() if key not in left_out}

        options = {} if unit is None else {"unit": unit}
        profile = mk.Profile.fit(
            seen(run.train), reference=seen(run.reference), stratum=stratum, seed=number, **options
        )
        detector = mk.Detector(profile, alpha=ALPHA, seed=number)
        found[f"modelkit, {name}"] = [
            at for at, rows in enumerate(run.stream) if detector.update(seen(rows))
        ]
    return found


def seasons(args) -> str:
    """Real days without drift that come as weekdays do: 35 days, alpha .01"""
    lines = []
    for source in days():
        if len(np.unique(source.day)) < 140:
            continue
        found = collect(partial(in_season, source), f"season {source.name}", args.units)
        for contender in found[0]:
            runs = [run[contender] for run in found]
            rate, low, high = share(sum(map(bool, runs)), len(runs))
            judged = judge(low, "at most", ALPHA) if "misuse" not in contender else ["", ""]
            lines.append(
                [
                    source.name,
                    contender,
                    f"{len(runs)}",
                    f"{rate:.1%}",
                    f"{low:.1%} to {high:.1%}",
                    *judged,
                ]
            )
        log(f"  {lines[-3:]}")
    return table(
        "| | runs | with an alarm | 95 % interval | target of the lower limit | reached", lines
    )

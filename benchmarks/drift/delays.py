"""How long until a change is seen, and how often before there was one."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from benchmarks.common.measure import judge, log, table
from benchmarks.drift.data import (
    CHANGES,
    NORMAL,
    Change,
    Concept,
    Null,
    Run,
    concepts,
    draw,
    draw_change,
    draw_concept,
    part,
    seeds,
)
from benchmarks.drift.ours import collect, watch, watch_labels
from benchmarks.drift.rivals import (
    ONLINE,
    Online,
    any_alarm,
    ask,
    fired,
    late,
    numbers,
    side_by_side,
    takes,
    tuned,
    version,
)

REFERENCE, AT, AFTER, QUIET = 10_000, 5_000, 20_000, 10_000
RUNS, WIDE_RUNS, SLOW_RUNS, NULL_RUNS, BATCHED_RUNS = 40, 10, 5, 300, 100
EVERY = 100
RATE = 0.01  # of null runs of QUIET rows with an alarm
SHORT = (200, 5_000)  # rows around the change that a slow detector is shown; it keeps but 100
OURS = ("modelkit, ever", "modelkit, arl", "modelkit, material")
RIVER = ("ADWIN", "PageHinkley", "KSWIN")
Alarms = dict[str, list[int]]


class Tuned(NamedTuple):
    """A value of a detector's parameter, and the share of null runs with an alarm, None where a formula gave it."""

    value: float
    rate: float | None

    def __str__(self) -> str:
        return f"{self.value:.2g}" if self.rate is None else f"{self.value:.2g}: {self.rate:.1%}"


class Delay(NamedTuple):
    """Rows from the change to the first alarm after it, and the share of runs with one before."""

    rows: np.ndarray
    early: float

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    @property
    def miss(self) -> float:
        return float(np.isinf(self.rows).mean())

    def quantile(self, q: float) -> float:
        return float(np.quantile(self.rows, q, method="higher"))

    def __str__(self) -> str:
        if self.miss == 1:
            return "-"
        return f"{shown(self.median)} / {shown(self.quantile(0.9))} / {self.miss:.0%}"


def shown(rows: float) -> str:
    return "-" if np.isinf(rows) else f"{rows:,.0f}"


def delay(runs: Iterable[list[int]]) -> Delay:
    runs = list(runs)
    rows = [min((row - AT for row in alarms if row > AT), default=np.inf) for alarms in runs]
    return Delay(
        np.array(rows), float(np.mean([any(row <= AT for row in alarms) for alarms in runs]))
    )


def gathered(runs: Sequence[Alarms]) -> dict[str, Delay]:
    return {name: delay(run[name] for run in runs) for name in runs[0]}


def dummies() -> Alarms:
    return {"never": [], f"every {EVERY}": list(range(EVERY, AT + AFTER + 1, EVERY))}


# --- tuning ---


def quiet_columns(source: Null | Concept, seed: np.random.SeedSequence) -> list[np.ndarray]:
    """What a river detector sees of a run without a change."""
    if isinstance(source, Concept):
        return [draw_concept(source, REFERENCE, QUIET, 0, seed)[1].errors]
    return numbers(draw(source, 1, QUIET, seed).live)


def alarmed(
    source: Null | Concept, one: Online, value: float, seed: np.random.SeedSequence
) -> bool:
    return any_alarm(one, value, quiet_columns(source, seed))


def tune(source: Null | Concept, args) -> dict[str, Tuned]:
    """For each detector of river, the loosest value at which at most one null run in a hundred has an alarm."""
    found = {}
    for one in ONLINE:
        if not takes(one, quiet_columns(source, next(seeds("tuning")))):
            continue
        if (
            one.slow and source is NORMAL
        ):  # its alpha is that of one test, and there is one for each row
            found[one.name] = Tuned(RATE / QUIET, None)
        if not one.ladder:
            continue
        rates: dict[float, float] = {}
        runs = scaled(NULL_RUNS // 2 if one.binary else NULL_RUNS, args)

        def rate(
            value: float, one: Online = one, rates: dict[float, float] = rates, runs: int = runs
        ) -> float:
            rates[value] = float(
                np.mean(collect(partial(alarmed, source, one, value), "tuning", runs))
            )
            return rates[value]

        value = tuned(one, rate, RATE)
        if value is not None:
            found[one.name] = Tuned(value, rates[value])
    return found


def our_rates(null: Null, args) -> dict[str, str]:
    """The share of null runs with an alarm of each kind."""
    runs = collect(partial(ours_quiet, null), "tuning", scaled(NULL_RUNS, args))
    return {name: f"{np.mean([bool(run[name]) for run in runs]):.1%}" for name in OURS}


def ours_quiet(null: Null, seed: np.random.SeedSequence) -> Alarms:
    return ours(null, draw(null, REFERENCE, QUIET, seed), seed)


def scaled(runs: int, args, least: int = 10) -> int:
    return max(least, round(runs * min(1, args.minutes / 5)))


# --- changes ---


def ours(null: Null, run: Run, seed: np.random.SeedSequence) -> Alarms:
    ever = watch(null, run, seed)
    arl = watch(null, run, seed, guarantee="arl")
    return {
        OURS[0]: [alarm.row for alarm in ever if alarm.kind == "changed"],
        OURS[1]: [alarm.row for alarm in arl if alarm.kind == "changed"],
        OURS[2]: [alarm.row for alarm in ever if alarm.kind == "material"],
    }


def quick(change: Change, values: dict[str, Tuned], seed: np.random.SeedSequence) -> Alarms:
    """modelkit, the quick detectors of river, and the dummies, all on one run."""
    run = draw_change(change, REFERENCE, AT, AFTER, seed)
    return ours(change.null, run, seed) | river(values, numbers(run.live)) | dummies()


def slow(change: Change, values: dict[str, Tuned], seed: np.random.SeedSequence) -> Alarms:
    """Only as tuned, and only near the change: the default has alarms all the time."""
    start, stop = AT - SHORT[0], AT + SHORT[1]
    columns = numbers(part(draw_change(change, REFERENCE, AT, AFTER, seed).live, start, stop))
    found = {
        one.name: fired(partial(one.make, values[one.name].value), columns, SHORT[0])
        for one in ONLINE
        if one.slow
    }
    return {f"{name}, tuned": [row + start for row in rows] for name, rows in found.items()}


def river(values: dict[str, Tuned], columns: list[np.ndarray]) -> Alarms:
    """At their defaults, and as tuned."""
    found: Alarms = {}
    for one in ONLINE:
        if not one.slow and takes(one, columns):
            found[one.name] = fired(partial(one.make, one.default), columns, until=AT)
            if one.name in values:
                found[f"{one.name}, tuned"] = fired(
                    partial(one.make, values[one.name].value), columns, until=AT
                )
    return found


def in_batches(library: str, method: str, args) -> dict[str, dict[str, Delay]]:
    """By change, a library that is shown batches, at its default limits and at limits tuned on null runs."""
    changes = {change.name: change for change in CHANGES if not change.null.wide}
    nulls = {change.null.name: change.null for change in changes.values()}
    quiet = collect(
        partial(null_scores, library, method, nulls), "tuning", scaled(BATCHED_RUNS // 25, args, 2)
    )
    moved = collect(partial(change_scores, library, method, changes), "delays", 2)
    found = {}
    for name in moved[0]:
        peaks = [max(run) for part in quiet for run in part[changes[name].null.name]]
        limit = max(1e-300, float(np.quantile(peaks, 1 - RATE, method="higher")))
        runs = [run for part in moved for run in part[name]]
        found[name] = {
            library: delay(late(run) for run in runs),
            f"{library}, tuned": delay(late(run, limit) for run in runs),
        }
    return found


def null_scores(library, method, nulls, seed, runs=25):
    drawn = (
        {name: draw(null, REFERENCE, QUIET, s) for name, null in nulls.items()}
        for s in seed.spawn(runs)
    )
    return ask(library, method, [side_by_side(run) for run in drawn])


def change_scores(library, method, changes, seed, runs=10):
    drawn = (
        {name: draw_change(change, REFERENCE, AT, AFTER, s) for name, change in changes.items()}
        for s in seed.spawn(runs)
    )
    return {
        name: found
        for name, found in ask(library, method, [side_by_side(run) for run in drawn]).items()
        if name in changes
    }


def measured(args) -> tuple[dict[str, dict[str, Delay]], str]:
    """By change and contender, and a table of what was tuned how."""
    found: dict[str, dict[str, Delay]] = {}
    tuning = []
    for null in dict.fromkeys(change.null for change in CHANGES):
        values = {} if null.wide else tune(null, args)
        if not null.wide:
            tuning.append(
                [
                    null.name,
                    *our_rates(null, args).values(),
                    *(str(values.get(name, "")) for name in RIVER),
                ]
            )
            log(f"  {tuning[-1]}")
        for change in (one for one in CHANGES if one.null is null):
            runs = scaled(WIDE_RUNS if null.wide else RUNS, args)
            found[change.name] = gathered(
                collect(partial(quick, change, values), change.name, runs)
            )
            if "KSWIN" in values:
                found[change.name] |= gathered(
                    collect(partial(slow, change, values), change.name, SLOW_RUNS)
                )
            log(
                f"  {change.name}: { {name: str(one) for name, one in found[change.name].items()} }"
            )
    for library, method in (("evidently", "preset"), ("nannyml", "univariate")):
        if version(library) is None:
            continue
        for name, delays in in_batches(library, method, args).items():
            found[name] |= delays
        log(f"  {library}")
    return found, table(" | ".join(["rows without a change", *OURS, *RIVER]), tuning)


def delays(args) -> str:
    """Delay until a change is seen, in rows"""
    found, tuning = measured(args)
    rivals = [f"{name}, tuned" for name in (*RIVER, "evidently", "nannyml")]
    names = [*OURS, "ADWIN", *rivals, *dummies()]
    strict = [
        [change, *(cell(one, name) for name in names), *verdict(change, one)]
        for change, one in found.items()
    ]
    loose = ["ADWIN", "PageHinkley", "evidently", "nannyml", f"every {EVERY}"]
    plain = [
        [change, *(cell(one, name, early=True) for name in loose)] for change, one in found.items()
    ]
    return "\n\n".join(
        [
            table(" | ".join(["", *names, "arl / ADWIN, tuned", "target", "reached"]), strict),
            "The value that each was tuned to, and the share of runs of 10,000 rows with an alarm:",
            tuning,
            "At their defaults, and the share of runs with an alarm before the change:",
            table(" | ".join(["", *loose]), plain),
        ]
    )


def cell(found: dict[str, Delay], name: str, *, early: bool = False) -> str:
    if name not in found:
        return ""
    return f"{found[name]}; {found[name].early:.0%}" if early else str(found[name])


def verdict(change: str, found: dict[str, Delay]) -> list[str]:
    """Within 2.2 times ADWIN on shifts of the mean, at the same rate of false alarms; and seen everywhere else."""
    if change.startswith("mean"):
        ratio = found[OURS[1]].median / found["ADWIN, tuned"].median
        return [f"{ratio:.2f}", *judge(ratio, "at most", 2.2)]
    missed = found[OURS[0]].miss
    target, reached = judge(missed, "at most", 0.05)
    return ["", f"missed {target}", reached]


# --- labels ---


def labelled(concept: Concept, values: dict[str, Tuned], seed: np.random.SeedSequence) -> Alarms:
    reference, live = draw_concept(concept, REFERENCE, AT, AFTER, seed)
    ours = {
        OURS[i]: [alarm.row for alarm in watch_labels(reference, live, seed, guarantee=guarantee)]
        for i, guarantee in enumerate(("ever", "arl"))
    }
    return ours | river(values, [live.errors]) | dummies()


def labelled_batches(
    concept: Concept, method: str, runs: int, seed: np.random.SeedSequence
) -> list[list[float]]:
    """NannyML on a model of two classes."""
    pairs = []
    for one in seed.spawn(runs):
        frames = []
        for rows in draw_concept(concept, REFERENCE, AT, AFTER, one):
            positive = np.where(rows.predicted == 1, rows.score, 1 - rows.score)
            frames.append({"score": positive, "predicted": rows.predicted, "y": rows.y})
        pairs.append(tuple(frames))
    return ask("nannyml", method, pairs)["accuracy"]


def labels(args) -> str:
    """Concept drift on real data: the model's errors, in the order in which labels arrive"""
    lines = []
    for concept in concepts():
        values = tune(concept, args)
        log(f"  {concept.name}: {values}")
        found = gathered(
            collect(partial(labelled, concept, values), concept.name, scaled(RUNS, args))
        )
        if len(np.unique(concept.before.y)) == 2 and version("nannyml"):
            for method, means in (("cbpe", "no labels"), ("performance", "with labels")):
                parts = collect(
                    partial(labelled_batches, concept, method, RUNS // 2), concept.name, 2
                )
                found[f"nannyml, {method}, {means}"] = delay(
                    late(run) for one in parts for run in one
                )
        before = concept.before.errors.mean()
        after = concept.after.errors.mean()
        rates = f"{concept.name}: errors {before:.1%} before, {after:.1%} after"
        lines += [
            [rates if name == OURS[0] else "", *labelled_line(name, one, values)]
            for name, one in found.items()
        ]
    return table(
        "| | tuned to | median / p90 / missed | alarm before the change | target | reached", lines
    )


def labelled_line(name: str, found: Delay, values: dict[str, Tuned]) -> list[str]:
    value = values[name.removesuffix(", tuned")] if name.endswith("tuned") else ""
    verdict = judge(found.miss, "at most", 0.05) if name == OURS[0] else ["", ""]
    return [name, str(value), str(found), f"{found.early:.0%}", *verdict]

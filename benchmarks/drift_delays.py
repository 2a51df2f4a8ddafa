"""How long until a change is seen, and how often before there was one."""

from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from drift_data import CHANGES, NORMAL, Change, Concept, Null, concepts, draw, draw_change, draw_concept, seeds
from drift_ours import collect, watch, watch_labels
from drift_rivals import ONLINE, Online, any_alarm, ask, fired, late, numbers, side_by_side, takes, tuned, version
from measure import judge, log, table

REFERENCE, AT, AFTER, QUIET = 10_000, 5_000, 20_000, 10_000
RUNS, SLOW_RUNS, EVERY = 40, 10, 100
RATE = 0.01  # of null runs of QUIET rows with an alarm
OURS = ("modelkit", "modelkit, material", "modelkit, arl")
Alarms = dict[str, list[int]]


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
    return Delay(np.array(rows), float(np.mean([any(row <= AT for row in alarms) for alarms in runs])))


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


def alarmed(source: Null | Concept, one: Online, value: float, seed: np.random.SeedSequence) -> bool:
    return any_alarm(one, value, quiet_columns(source, seed))


def tune(source: Null | Concept, args) -> dict[str, float | None]:
    """For each detector of river, the value at which one null run in a hundred has an alarm."""
    found = {}
    for one in ONLINE:
        if not takes(one, quiet_columns(source, next(seeds("tuning")))):
            continue
        if one.slow and source is not NORMAL:
            found[one.name] = tune(NORMAL, args)[one.name] if isinstance(source, Null) else None
            continue
        runs = scaled(60 if one.slow else 100 if wide(source) else 300, args)

        def rate(value: float, one: Online = one, runs: int = runs) -> float:
            return float(np.mean(collect(partial(alarmed, source, one, value), "tuning", runs)))

        found[one.name] = tuned(one, rate, RATE)
    return found


def wide(source: Null | Concept) -> bool:
    return isinstance(source, Null) and source.wide


def scaled(runs: int, args, least: int = 10) -> int:
    return max(least, round(runs * min(1, args.minutes / 5)))


# --- changes ---


def quick(change: Change, values: dict[str, float | None], seed: np.random.SeedSequence) -> Alarms:
    """modelkit, the quick detectors of river, and the dummies, all on one run."""
    run = draw_change(change, REFERENCE, AT, AFTER, seed)
    ever = watch(change.null, run, seed)
    arl = watch(change.null, run, seed, guarantee="arl")
    alarms = {
        OURS[0]: [alarm.row for alarm in ever if alarm.kind == "changed"],
        OURS[1]: [alarm.row for alarm in ever if alarm.kind == "material"],
        OURS[2]: [alarm.row for alarm in arl if alarm.kind == "changed"],
    }
    return alarms | river(values, numbers(run.live), slow=False) | dummies()


def slow(change: Change, values: dict[str, float | None], seed: np.random.SeedSequence) -> Alarms:
    return river(values, numbers(draw_change(change, REFERENCE, AT, AFTER, seed).live), slow=True)


def river(values: dict[str, float | None], columns: list[np.ndarray], *, slow: bool) -> Alarms:
    """At their defaults, and as tuned."""
    found: Alarms = {}
    for one in ONLINE:
        if one.slow is slow and takes(one, columns):
            found[one.name] = fired(partial(one.make, one.default), columns, until=AT)
            value = values.get(one.name)
            if value is not None:
                found[f"{one.name}, tuned"] = fired(partial(one.make, value), columns, until=AT)
    return found


def in_batches(library: str, method: str, args) -> dict[str, dict[str, Delay]]:
    """By change, a library that is shown batches, at its default limits and at limits tuned on null runs."""
    changes = {change.name: change for change in CHANGES if not change.null.wide}
    nulls = {change.null.name: change.null for change in changes.values()}
    quiet = collect(partial(null_scores, library, method, nulls), "tuning", scaled(20, args, 2))
    moved = collect(partial(change_scores, library, method, changes), "delays", scaled(4, args, 2))
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


def null_scores(library, method, nulls, seed, runs=5):
    drawn = ({name: draw(null, REFERENCE, QUIET, s) for name, null in nulls.items()} for s in seed.spawn(runs))
    return ask(library, method, [side_by_side(run) for run in drawn])


def change_scores(library, method, changes, seed, runs=5):
    drawn = (
        {name: draw_change(change, REFERENCE, AT, AFTER, s) for name, change in changes.items()}
        for s in seed.spawn(runs)
    )
    return {
        name: found
        for name, found in ask(library, method, [side_by_side(run) for run in drawn]).items()
        if name in changes
    }


@cache
def measured(minutes: float, runs: int) -> dict[str, dict[str, Delay]]:
    """By change and contender."""
    from argparse import Namespace

    args = Namespace(minutes=minutes, runs=runs)
    found: dict[str, dict[str, Delay]] = {}
    for null in dict.fromkeys(change.null for change in CHANGES):
        values = tune(null, args)
        log(f"  {null.name}: {values}")
        for change in (one for one in CHANGES if one.null is null):
            found[change.name] = gathered(collect(partial(quick, change, values), change.name, scaled(RUNS, args)))
            if "KSWIN" in values:
                part = collect(partial(slow, change, values), change.name, scaled(SLOW_RUNS, args))
                found[change.name] |= gathered(part)
            log(f"  {change.name}: { {name: str(one) for name, one in found[change.name].items()} }")
    for library, method in (("evidently", "preset"), ("nannyml", "univariate")):
        if version(library) is None:
            continue
        for name, delays in in_batches(library, method, args).items():
            found[name] |= delays
    return found


def delays(args) -> str:
    """Delay where one null run of 10,000 rows in a hundred has an alarm"""
    found = measured(args.minutes, args.runs)
    names = [
        *OURS[:2],
        *(f"{name}, tuned" for name in ("ADWIN", "PageHinkley", "KSWIN", "evidently", "nannyml")),
        *dummies(),
    ]
    lines = [
        [change, *(cell(found[change], name) for name in names), *verdict(change, found[change])] for change in found
    ]
    return table(" | ".join(["", *names, "target", "reached"]), lines)


def defaults(args) -> str:
    """The same at defaults, with the share of runs that had an alarm before the change"""
    found = measured(args.minutes, args.runs)
    names = [OURS[2], "ADWIN", "PageHinkley", "KSWIN", "evidently", "nannyml", f"every {EVERY}"]
    lines = [[change, *(cell(found[change], name, early=True) for name in names)] for change in found]
    return table(" | ".join(["", *names]), lines)


def cell(found: dict[str, Delay], name: str, *, early: bool = False) -> str:
    if name not in found:
        return ""
    return f"{found[name]}; {found[name].early:.0%}" if early else str(found[name])


def verdict(change: str, found: dict[str, Delay]) -> list[str]:
    """Within 2.2 times ADWIN on shifts of the mean, and seen everywhere else."""
    ours, adwin = found[OURS[0]], found["ADWIN, tuned"]
    if change.startswith("mean"):
        return judge(round(ours.median / adwin.median, 2), "at most", 2.2)
    return judge(ours.miss, "at most", 0.05)


# --- labels ---


def labelled(concept: Concept, values: dict[str, float | None], seed: np.random.SeedSequence) -> Alarms:
    reference, live = draw_concept(concept, REFERENCE, AT, AFTER, seed)
    alarms = watch_labels(reference, live, seed)
    ours = {"modelkit": [alarm.row for alarm in alarms if alarm.kind == "performance"]}
    return ours | river(values, [live.errors], slow=False) | dummies()


def labelled_batches(concept: Concept, method: str, seed: np.random.SeedSequence) -> Alarms:
    """NannyML on a model of two classes."""
    frames = []
    for part in draw_concept(concept, REFERENCE, AT, AFTER, seed):
        positive = np.where(part.predicted == 1, part.score, 1 - part.score)
        frames.append({"score": positive, "predicted": part.predicted, "y": part.y})
    return {"": late(ask("nannyml", method, [tuple(frames)])["accuracy"][0])}


def labels(args) -> str:
    """Concept drift on real data: the model's errors, in the order in which labels arrive"""
    lines = []
    for concept in concepts():
        values = tune(concept, args)
        log(f"  {concept.name}: {values}")
        found = gathered(collect(partial(labelled, concept, values), concept.name, scaled(RUNS, args)))
        two = len(np.unique(concept.before.y)) == 2
        for method, means in (("cbpe", "no labels"), ("performance", "with labels")):
            if two and version("nannyml"):
                part = collect(partial(labelled_batches, concept, method), concept.name, scaled(RUNS, args))
                found[f"nannyml, {method}, {means}"] = gathered(part)[""]
        rates = f"errors {concept.before.errors.mean():.1%} before, {concept.after.errors.mean():.1%} after"
        for name, one in found.items():
            value = values.get(name.removesuffix(", tuned"))
            lines.append(
                [
                    f"{concept.name}, {rates}" if name == "modelkit" else "",
                    name,
                    shown_value(name, value),
                    str(one),
                    f"{one.early:.0%}",
                ]
            )
    return table("| | tuned to | median / p90 / missed | alarm before the change", lines)


def shown_value(name: str, value: float | None) -> str:
    return f"{value:g}" if name.endswith("tuned") and value is not None else ""

"""The words of a report, each once, for its text, its card and its page.

They are for readers who are not statisticians. Nothing here is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import floor, isfinite, log10

from modelkit.drift.effects import largest_move
from modelkit.drift.row_times import second_text
from modelkit.drift.units import count_of
from modelkit.drift.values import Alarm, Effect, FeatureDrift, Performance, SegmentDrift

MOST_NAMED = 4  # features in a sentence
USUAL = 0.5  # above it the odds say nothing
CERTAIN = 1e-6  # below it the odds are not counted any more
CHANGES_AGAIN = {
    "changed": "has changed again since its last alarm was acknowledged",
    "material": "differs from the reference by more than its last alarm showed",
    "performance": "shows that the model is worse than the last alarm showed",
}
CHANGES = {
    "changed": "is no longer like the reference",
    "material": "differs from the reference by more than the tolerance",
    "performance": "shows that the model is worse, by more than the tolerance",
}
SERIOUS = ("performance", "material", "changed")  # the most serious first
FIND_OUT = (
    "find out where these values come from: a new source, another unit or default, or other "
    "customers. If it is a fault, repair it. If the world has changed, measure the model on recent "
    "labels, and retrain it or take a new reference."
)
ADVICE = {
    "changed": (
        "Look at it when there is time: this kind of alarm also finds changes that are too small "
        "to matter."
    ),
    "material": f"F{FIND_OUT[1:]}",
    "performance": (
        "Measure the model on recent labels; go back to the version before, or retrain it."
    ),
}
NO_ALARM = "No alarm was raised in this span"  # its rows may differ all the same
CELL_WORDS = {
    "(missing)": "missing values",
    "(new)": "categories that training did not know",
    "(other)": "all rarer categories",
}
NOUNS = {"time": "times", "text": "lengths"}


# Names and numbers.


def name_of(value: Alarm | FeatureDrift) -> str:
    """The feature of an alarm or of findings, with its stratum."""
    return value.feature if value.stratum is None else f"{value.feature} (stratum {value.stratum})"


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence, the first four at most."""
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED:,} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def percent(share: float) -> str:
    """A share in words of at most seven characters."""
    if not isfinite(share):
        return "unknown"
    if 0 < share < 0.001:
        return "<0.1 %"
    if share < 0.1:
        return f"{100 * share:.3g} %"
    return f"{100 * share:.0f} %"


def odds(p: float) -> str:
    """A p-value as one in so many, rounded so that it promises no more than p does."""
    if not isfinite(p) or p > USUAL:
        return "nothing unusual"
    if p < CERTAIN:
        return "fewer than 1 in 1,000,000"
    times = 1 / p
    unit = 10 ** max(floor(log10(times)) - 1, 0)
    return f"1 in {floor(times / unit) * unit:,}"


def p_value(p: float | None) -> str:
    """A p-value; one that was not computed is a dash."""
    return "-" if p is None else f"{p:.2g}"


def with_rest(lines: Sequence[str], total: int, noun: str) -> list[str]:
    """Lines, and one that counts those that are not shown."""
    left = total - len(lines)
    return [*lines, f"and {count_of(left, f'more {noun}')}"] if left else [*lines]


# Alarms and tests.


def change_text(alarm: Alarm) -> str:
    """How a feature with an alarm has changed."""
    return (CHANGES_AGAIN if alarm.again else CHANGES).get(alarm.kind, alarm.kind)


def since_text(alarm: Alarm) -> str:
    """Since when the rows differ, as the alarm estimates it."""
    if alarm.began_time is not None:
        return f"about {second_text(alarm.began_time)} UTC"
    if alarm.began is None:
        return "an unknown row"
    if alarm.began <= 0:
        return "the first row"
    return f"about row {alarm.began:,}"


def raised_text(alarm: Alarm, kind: str) -> str:
    """When an alarm was raised, and since when the rows differ."""
    if kind == "batch":
        return ""
    came = f"at row {alarm.row:,}"
    if alarm.unit is not None:
        came = f"with {alarm.unit}"
    elif alarm.time is not None:
        came = f"at {second_text(alarm.time)} UTC, row {alarm.row:,}"
    if alarm.began is None and alarm.began_time is None:
        return f"The alarm came {came}."
    return f"The change began at {since_text(alarm)}; the alarm came {came}."


def evidence_text(alarm: Alarm, kind: str) -> str:
    """How sure an alarm is."""
    sets = "batches" if kind == "batch" else "streams"
    return (
        f"Of {sets} without such a change, {odds(alarm.p)} would look like this; an alarm takes "
        f"{odds(alarm.level)} ({alarm.statistic}, p {alarm.p:.2g}, level {alarm.level:.2g})."
    )


def alarm_text(alarm: Alarm, kind: str) -> str:
    """How the feature of an alarm has changed, by how much, and when the alarm was raised."""
    size = "" if alarm.effect is None else f": {alarm.effect}"
    return f"{change_text(alarm)}{size}. {raised_text(alarm, kind)}".rstrip()


def tests_of(drift: FeatureDrift) -> dict[str, float]:
    """The p-values of a feature by name; those that were not computed are left out."""
    named = {"any change": drift.p_changed, "beyond the tolerance": drift.p_material}
    return {name: p for name, p in named.items() if p is not None}


def tests_text(drift: FeatureDrift, kind: str) -> str:
    """The p-values of a feature in a line.

    They also say that no recent row has the feature, such as an output that no call asked for.
    """
    tests = tests_of(drift)
    result = "not tested"
    if tests and kind == "stream":
        each = ", ".join(f"{p_value(p)} ({name})" for name, p in tests.items())
        result = f"anytime p{rests_on(drift)}: {each}"
    elif tests:
        p = p_value(drift.p_changed)
        result = f"exact p{rests_on(drift)}, adjusted for all features: {p}"
    return result if drift.rows else f"{result}; no recent row has it"


def rests_on(drift: FeatureDrift) -> str:
    """The numbers of rows behind the p-values."""
    return f" of {count_of(drift.compared, 'row')} against {drift.reference_rows:,}"


# Where a change is, and what the model is worth.


def segments_text(group: Sequence[SegmentDrift], alpha: float) -> str:
    """In which segments of one column a feature has changed."""
    feature, by = group[0].feature, group[0].by
    names = [drift.segment for drift in group]
    moved = [drift.segment for drift in group if drift.p <= alpha]
    if not moved:
        return (
            f"no single segment of {by} shows a change in {feature}: the mix of segments may have "
            "changed, or each segment has too few rows"
        )
    if len(moved) == len(names):
        return f"{feature} has changed in every segment of {by}"
    rest = count_of(len(names) - len(moved), "other")
    return f"{feature} has changed in {by} {listed(moved)}, and not visibly in {rest}"


def grouped(segments: Sequence[SegmentDrift]) -> list[list[SegmentDrift]]:
    """The segments of each feature and column, which stand together."""
    groups = groupby(segments, key=lambda drift: (drift.feature, drift.by))
    return [[*group] for _, group in groups]


def performance_texts(performance: Performance) -> Iterator[str]:
    """What is known of the performance."""
    if performance.loss is not None:
        labelled = count_of(performance.labelled, "labelled row")
        yield f"{Effect('mean loss', *performance.loss)} of {labelled}"
    if performance.baseline is not None:
        yield f"{Effect('mean loss', *performance.baseline)} of the reference"
    of_class = f" of {performance.positive}" if performance.positive else ""
    for name, values in performance.estimated.items():
        named = name if name == "accuracy" else f"{name}{of_class}"
        yield f"estimated {Effect(named, *values)} without labels"
    if performance.unsupported is not None:
        yield f"do not rely on the estimates: {performance.unsupported}"


# The first sentence, and what to do.


def headline(
    alarms: Sequence[Alarm], features: Sequence[FeatureDrift], kind: str, rows: int, alpha: float
) -> str:
    """What changed, since when and by how much; without an alarm, what the rows show.

    `features` are in the order of their rank.
    """
    if alarms:
        return _alarms_sentence(alarms, features, kind)
    counted = count_of(rows, "row")
    if kind != "span":
        calm = f"Nothing in {counted} shows a difference from the reference."
        return f"No alarm. {calm if rows else 'No rows have come yet.'}"
    differ = _differing(features, alpha)
    if differ is None:
        return f"{NO_ALARM}. Its {counted} are described, not tested."
    if not differ:
        return f"{NO_ALARM}. Nothing in its {counted} shows a difference from the reference."
    names = listed([*map(name_of, differ)])
    verb = "differs" if len(differ) == 1 else "differ"
    return f"{NO_ALARM}, but {names} {verb} from the reference in its {counted}."


def _alarms_sentence(alarms: Sequence[Alarm], features: Sequence[FeatureDrift], kind: str) -> str:
    first = _most_serious(alarms, features)
    drift = next((each for each in features if name_of(each) == name_of(first)), None)
    what = f"{name_of(first)} {change_text(first)}"
    if first.kind == "performance":
        than = " than its last alarm showed" if first.again else ", by more than the tolerance"
        what = f"The model is worse{than}"
    since = "" if kind == "batch" else f", since {since_text(first)}"
    sentences = [f"{what}{since}: {_how_much(first, drift, kind)}."]
    if kind == "stream" and drift is not None and _is_over(drift):
        sentences.append("Its latest rows no longer differ.")
    others = [name for name in dict.fromkeys(map(name_of, alarms)) if name != name_of(first)]
    if others:
        verb = "has" if len(others) == 1 else "have"
        sentences.append(f"{listed(others)} {verb} an alarm too.")
    return " ".join(sentences)


def _most_serious(alarms: Sequence[Alarm], features: Sequence[FeatureDrift]) -> Alarm:
    """The alarm of the most serious kind, of the feature that ranks first, the latest.

    Alarms of features whose rows are like the reference by now come after all others.
    """
    known = {name_of(drift): (_is_over(drift), rank) for rank, drift in enumerate(features)}

    def order(alarm: Alarm) -> tuple[bool, int, int]:
        over, rank = known.get(name_of(alarm), (False, len(known)))
        return over, SERIOUS.index(alarm.kind), rank

    return min(reversed(alarms), key=order)


def _is_over(drift: FeatureDrift) -> bool:
    """Whether the latest rows of a feature show no difference."""
    return bool(drift.rows and drift.effects and drift.effects[0].low <= 0)


def _how_much(alarm: Alarm, drift: FeatureDrift | None, kind: str) -> str:
    """How far the feature of an alarm is from the reference now, in shares of rows if known."""
    if alarm.effect is not None and alarm.kind == "performance":
        rows = "" if alarm.rows is None else f" of {count_of(alarm.rows, 'labelled row')}"
        return f"the mean loss{rows} is {alarm.effect.value:.3g}"
    move = None if drift is None else move_text(drift, kind)
    if move is not None:
        return move
    return "the size is unknown" if alarm.effect is None else f"{alarm.effect} at the alarm"


def _differing(features: Sequence[FeatureDrift], alpha: float) -> list[FeatureDrift] | None:
    """The features whose p-value is at most alpha; None without tests."""
    tested = [(drift, drift.p_changed) for drift in features if drift.p_changed is not None]
    return [drift for drift, p in tested if p <= alpha] if tested else None


def is_calm(features: Sequence[FeatureDrift], kind: str, alpha: float) -> bool:
    """Whether rows without an alarm are like the reference; the alarm of a span may have come before it."""
    return kind != "span" or _differing(features, alpha) == []


def advice(
    alarms: Sequence[Alarm], features: Sequence[FeatureDrift], kind: str, alpha: float, checks: int
) -> str:
    """What to do."""
    counted = count_of(checks, "data check")
    if alarms:
        first = _most_serious(alarms, ())
        steps = ADVICE[first.kind]
        if first.unit is not None and first.kind == "changed":
            steps = f"Look at its size first: small changes raise an alarm too. If it matters: {FIND_OUT}"
        return f"What to do: {steps}" + (f" Begin with {counted} below." if checks else "")
    if not is_calm(features, kind, alpha):
        return (
            "What to do: read the report of the whole stream. The alarm may have come before this "
            "span, because a change raises each kind of alarm once."
        )
    if not checks:
        return "There is nothing to do. This does not prove that nothing changed."
    return (
        f"Read {counted} below: a check never raises an alarm, but may matter. A report without an alarm "
        "does not prove that nothing changed."
    )


# How far rows moved.


def move_text(drift: FeatureDrift, kind: str) -> str | None:
    """The values whose share of the rows moved most, in words; None where no share is known.

    Shares have as many digits as they need.
    """
    move = largest_move(drift)
    if move is None:
        return None
    latest = "latest " if kind == "stream" else ""
    rows = f"the {latest}{count_of(drift.rows, 'row')}"
    old, new = percent(move.old), percent(move.new)
    if old == new:
        old, new = f"{100 * move.old:.3g} %", f"{100 * move.new:.3g} %"
    if old == new:
        return f"no share of {rows} differs by more than 0.1 %"
    which = CELL_WORDS.get(move.label, f'those with "{move.label[:40]}"')
    if move.until:
        which = f"{NOUNS.get(drift.kind, 'values')} up to {move.label.replace('T', ' ')}"
    return f"{which} went from {old} to {new} of {rows}"

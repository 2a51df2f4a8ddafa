"""The words of a report, each once, for its text, its card and its page.

They are for readers who are no statisticians. Nothing here is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor, isfinite, log10

from modelkit.drift.row_times import second_text
from modelkit.drift.values import Alarm, Effect, FeatureDrift, Performance, SegmentDrift

MOST_NAMED = 4  # features in a sentence
USUAL = 0.5  # above it the odds say nothing
CERTAIN = 1e-6  # below it the odds are not counted any more
CHANGES_AGAIN = {
    "changed": "is no longer like its rows since the alarm before was acknowledged",
    "material": "differs from the reference by more than the alarm before showed",
    "performance": "shows that the model has become worse than the alarm before showed",
}
CHANGES = {
    "changed": "is no longer like the reference",
    "material": "differs from the reference by more than the tolerance",
    "performance": "shows that the model has become worse, by more than the tolerance",
}


# Names and numbers.


def name_of(value: Alarm | FeatureDrift) -> str:
    """The feature of an alarm or of findings, with its stratum."""
    return value.feature if value.stratum is None else f"{value.feature} (stratum {value.stratum})"


def count_of(n: int, noun: str) -> str:
    """A number with its noun, such as "3 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


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


def interval(values: tuple[float, float, float]) -> str:
    """A number and its interval, where it has one."""
    value, low, high = values
    if isfinite(low) and isfinite(high):
        return f"{value:.3g} [{low:.3g}, {high:.3g}]"
    return f"{value:.3g}"


def effect_text(size: Effect) -> str:
    """An effect size and its interval."""
    return f"{size.name} {interval((size.value, size.low, size.high))}"


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


def began_text(drift: FeatureDrift, alarm: Alarm | None) -> str | None:
    """Since when a feature differs: as its alarm says, or else as its evidence suggests."""
    if alarm is not None:
        known = alarm.began is not None or alarm.began_time is not None
        return since_text(alarm) if known else None
    if drift.began is None:
        return None
    return f"about row {drift.began:,}" if drift.began > 0 else "the first row"


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
    size = "" if alarm.effect is None else f": {effect_text(alarm.effect)}"
    return f"{change_text(alarm)}{size}. {raised_text(alarm, kind)}".rstrip()


def tests_of(drift: FeatureDrift) -> dict[str, float]:
    """The p-values of a feature by name; those that were not computed are left out."""
    named = {"any change": drift.p_changed, "beyond the tolerance": drift.p_material}
    return {name: p for name, p in named.items() if p is not None}


def tests_text(drift: FeatureDrift, kind: str) -> str:
    """The p-values of a feature in a line.

    It says where no recent row has it, as an output that nobody asked for.
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
    """How many rows the p-values are of."""
    return f" of {drift.compared:,} rows against {drift.reference_rows:,}"


# Where a change is, and what the model is worth.


def segments_text(group: Sequence[SegmentDrift], alpha: float) -> str:
    """In which segments of one column a feature has changed."""
    feature, by = group[0].feature, group[0].by
    names = [drift.segment for drift in group]
    hit = [drift.segment for drift in group if drift.p <= alpha]
    if not hit:
        return (
            f"{feature} has changed in no segment of {by} by itself: the mix of segments may have, "
            "or each has too few rows"
        )
    if len(hit) == len(names):
        return f"{feature} has changed in every segment of {by}"
    rest = count_of(len(names) - len(hit), "other")
    return f"{feature} has changed in {by} {listed(hit)}; nothing shows in {rest}"


def grouped(segments: Sequence[SegmentDrift]) -> list[list[SegmentDrift]]:
    """The segments of each feature and column."""
    groups: dict[tuple[str, str], list[SegmentDrift]] = {}
    for drift in segments:
        groups.setdefault((drift.feature, drift.by), []).append(drift)
    return [*groups.values()]


def figures(performance: Performance) -> Iterator[tuple[str, tuple[float, float, float], str]]:
    """What is known of the performance: a name, (value, low, high), and of or by what."""
    if performance.loss is not None:
        yield "mean loss", performance.loss, f"of {count_of(performance.labelled, 'labelled row')}"
    if performance.baseline is not None:
        yield "mean loss", performance.baseline, "of the reference"
    for name, values in performance.estimated.items():
        yield f"estimated {performance.title(name)}", values, "without labels"


def performance_text(performance: Performance) -> str:
    """The performance in a line."""
    parts = [f"{name} {interval(values)} {of}" for name, values, of in figures(performance)]
    if performance.unsupported is not None:
        parts.append(f"estimates not to be relied on: {performance.unsupported}")
    return "; ".join(parts) or "nothing known of the performance"

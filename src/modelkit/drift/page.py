"""The parts of a report's page, in the words of `words` and with the charts of `charts`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelkit.drift import charts, words
from modelkit.drift.units import count_of
from modelkit.drift.values import (
    Acknowledgement,
    Alarm,
    DriftCheck,
    FeatureDrift,
    Performance,
    SegmentDrift,
)
from modelkit.report.html import (
    Markup,
    bullets,
    element,
    facts_list,
    joined,
    more,
    part,
    section,
    table,
)

MOST_CHARTS = 20
MOST_ALARMS = 30
MOST_CHECKS = 60
MOST_REST = 400  # rows of the table of features that have no chart
MOST_SEGMENTS = 12  # of one feature and column in a table
AXES = "up: share of rows; across: the values, in steps of about equally many training rows"
WORDS = (
    ("reference", "rows of the past that the model was not trained on"),
    ("recent rows", "the last 1,024 rows or the last 8 whole units, or the whole batch"),
    ("any change", "how often rows without a change would look like this, once in a whole stream"),
    ("beyond the tolerance", "the same, for rows that differ by no more than the tolerance"),
    ("p", "the same as a number: 0.001 is 1 in 1,000"),
    ("alpha", "how often you accept a false alarm; features, kinds and strata share it"),
    ("share of alpha", "how much of it a feature has: it grows with the importance you give it"),
    ("ks", "the largest difference between the shares of rows up to one value"),
    ("tv", "the share of rows that would have to change for both to agree"),
    ("[low, high]", "where the true size lies, in 95 of 100 cases"),
)


def alarms_part(alarms: Sequence[Alarm], kind: str, guarantee: str) -> Markup:
    """All alarms in words."""
    items = []
    if len(alarms) > MOST_ALARMS:
        items.append(Markup(f"{len(alarms) - MOST_ALARMS:,} earlier ones, and"))
    for alarm in alarms[-MOST_ALARMS:]:
        evidence = words.evidence_text(alarm, kind)
        if alarm.guarantee != guarantee:
            evidence = f"{evidence} {alarm.guarantee}"
        name = element("b", words.name_of(alarm))
        how_sure = element("span", evidence, class_="soft")
        items.append(joined(name, " ", words.alarm_text(alarm, kind), " ", how_sure))
    return part(count_of(len(alarms), "alarm"), bullets(items))


def where_part(segments: Sequence[SegmentDrift], alpha: float) -> Markup:
    """A sentence and a table for each feature with an alarm and each column of segments."""
    parts: list[Markup] = []
    for group in words.grouped(segments):
        rows = []
        for drift in group:
            shares = ", ".join(map(words.percent, drift.share))
            size, p = str(drift.effect), words.p_value(drift.p)
            rows.append((drift.segment, f"{drift.rows:,}", shares, size, p))
        header = (group[0].by, "recent rows", "share of rows, before and now", "size", "p")
        shown = _rows_of(header, rows, MOST_SEGMENTS, "segments")
        parts += [element("p", words.segments_text(group, alpha)), shown]
    return part("Where the change is", *parts)


def _rows_of(
    header: Sequence[str], rows: Sequence[Sequence[str]], most: int, noun: str = ""
) -> Markup:
    """A table of the first rows, and how many more there are; nothing without rows."""
    if not rows:
        return Markup()
    return joined(table(header, rows[:most]), more(len(rows), most, noun))


def notes_part(acknowledged: Sequence[Acknowledgement]) -> Markup:
    """The alarms that somebody knows of, and why."""
    return part("Acknowledged", bullets(map(str, acknowledged)))


def performance_part(performance: Performance | None) -> Markup:
    """The loss beside the reference's, and the estimates without labels."""
    if performance is None:
        return Markup()
    return part("Performance", bullets(words.performance_texts(performance)))


def checks_part(checks: Sequence[DriftCheck]) -> Markup:
    """The plain checks, as a table."""
    rows = [
        (own.feature, own.name, own.found, own.expected, words.p_value(own.p)) for own in checks
    ]
    header = ("feature", "check", "found", "expected", "p")
    return part("Data checks", _rows_of(header, rows, MOST_CHECKS))


def features_part(features: Sequence[FeatureDrift], alarms: Sequence[Alarm], kind: str) -> Markup:
    """A chart for each of the first features, and a table of the others."""
    last = {words.name_of(alarm): alarm for alarm in alarms}
    first = features[:MOST_CHARTS]
    if not first:
        return Markup()
    sections = [_feature_section(drift, kind, last.get(words.name_of(drift))) for drift in first]
    rows = []
    for drift in features[MOST_CHARTS:]:
        tests = map(words.p_value, (drift.p_changed, drift.p_material))
        sizes = "; ".join(map(str, drift.effects))
        rows.append((words.name_of(drift), *tests, sizes))
    header = ("feature", "p, any change", "p, beyond the tolerance", "size")
    keys = [
        element("span", element("i", class_=look), name, class_="key")
        for look, name in zip(charts.LOOKS, ("reference", "recent rows"), strict=True)
    ]
    legend = element("div", *keys, element("span", AXES, class_="soft"), class_="legend")
    grid = element("div", *sections, class_="grid pair")
    drawn = part("Each feature, the strongest evidence first", legend, grid)
    return joined(drawn, part("Other features", _rows_of(header, rows, MOST_REST)))


def _feature_section(drift: FeatureDrift, kind: str, alarm: Alarm | None) -> Markup:
    """A feature with its chart; `alarm` is its last one."""
    title = words.name_of(drift)
    if alarm is not None:
        title = joined(title, " ", element("span", "alarm", class_="tag"))
    rows = count_of(drift.rows, "recent row") if drift.rows else "no recent row has it"
    tests = words.tests_of(drift)
    about = f"{drift.kind}, {rows}" + (f"; p-values{words.rests_on(drift)}" if tests else "")
    facts = {name: f"{words.odds(p)} (p {words.p_value(p)})" for name, p in tests.items()}
    if alarm is not None and kind != "batch":
        facts["since"] = words.since_text(alarm)
    facts["moved most"] = words.move_text(drift, kind) or ""
    facts["size"] = "; ".join(map(str, drift.effects))
    before, now = drift.missing
    if before or now:
        recent = words.percent(now) if drift.rows else "unknown"
        facts["missing"] = f"{words.percent(before)}, recent {recent}"
    facts["share of alpha"] = words.percent(drift.weight)
    known = [(name, fact) for name, fact in facts.items() if fact]
    return section(title, about, facts_list(known), charts.feature_chart(drift))


def promise_part(guarantee: str, assumptions: Iterable[str]) -> Markup:
    """The guarantee of the alarms, and its assumptions."""
    promise = element("p", guarantee)
    return part("How far this can be relied on", promise, bullets(assumptions))


def words_part() -> Markup:
    """The words of the page, explained."""
    return part("The words on this page", facts_list(WORDS))

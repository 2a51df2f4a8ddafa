"""The parts of a report's page, in the words of `words` and with the charts of `charts`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite, nan
from statistics import median
from typing import NamedTuple

from modelkit.drift import words
from modelkit.drift.units import count_of
from modelkit.drift.values import (
    Acknowledgement,
    Alarm,
    DriftCheck,
    FeatureDrift,
    Performance,
    SegmentDrift,
)
from modelkit.drift.words import percent
from modelkit.report import html
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
from modelkit.report.plot import Axis, Plot, text_at

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
        rows.append((words.name_of(drift), *tests, "; ".join(map(str, drift.effects))))
    header = ("feature", "p, any change", "p, beyond the tolerance", "size")
    keys = [
        element("span", element("i", class_=look), name, class_="key")
        for look, name in zip(LOOKS, ("reference", "recent rows"), strict=True)
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
    return section(title, about, facts_list(known), feature_chart(drift))


def promise_part(guarantee: str, assumptions: Iterable[str]) -> Markup:
    """The guarantee of the alarms, and its assumptions."""
    return part("How far this can be relied on", element("p", guarantee), bullets(assumptions))


def words_part() -> Markup:
    """The words of the page, explained."""
    return part("The words on this page", facts_list(WORDS))


# Charts: the shares of a feature cell by cell.

WIDTH = 480
LOOKS = ("old", "new")  # the reference, the recent rows
CELLS = "values, in cells of about equal mass in training"
ENDS = ("", "-inf", "+inf")
MOST_EDGES = 7  # that are labelled
ARROW = 44  # the width of a share with an arrow
# Times the usual cell of the reference; one value that most rows have would hide all others.
TALLEST = 8
MOST_BARS = 10
BAR = 9  # the height of a bar
GROUP = 2 * (BAR + 1) + 4  # of the bars of a category
LONGEST_NAME = 18


class Cell(NamedTuple):
    """The shares of rows in a cell; NaN where unknown, as without recent rows."""

    label: str
    old: float
    new: float

    @property
    def known(self) -> list[tuple[str, float]]:
        """The shares that are known, with their look."""
        shares = zip(LOOKS, (self.old, self.new), strict=True)
        return [(look, share) for look, share in shares if isfinite(share)]

    @property
    def about(self) -> str:
        """The shares in words."""
        return f"{self.label[:60]}: reference {percent(self.old)}, recent {percent(self.new)}"

    @property
    def most(self) -> float:
        """The largest share, 0 where none is known."""
        return max((share for _, share in self.known), default=0.0)


def feature_chart(drift: FeatureDrift) -> Markup:
    """The shares of a feature: outlines over ordered cells, or bars for each category.

    A feature that no recent row has shows the reference alone: shares of 0 would look as if it had
    vanished.
    """
    cells = [Cell(label, old, new if drift.rows else nan) for label, old, new in drift.cells]
    if drift.kind in ("category", "flag"):
        drawn, shown = _bars, [cell for cell in cells if cell.most]
    else:
        drawn, cells = _outlines, [cell for cell in cells if cell.label != "(missing)"]
        shown = [cell for cell in cells if cell.most or cell.label not in ENDS]
    name = f"{drift.feature}: shares of the reference and of the recent rows"
    return drawn(name, shown) if shown else element("p", "no values", class_="soft")


# Ordered cells.


def _outlines(name: str, cells: Sequence[Cell]) -> Markup:
    """Cells of one width side by side: the reference is an area, the recent rows an outline."""
    top = _top(cells)
    x = Axis(0, len(cells), CELLS, _edges([cell.label for cell in cells]))
    plot = Plot(x, Axis(0, top, marks=((0, "0"), (top, percent(top)))), WIDTH, 152, 52, 8, 16, 36)
    ends = [k for k in range(len(cells) + 1) for _ in range(2)]
    shares = [dict(cell.known) for cell in cells for _ in range(2)]
    outlines = [
        plot.line(ends, [0.0, *(own.get(look, 0.0) for own in shares), 0.0], look)
        for look in LOOKS
        if any(look in own for own in shares)
    ]
    hits = [plot.box((k, k + 1), (0, top), "", cell.about) for k, cell in enumerate(cells)]
    over = element("g", *hits, class_="hit")
    return plot.picture(name, *outlines, *_above(plot, cells, top), over)


def _top(cells: Sequence[Cell]) -> float:
    """The share at the top of the chart."""
    most = max(cell.most for cell in cells)
    usual = [cell.old for cell in cells if cell.old > 0] or [most]
    return min(most, TALLEST * median(usual)) or 1.0


def _above(plot: Plot, cells: Sequence[Cell], top: float) -> Iterator[Markup]:
    """The shares of cells that are taller than the chart, where these do not touch one another."""
    half = ARROW / 2
    free = float(plot.left)
    for k, cell in enumerate(cells):
        x = min(max(plot.across(k + 0.5), plot.left + half), WIDTH - half)
        if cell.most > top * 1.001 and x - half >= free:
            yield text_at(x, plot.top - 4, f"{percent(cell.most)} \N{UPWARDS ARROW}")
            free = x + half


def _edges(labels: Sequence[str]) -> list[tuple[float, str]]:
    """The edges between cells that there is room for, read from the cells' labels: (place, text)."""
    edges = [(float(k), edge) for k, label in enumerate(labels) if (edge := _lower_edge(label))]
    if not edges:
        return [(k + 0.5, html.short(label)) for k, label in enumerate(labels[:4])]
    longest = max(len(edge) for _, edge in edges)
    room = max(2, min(MOST_EDGES, int(420 / (6.5 * longest + 14))))
    chosen = {round(k * (len(edges) - 1) / (room - 1)) for k in range(room)}
    return [edges[k] for k in sorted(chosen)]


def _lower_edge(label: str) -> str:
    if label.startswith("above "):
        return label.removeprefix("above ")[:20]
    low, to, _ = label.partition(" to ")
    return low[:20] if to and low != "up" else ""


# Categories.


def _bars(name: str, cells: Sequence[Cell]) -> Markup:
    """Bars side by side for each of the categories that have the largest shares."""
    by_size = sorted(range(len(cells)), key=lambda k: -cells[k].most)
    kept = [cells[k] for k in sorted(by_size[:MOST_BARS])]
    rest = [cells[k] for k in by_size[MOST_BARS:]]
    if rest:
        old, new = (sum(shares) for shares in zip(*(cell[1:] for cell in rest), strict=True))
        kept.append(Cell(f"{len(rest)} more cells", old, new))
    height = GROUP * len(kept)
    widest = max(cell.most for cell in kept)
    axes = Axis(0, widest, marks=()), Axis(height, 0, marks=())
    plot = Plot(*axes, WIDTH, height + 8, 130, 92, 4, 4)
    groups = [_group(plot, cell, GROUP * place + 2) for place, cell in enumerate(kept)]
    return plot.picture(name, *groups)


def _group(plot: Plot, cell: Cell, y: int) -> Markup:
    """The bars of one category, between its name and the shares of all rows and the recent ones."""
    parts = [element("title", cell.about)]
    for k, (look, share) in enumerate(cell.known):
        start = y + (BAR + 1) * k
        parts.append(plot.box((0, share), (start, start + BAR), look))
    middle = y + GROUP / 2 + 2
    shares = ", ".join(percent(share) for _, share in cell.known)
    parts.append(text_at(plot.left - 6, middle, _short(html.short(cell.label)), "end"))
    parts.append(text_at(plot.across(cell.most) + 6, middle, shares, "start"))
    return element("g", *parts)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."

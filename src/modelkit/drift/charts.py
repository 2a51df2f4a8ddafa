"""Charts of a report: the shares of a feature cell by cell, and when its change began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, nan
from statistics import median
from typing import NamedTuple

from modelkit.drift.row_times import second_text
from modelkit.drift.values import Alarm, FeatureDrift
from modelkit.drift.words import name_of, percent
from modelkit.report.html import Markup, element, short
from modelkit.report.plot import Axis, Plot, text_at

WIDTH = 480
LOOKS = ("old", "new", "then")  # the reference, the recent rows, the rows of the alarm
SIDES = ("reference", "recent", "at the alarm")
CELLS = "values, in cells of about equal mass in training"
ENDS = ("", "-inf", "+inf")
MOST_EDGES = 7  # that are labelled
ARROW = 44  # the width of a share with an arrow
# Times the usual cell of the reference; one value that most rows have would hide all others.
TALLEST = 8
MOST_BARS = 10
BAR = 9  # the height of a bar
MOST_LINES = 12  # of the timeline
LONGEST_NAME = 18
LONG = 4 * 86_400.0  # seconds, from which a day says enough
SHORTEST = 3600.0  # seconds: whole hours are known, and in a single one rows say more


class Cell(NamedTuple):
    """The shares of rows in a cell, as `LOOKS`: NaN where there are no recent rows."""

    label: str
    shares: tuple[float, ...]

    @property
    def most(self) -> float:
        """The largest share, 0 where none is known."""
        return max((share for share in self.shares if isfinite(share)), default=0.0)

    @property
    def about(self) -> str:
        """The shares in words."""
        pairs = zip(SIDES, self.shares, strict=False)
        sides = [f"{side} {percent(share)}" for side, share in pairs]
        return f"{self.label[:60]}: {', '.join(sides)}"


def feature_chart(drift: FeatureDrift) -> Markup:
    """The shares of a feature: outlines over ordered cells, or bars for each category.

    Of a feature that no recent row has, the reference is drawn alone: shares of 0 would look as if
    it had vanished.
    """
    cells = _cells_of(drift)
    name = f"{drift.feature}: shares of the reference and of the recent rows"
    if drift.kind in ("category", "flag"):
        cells = [cell for cell in cells if cell.most]
        return _bars(name, cells) if cells else _no_values()
    cells = [cell for cell in cells if cell.most or cell.label not in ENDS]
    cells = [cell for cell in cells if cell.label != "(missing)"]
    return _outlines(name, cells) if cells else _no_values()


def _cells_of(drift: FeatureDrift) -> list[Cell]:
    alarmed = len(drift.at_alarm) == len(drift.cells)
    cells = []
    for k, (label, old, new) in enumerate(drift.cells):
        then = drift.at_alarm[k : k + 1] if alarmed else ()
        cells.append(Cell(label, (old, new if drift.rows else nan, *then)))
    return cells


def _no_values() -> Markup:
    return element("p", "no values", class_="soft")


# Ordered cells.


def _outlines(name: str, cells: Sequence[Cell]) -> Markup:
    """Cells of one width side by side: the reference is an area, the other rows are outlines."""
    top = _top(cells)
    x = Axis(0, len(cells), CELLS, _edges([cell.label for cell in cells]))
    plot = Plot(x, Axis(0, top, marks=((0, "0"), (top, percent(top)))), WIDTH, 152, 52, 8, 16, 36)
    ends = [k for k in range(len(cells) + 1) for _ in range(2)]
    sides = range(len(cells[0].shares))
    outlines = []
    for side in (0, *sides[:0:-1]):  # the recent rows over those of the alarm
        shares = [cell.shares[side] for cell in cells]
        if any(map(isfinite, shares)):
            heights = [share if isfinite(share) else 0.0 for share in shares for _ in range(2)]
            outlines.append(plot.line(ends, [0.0, *heights, 0.0], LOOKS[side]))
    hits = [plot.box((k, k + 1), (0, top), "", cell.about) for k, cell in enumerate(cells)]
    over = element("g", *hits, class_="hit")
    return plot.picture(name, *outlines, *_above(plot, cells, top), over)


def _top(cells: Sequence[Cell]) -> float:
    """The share at the top of the chart."""
    most = max(cell.most for cell in cells)
    usual = [cell.shares[0] for cell in cells if cell.shares[0] > 0] or [most]
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
    """Some of the edges between cells, for which there is room; the cells' words hold the edges."""
    edges = [(float(k), _lower_edge(label)) for k, label in enumerate(labels)]
    edges = [(k, text) for k, text in edges if text]
    if not edges:
        return [(k + 0.5, short(label)) for k, label in enumerate(labels[:4])]
    longest = max(len(text) for _, text in edges)
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
    kept = _largest(cells)
    pair = (BAR + 1) * len(kept[0].shares) + 4
    height = pair * len(kept)
    widest = max(cell.most for cell in kept)
    axes = Axis(0, widest, marks=()), Axis(height, 0, marks=())
    plot = Plot(*axes, WIDTH, height + 8, 130, 92, 4, 4)
    groups = []
    for place, cell in enumerate(kept):
        start = pair * place + 2
        known = [share for share in cell.shares[:2] if isfinite(share)]
        middle = start + pair / 2 + 2
        bars = [element("title", cell.about)]
        for k, (look, share) in enumerate(zip(LOOKS, cell.shares, strict=False)):
            if isfinite(share):
                y = start + (BAR + 1) * k
                bars.append(plot.box((0, share), (y, y + BAR), look))
        bars.append(text_at(plot.left - 6, middle, _short_label(cell.label), "end"))
        shares = ", ".join(map(percent, known))
        bars.append(text_at(plot.across(cell.most) + 6, middle, shares, "start"))
        groups.append(element("g", *bars))
    return plot.picture(name, *groups)


def _largest(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of the largest shares, in their order, and the sum of the others."""
    by_size = sorted(range(len(cells)), key=lambda k: -cells[k].most)
    shown = set(by_size[:MOST_BARS])
    kept = [cell for k, cell in enumerate(cells) if k in shown]
    rest = [cell.shares for k, cell in enumerate(cells) if k not in shown]
    if rest:
        kept.append(Cell(f"{len(rest)} more cells", tuple(map(sum, zip(*rest, strict=True)))))
    return kept


def _short_label(label: str) -> str:
    return label[:18] + "..." if len(label) > 20 else short(label)


# Over time.


class Span(NamedTuple):
    """From the first to the last row, in rows or in seconds since 1970."""

    first: float
    last: float
    timed: bool

    def text(self, at: float) -> str:
        """A row or a time in words; the day alone where there are many."""
        if not self.timed:
            return f"{at:,.0f}"
        return second_text(at)[:10] if self.last - self.first > LONG else second_text(at)

    def axis(self) -> Axis:
        """The axis, with its ends and its middle marked."""
        places = (self.first, (self.first + self.last) / 2, self.last)
        name = "time, UTC" if self.timed else "rows"
        return Axis(self.first, self.last, name, [(at, self.text(at)) for at in places])

    def ends(self, alarm: Alarm) -> tuple[float, float]:
        """Where the change began, and where the alarm came."""
        came = _time_of(alarm)
        if self.timed and came is not None:
            return came if alarm.began_time is None else alarm.began_time, came
        return float(alarm.row if alarm.began is None else alarm.began), float(alarm.row)


def timeline(alarms: Sequence[Alarm], rows: int, times: tuple[float, float] | None) -> Markup:
    """From where each change began to where its alarm came, a line for each feature.

    Over time where the alarms and the rows have times, else over rows: labels, which are counted
    apart from rows, are left out then.
    """
    span = _span(alarms, rows, times)
    shown = [alarm for alarm in alarms if span.timed or alarm.kind != "performance"]
    last = {name_of(alarm): alarm for alarm in shown}
    lines = [*last.items()][:MOST_LINES]
    if rows <= 0 or not lines:
        return Markup()
    marks = [(k + 0.5, _short_name(name)) for k, (name, _) in enumerate(lines)]
    y = Axis(len(lines), 0, marks=marks)
    plot = Plot(span.axis(), y, WIDTH, 22 * len(lines) + 38, 124, 14, 4, 34)
    groups = []
    for k, (name, alarm) in enumerate(lines):
        began, came = span.ends(alarm)
        about = f"{name}: began at about {span.text(began)}, alarm at {span.text(came)}"
        bars = [
            element("title", about),
            plot.box((began, came), (k + 0.3, k + 0.7), "then"),
            plot.box((came, span.last), (k + 0.4, k + 0.6), "new"),
            plot.dot(came, k + 0.5, "new"),
        ]
        groups.append(element("g", *bars))
    return plot.picture("when each change began, and when its alarm came", *groups)


def _span(alarms: Sequence[Alarm], rows: int, times: tuple[float, float] | None) -> Span:
    known = all(_time_of(alarm) is not None for alarm in alarms)
    if times is None or times[1] - times[0] <= SHORTEST or not known:
        return Span(0.0, float(rows), timed=False)
    return Span(*times, timed=True)


def _time_of(alarm: Alarm) -> float | None:
    """When an alarm came; at least when the change began, where a unit of rows was judged."""
    return alarm.began_time if alarm.time is None else alarm.time


def _short_name(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."

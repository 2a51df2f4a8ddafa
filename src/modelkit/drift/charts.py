"""Charts of a report: the shares of a feature cell by cell, and when its change began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, nan
from statistics import median
from typing import NamedTuple

from modelkit.drift.row_times import second_text
from modelkit.drift.values import Alarm, FeatureDrift
from modelkit.drift.words import name_of, percent
from modelkit.report import html
from modelkit.report.html import Markup, element
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
    def about(self) -> str:
        """The shares in words."""
        pairs = zip(SIDES, self.shares, strict=False)
        sides = [f"{side} {percent(share)}" for side, share in pairs]
        return f"{self.label[:60]}: {', '.join(sides)}"

    @property
    def most(self) -> float:
        """The largest share, 0 where none is known."""
        return max(filter(isfinite, self.shares), default=0.0)


def feature_chart(drift: FeatureDrift) -> Markup:
    """The shares of a feature: outlines over ordered cells, or bars for each category.

    Of a feature that no recent row has, the reference is drawn alone: shares of 0 would look as if
    it had vanished.
    """
    alarmed = len(drift.at_alarm) == len(drift.cells)
    cells = []
    for k, (label, old, new) in enumerate(drift.cells):
        then = drift.at_alarm[k : k + 1] if alarmed else ()
        cells.append(Cell(label, (old, new if drift.rows else nan, *then)))
    if drift.kind in ("category", "flag"):
        drawn, shown = _bars, [cell for cell in cells if cell.most]
    else:
        drawn, cells = _outlines, [cell for cell in cells if cell.label != "(missing)"]
        shown = [cell for cell in cells if cell.most or cell.label not in ENDS]
    name = f"{drift.feature}: shares of the reference and of the recent rows"
    return drawn(name, shown) if shown else element("p", "no values", class_="soft")


# Ordered cells.


def _outlines(name: str, cells: Sequence[Cell]) -> Markup:
    """Cells of one width side by side: the reference is an area, the other rows are outlines."""
    top = _top(cells)
    x = Axis(0, len(cells), CELLS, _edges([cell.label for cell in cells]))
    plot = Plot(x, Axis(0, top, marks=((0, "0"), (top, percent(top)))), WIDTH, 152, 52, 8, 16, 36)
    ends = [k for k in range(len(cells) + 1) for _ in range(2)]
    sides = [*zip(*(cell.shares for cell in cells), strict=True)]
    outlines = []
    for side in (0, *range(len(sides) - 1, 0, -1)):  # the recent rows over those of the alarm
        shares = sides[side]
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
    rest = [cells[k].shares for k in by_size[MOST_BARS:]]
    if rest:
        kept.append(Cell(f"{len(rest)} more cells", tuple(map(sum, zip(*rest, strict=True)))))
    each = (BAR + 1) * len(kept[0].shares) + 4
    height = each * len(kept)
    widest = max(cell.most for cell in kept)
    axes = Axis(0, widest, marks=()), Axis(height, 0, marks=())
    plot = Plot(*axes, WIDTH, height + 8, 130, 92, 4, 4)
    groups = [_group(plot, cell, each * place + 2) for place, cell in enumerate(kept)]
    return plot.picture(name, *groups)


def _group(plot: Plot, cell: Cell, y: int) -> Markup:
    """The bars of one category, between its name and the shares of all rows and the recent ones."""
    parts = [element("title", cell.about)]
    for k, share in enumerate(cell.shares):
        if isfinite(share):
            start = y + (BAR + 1) * k
            parts.append(plot.box((0, share), (start, start + BAR), LOOKS[k]))
    middle = y + (BAR + 1) * len(cell.shares) / 2 + 4
    shares = ", ".join(percent(share) for share in cell.shares[:2] if isfinite(share))
    parts.append(text_at(plot.left - 6, middle, _short(html.short(cell.label)), "end"))
    parts.append(text_at(plot.across(cell.most) + 6, middle, shares, "start"))
    return element("g", *parts)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."


# Over time.


def timeline(alarms: Sequence[Alarm], rows: int, times: tuple[float, float] | None) -> Markup:
    """From where each change began to where its alarm came, a line for each feature.

    Over time where the alarms and the rows have times, else over rows; labels are counted apart.
    """
    first, last = times or (0.0, 0.0)
    timed = last - first > SHORTEST and all(_ends(alarm, timed=True) for alarm in alarms)
    if not timed:
        first, last = 0.0, float(rows)
    places = {name_of(alarm): _ends(alarm, timed=timed) for alarm in alarms}
    lines = [(name, *ends) for name, ends in places.items() if ends][:MOST_LINES]
    return _lines(lines, first, last, timed=timed) if rows > 0 and lines else Markup()


def _lines(
    lines: Sequence[tuple[str, float, float]], first: float, last: float, *, timed: bool
) -> Markup:
    """A line for each name, with where its change began and where its alarm came."""

    def text(at: float) -> str:
        if not timed:
            return f"{at:,.0f}"
        return second_text(at)[:10] if last - first > LONG else second_text(at)

    ticks = [(at, text(at)) for at in (first, (first + last) / 2, last)]
    names = [(k + 0.5, _short(name)) for k, (name, _, _) in enumerate(lines)]
    x = Axis(first, last, "time, UTC" if timed else "rows", ticks)
    plot = Plot(x, Axis(len(lines), 0, marks=names), WIDTH, 22 * len(lines) + 38, 124, 14, 4, 34)
    groups = []
    for k, (name, began, came) in enumerate(lines):
        about = f"{name}: began at about {text(began)}, alarm at {text(came)}"
        change = plot.box((began, came), (k + 0.3, k + 0.7), "then")
        since = plot.box((came, last), (k + 0.4, k + 0.6), "new")
        dot = plot.dot(came, k + 0.5, "new")
        groups.append(element("g", element("title", about), change, since, dot))
    return plot.picture("when each change began, and when its alarm came", *groups)


def _ends(alarm: Alarm, *, timed: bool) -> tuple[float, float] | None:
    """Where the change began and where its alarm came; None where that has no place.

    Labels are counted apart from rows.
    """
    pair = (alarm.began_time, alarm.time) if timed else (alarm.began, alarm.row)
    known = [end for end in pair if end is not None]
    if not known or (alarm.kind == "performance" and not timed):
        return None
    return known[0], known[-1]

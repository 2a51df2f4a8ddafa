"""Charts of a report: the shares of a feature cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, nan
from statistics import median
from typing import NamedTuple

from modelkit.drift.values import FeatureDrift
from modelkit.drift.words import percent
from modelkit.report import html
from modelkit.report.html import Markup, element
from modelkit.report.plot import Axis, Plot, text_at

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

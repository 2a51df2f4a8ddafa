"""Charts of a feature's shares as inline SVG, cell by cell.

They show the reference, the recent rows, and the rows of the alarm where there was one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from statistics import median
from typing import NamedTuple

from modelkit.drift.values import FeatureDrift
from modelkit.report import html

CHART_WIDTH = 480
LEFT = 52  # of the plot
RIGHT = 472
TOP = 16
BASE = 116
NAMES_END = 130  # where the bars of categories begin
SHARES_WIDTH = 84  # of the text behind the bars
PAIR_HEIGHT = 24  # of the two bars of a category
BAR_HEIGHT = 9
MOST_BARS = 10
MOST_EDGES = 7  # that are labelled
AXIS = "values, in cells of about equal mass in training"
ARROW = 44  # the width of a share with an arrow
# Times the usual cell of the reference; one value that most rows have would hide all others.
TALLEST = 8
ENDS = ("", "-inf", "+inf")


class Cell(NamedTuple):
    """The shares of rows in a cell: of the reference, lately, and at the alarm, if there was one."""

    label: str
    old: float
    new: float
    then: float | None


def chart(feature: FeatureDrift) -> str:
    """An SVG of a feature's shares.

    It has outlines over ordered cells, or a pair of bars for each category. Of a feature that no
    recent row has, the reference is drawn alone: shares of 0 would look as if it had vanished.
    """
    seen = feature.rows > 0
    cells = _cells_of(feature)
    if feature.kind in ("category", "flag"):
        used = [cell for cell in cells if _has_rows(cell)]
        return _bars(feature.feature, used, seen=seen)
    ordered = [
        cell
        for cell in cells
        if cell.label != "(missing)" and (_has_rows(cell) or cell.label not in ENDS)
    ]
    return _outlines(feature.feature, ordered, seen=seen)


def _cells_of(feature: FeatureDrift) -> list[Cell]:
    at_alarm: Sequence[float | None] = feature.at_alarm
    if len(at_alarm) != len(feature.cells):
        at_alarm = [None] * len(feature.cells)
    cells = []
    for (label, old, new), then in zip(feature.cells, at_alarm, strict=True):
        shown = None if then is None else _finite_share(then)
        cells.append(Cell(label, _finite_share(old), _finite_share(new), shown))
    return cells


def _has_rows(cell: Cell) -> bool:
    return bool(cell.old or cell.new or cell.then)


def percent(share: float) -> str:
    """A share in words of at most seven characters."""
    if not isfinite(share):
        return "unknown"
    if 0 < share < 0.001:
        return "<0.1 %"
    if share < 0.1:
        return f"{100 * share:.3g} %"
    return f"{100 * share:.0f} %"


def _finite_share(share: float) -> float:
    return share if isfinite(share) else 0.0


def _svg(name: str, height: int, body: str) -> str:
    label = html.escape(f"{name}: shares of the reference and of the recent rows")
    return f'<svg viewBox="0 0 {CHART_WIDTH} {height}" role="img" aria-label="{label}">{body}</svg>'


def _svg_text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    place = f'x="{x:.0f}" y="{y:.0f}"'
    return f'<text {place} text-anchor="{anchor}">{html.escape(text)}</text>'


def _no_values(name: str) -> str:
    return _svg(name, 40, _svg_text(CHART_WIDTH / 2, 24, "no values"))


def _tooltip(cell: Cell, *, seen: bool) -> str:
    recent = percent(cell.new) if seen else "unknown"
    text = f"{cell.label[:60]}: reference {percent(cell.old)}, recent {recent}"
    if cell.then is not None:
        text += f", at the alarm {percent(cell.then)}"
    return f"<title>{html.escape(text)}</title>"


# Ordered cells.


def _outlines(name: str, cells: Sequence[Cell], *, seen: bool) -> str:
    """Cells of one width side by side.

    The reference is an area; the recent rows and those of the alarm are outlines over it.
    """
    if not cells:
        return _no_values(name)
    labels = [cell.label for cell in cells]
    before = [cell.old for cell in cells]
    recent = [cell.new for cell in cells]
    then = [cell.then for cell in cells if cell.then is not None]
    step = (RIGHT - LEFT) / len(cells)
    top = _top(before, [*recent, *then])
    outline = ""
    if then:
        outline = f'<path class="then" d="{_steps(then, step, top)}"/>'
    if seen:
        outline += f'<path class="new" d="{_steps(recent, step, top)}"/>'
    body = "".join(
        [
            f'<path class="old" d="{_steps(before, step, top)}"/>',
            outline,
            f'<path class="axis" d="M{LEFT} {TOP}V{BASE}H{RIGHT}"/>',
            _above(cells, step, top),
            _svg_text(LEFT - 5, TOP + 4, percent(top), "end"),
            _svg_text(LEFT - 5, BASE, "0", "end"),
            _edge_labels(labels, step),
            _svg_text((LEFT + RIGHT) / 2, BASE + 30, AXIS),
            _pointers(cells, step, seen=seen),
        ]
    )
    return _svg(name, BASE + 36, body)


def _top(before: Sequence[float], recent: Sequence[float]) -> float:
    """The share at the top of the chart."""
    most = max(*before, *recent)
    usual = [share for share in before if share] or [most]
    return min(most, TALLEST * median(usual)) or 1.0


def _pointers(cells: Sequence[Cell], step: float, *, seen: bool) -> str:
    """Invisible rectangles over the cells, which show their shares to a pointer."""
    size = f'y="{TOP}" width="{step:.1f}" height="{BASE - TOP}"'
    rectangles = []
    for i, cell in enumerate(cells):
        x = LEFT + i * step
        tooltip = _tooltip(cell, seen=seen)
        rectangles.append(f'<rect x="{x:.1f}" {size}>{tooltip}</rect>')
    return f'<g class="hit">{"".join(rectangles)}</g>'


def _above(cells: Sequence[Cell], step: float, top: float) -> str:
    """The shares of cells that are taller than the chart, where these do not touch one another."""
    texts: list[str] = []
    half = ARROW / 2
    free = float(LEFT)
    for i, cell in enumerate(cells):
        share = _largest(cell)
        middle = LEFT + (i + 0.5) * step
        place = min(max(middle, LEFT + half), CHART_WIDTH - half)
        if share <= top * 1.001 or place - half < free:
            continue
        text = f"{percent(share)} \N{UPWARDS ARROW}"
        texts.append(_svg_text(place, TOP - 4, text))
        free = place + half
    return "".join(texts)


def _steps(shares: Sequence[float], step: float, top: float) -> str:
    scale = (BASE - TOP) / top
    path = [f"M{LEFT} {BASE}"]
    for i, share in enumerate(shares):
        y = BASE - min(share, top) * scale
        x = LEFT + (i + 1) * step
        path.append(f"V{y:.1f}H{x:.1f}")
    path.append(f"V{BASE}")
    return "".join(path)


def _edge_labels(labels: Sequence[str], step: float) -> str:
    """Some of the edges between cells, below their places; the cells' words hold the edges."""
    edges = []
    for i, label in enumerate(labels):
        low = _lower_edge(label)
        if low is not None:
            edges.append((LEFT + i * step, low))
    if not edges:
        return _cell_labels(labels[:4], step)
    texts = []
    for k in _evenly_spread(len(edges), _room(edges)):
        x, text = edges[k]
        half = 3.3 * len(text)
        place = max(half, min(x, CHART_WIDTH - half))
        texts.append(_svg_text(place, BASE + 13, text))
    return "".join(texts)


def _cell_labels(labels: Sequence[str], step: float) -> str:
    texts = []
    for i, label in enumerate(labels):
        x = LEFT + (i + 0.5) * step
        texts.append(_svg_text(x, BASE + 13, html.short(label)))
    return "".join(texts)


def _room(edges: Sequence[tuple[float, str]]) -> int:
    """The number of edges for which there is room."""
    longest = max(len(text) for _, text in edges)
    fitting = int((RIGHT - LEFT) / (6.5 * longest + 14))
    return max(2, min(MOST_EDGES, fitting))


def _evenly_spread(n: int, room: int) -> list[int]:
    """Evenly spread numbers below n, from the first to the last."""
    chosen = {round(k * (n - 1) / max(room - 1, 1)) for k in range(room)}
    return sorted(chosen)


def _lower_edge(label: str) -> str | None:
    if label.startswith("above "):
        return label.removeprefix("above ")[:20]
    low, to, _ = label.partition(" to ")
    return low[:20] if to and low != "up" else None


# Categories.


def _bars(name: str, cells: Sequence[Cell], *, seen: bool) -> str:
    """Two bars for each of the categories that have the largest shares."""
    if not cells:
        return _no_values(name)
    kept = _largest_cells(cells)
    widest = max(map(_largest, kept))
    scale = (RIGHT - SHARES_WIDTH - NAMES_END) / widest
    height = PAIR_HEIGHT if kept[0].then is None else PAIR_HEIGHT + BAR_HEIGHT
    pairs = []
    for i, cell in enumerate(kept):
        pairs.append(_pair(cell, 4 + height * i, scale, seen=seen))
    return _svg(name, height * len(kept) + 8, "".join(pairs))


def _largest(cell: Cell) -> float:
    return max(cell.old, cell.new, cell.then or 0.0)


def _largest_cells(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of the largest shares, in their order, and the sum of the others."""
    largest = [_largest(cell) for cell in cells]
    by_size = sorted(range(len(cells)), key=lambda i: -largest[i])
    shown = set(by_size[:MOST_BARS])
    kept = [cell for i, cell in enumerate(cells) if i in shown]
    rest = [cell for i, cell in enumerate(cells) if i not in shown]
    if rest:
        old = sum(cell.old for cell in rest)
        new = sum(cell.new for cell in rest)
        then = None
        if rest[0].then is not None:
            then = sum(cell.then or 0.0 for cell in rest)
        kept.append(Cell(f"{len(rest)} more cells", old, new, then))
    return kept


def _pair(cell: Cell, y: int, scale: float, *, seen: bool) -> str:
    label, old, new, then = cell
    recent = _bar("new", y + 10, new * scale) if seen else ""
    shares = f"{percent(old)}, {percent(new)}" if seen else percent(old)
    alarmed = ""
    middle = y + 14
    if then is not None:
        alarmed = _bar("then", y + 20, then * scale)
        middle = y + 18
    end = NAMES_END + _largest(cell) * scale
    parts = [
        _bar("old", y, old * scale),
        recent,
        alarmed,
        _svg_text(NAMES_END - 6, middle, _short_label(label), "end"),
        _svg_text(end + 6, middle, shares, "start"),
        _tooltip(cell, seen=seen),
    ]
    return f"<g>{''.join(parts)}</g>"


def _short_label(label: str) -> str:
    return label[:18] + "..." if len(label) > 20 else html.short(label)


def _bar(which: str, y: int, width: float) -> str:
    return (
        f'<rect class="{which}" x="{NAMES_END}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}"/>'
    )

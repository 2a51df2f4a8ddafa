"""Charts of a feature's shares as inline SVG: the reference and the recent rows over the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from statistics import median

from modelkit import html
from modelkit.drift.values import FeatureDrift

Cell = tuple[str, float, float]

CHART_WIDTH = 480
LEFT, RIGHT = 44, 472  # of the plot
TOP, BASE = 16, 116
NAMES_END = 130  # where the bars of categories begin
MOST_BARS = 10
AXIS = "cells of about equal mass in training, in order; height: share of rows"
ARROW = 44  # the width of a share with an arrow
TALLEST = (
    8  # times the usual cell of the reference; one value that most rows have would hide all others
)


def chart(feature: FeatureDrift) -> str:
    """An SVG of its shares: outlines over ordered cells, or a pair of bars for each category.

    Of a feature that no recent row has, the reference is drawn alone: shares of 0 would look as if
    it had vanished.
    """
    seen = feature.rows > 0
    cells = [(label, _finite_share(old), _finite_share(new)) for label, old, new in feature.cells]
    if feature.kind in ("category", "flag"):
        return _bars(feature.feature, [cell for cell in cells if cell[1] or cell[2]], seen=seen)
    ordered = [
        cell
        for cell in cells
        if cell[0] != "(missing)" and (cell[1] or cell[2] or cell[0] not in _ENDS)
    ]
    return _outlines(feature.feature, ordered, seen=seen)


_ENDS = ("", "-inf", "+inf")


def percent(share: float) -> str:
    """A share in words of at most seven characters."""
    if not isfinite(share):
        return "unknown"
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{100 * share:.3g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _finite_share(share: float) -> float:
    return share if isfinite(share) else 0.0


def _svg(name: str, height: int, body: str) -> str:
    label = html.escape(f"{name}: shares of the reference and of the recent rows")
    return f'<svg viewBox="0 0 {CHART_WIDTH} {height}" role="img" aria-label="{label}">{body}</svg>'


def _svg_text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _tooltip(cell: Cell, *, seen: bool) -> str:
    label, old, new = cell
    recent = percent(new) if seen else "unknown"
    return f"<title>{html.escape(f'{label[:60]}: {percent(old)}, recent {recent}')}</title>"


def _outlines(name: str, cells: Sequence[Cell], *, seen: bool) -> str:
    """Cells of one width side by side: the reference as an area, the recent rows as an outline over it."""
    if not cells:
        return _svg(name, 40, _svg_text(CHART_WIDTH / 2, 24, "no values"))
    step = (RIGHT - LEFT) / len(cells)
    most = max(max(old, new) for _, old, new in cells)
    usual = [old for _, old, _ in cells if old] or [most]
    top = min(most, TALLEST * median(usual)) or 1.0
    scale = (BASE - TOP) / top
    pointers = "".join(
        f'<rect x="{LEFT + i * step:.1f}" y="{TOP}" width="{step:.1f}" height="{BASE - TOP}">'
        f"{_tooltip(cell, seen=seen)}</rect>"
        for i, cell in enumerate(cells)
    )
    cut = [(LEFT + (i + 0.5) * step, max(old, new)) for i, (_, old, new) in enumerate(cells)]
    above = _above([(x, share) for x, share in cut if share > top * 1.001])
    outline = (
        f'<path class="new" d="{_steps([new for _, _, new in cells], step, top, scale)}"/>'
        if seen
        else ""
    )
    body = (
        f'<path class="old" d="{_steps([old for _, old, _ in cells], step, top, scale)}"/>{outline}'
        f'<path class="axis" d="M{LEFT} {TOP}V{BASE}H{RIGHT}"/>{above}'
        f"{_svg_text(LEFT - 5, TOP + 4, percent(top), 'end')}{_svg_text(LEFT - 5, BASE, '0', 'end')}"
        f"{_edge_labels([label for label, _, _ in cells], step)}"
        f"{_svg_text((LEFT + RIGHT) / 2, BASE + 30, AXIS)}"
        f'<g class="hit">{pointers}</g>'
    )
    return _svg(name, BASE + 36, body)


def _above(cut: Sequence[tuple[float, float]]) -> str:
    """The shares of some cells that are taller than the chart, over them, where these do not touch one another."""
    texts: list[str] = []
    half = ARROW / 2
    free = float(LEFT)
    for x, share in cut:
        place = min(max(x, LEFT + half), CHART_WIDTH - half)
        if place - half < free:
            continue
        texts.append(_svg_text(place, TOP - 4, f"{percent(share)} \N{UPWARDS ARROW}"))
        free = place + half
    return "".join(texts)


def _steps(shares: Sequence[float], step: float, top: float, scale: float) -> str:
    path = "".join(
        f"V{BASE - min(share, top) * scale:.1f}H{LEFT + (i + 1) * step:.1f}"
        for i, share in enumerate(shares)
    )
    return f"M{LEFT} {BASE}{path}V{BASE}"


def _edge_labels(labels: Sequence[str], step: float) -> str:
    """Some of the edges between cells, under the places where they are; the words of the cells hold them."""
    edges = [(i, low) for i, label in enumerate(labels) if (low := _lower_edge(label)) is not None]
    if not edges:
        return "".join(
            _svg_text(LEFT + (i + 0.5) * step, BASE + 13, html.short(label))
            for i, label in enumerate(labels[:4])
        )
    longest = max(len(text) for _, text in edges)
    room = max(2, min(7, int((RIGHT - LEFT) / (6.5 * longest + 14))))
    chosen = {round(k * (len(edges) - 1) / max(room - 1, 1)) for k in range(room)}
    places = [(LEFT + i * step, text) for i, text in (edges[k] for k in sorted(chosen))]
    return "".join(
        _svg_text(max(3.3 * len(text), min(x, CHART_WIDTH - 3.3 * len(text))), BASE + 13, text)
        for x, text in places
    )


def _lower_edge(label: str) -> str | None:
    if label.startswith("above "):
        return label.removeprefix("above ")[:20]
    low, to, _ = label.partition(" to ")
    return low[:20] if to and low != "up" else None


def _bars(name: str, cells: Sequence[Cell], *, seen: bool) -> str:
    """Two bars for each of the categories that have the largest shares."""
    if not cells:
        return _svg(name, 40, _svg_text(CHART_WIDTH / 2, 24, "no values"))
    shown = set(sorted(range(len(cells)), key=lambda i: -max(cells[i][1], cells[i][2]))[:MOST_BARS])
    kept = [cell for i, cell in enumerate(cells) if i in shown]
    rest = [cell for i, cell in enumerate(cells) if i not in shown]
    if rest:
        kept.append(
            (
                f"{len(rest)} more cells",
                sum(cell[1] for cell in rest),
                sum(cell[2] for cell in rest),
            )
        )
    widest = max(max(old, new) for _, old, new in kept)
    scale = (RIGHT - 84 - NAMES_END) / widest
    body = "".join(_pair(cell, 4 + 24 * i, scale, seen=seen) for i, cell in enumerate(kept))
    return _svg(name, 24 * len(kept) + 8, body)


def _pair(cell: Cell, y: int, scale: float, *, seen: bool) -> str:
    label, old, new = cell
    short = html.short(label) if len(label) <= 20 else label[:18] + "..."
    recent = (
        f'<rect class="new" x="{NAMES_END}" y="{y + 10}" width="{new * scale:.1f}" height="9"/>'
        if seen
        else ""
    )
    shares = f"{percent(old)}, {percent(new)}" if seen else percent(old)
    return (
        f'<g><rect class="old" x="{NAMES_END}" y="{y}" width="{old * scale:.1f}" height="9"/>{recent}'
        f"{_svg_text(NAMES_END - 6, y + 14, short, 'end')}"
        f"{_svg_text(NAMES_END + max(old, new) * scale + 6, y + 14, shares, 'start')}"
        f"{_tooltip(cell, seen=seen)}</g>"
    )

"""The evidence of a guard over time, as SVG without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from modelkit.lifecycle.rollout.trial import Point
from modelkit.report.html import BLUE, RED, escape

CHART_WIDTH = 440
HEIGHT = 150
LEFT = 44
BOTTOM = 22
TOP = 22
LEAST = -2.0  # logarithms below this are drawn at it
LETTERS = 'fill="currentColor" font-size="11" font-family="system-ui,sans-serif"'


def evidence_chart(
    name: str, points: Sequence[Point], guard: int, levels: tuple[float, float]
) -> str:
    """Both kinds of evidence of a guard, on a scale of powers of ten.

    Args:
        name: of the guard.
        points: the evidence after each tick; at least two.
        guard: its number.
        levels: the evidence at which it rolls back, and promotes.
    """
    worse = [point.worse[guard] for point in points]
    better = [point.better[guard] for point in points]
    logs = [log(level) for level in levels]
    top = 1.15 * max(*logs, *worse, *better)
    end = points[-1].seconds or 1.0

    def place(seconds: float, value: float) -> str:
        across = LEFT + (CHART_WIDTH - LEFT - 8) * seconds / end
        share = (max(value, LEAST) - LEAST) / (top - LEAST)
        return f"{across:.1f},{HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share:.1f}"

    def line(values: Sequence[float], color: str) -> str:
        told = zip(points, values, strict=True)
        path = " ".join(place(point.seconds, value) for point, value in told)
        return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>'

    def level(value: float, color: str, text: str, *, dashes: str = "4 3") -> str:
        start = place(0, value)
        height = start.partition(",")[2]
        rule = f'<line x1="{LEFT}" y1="{height}" x2="{CHART_WIDTH - 8}" y2="{height}" '
        ink = f'stroke="{color}" stroke-dasharray="{dashes}" stroke-opacity=".7"/>'
        label = (
            f'<text x="{LEFT - 5}" y="{height}" dy="4" text-anchor="end" {LETTERS}>{text}</text>'
        )
        return f"{rule}{ink}{label}"

    marks = level(0.0, "currentColor", "1", dashes="1 3")
    marks += level(logs[0], RED, f"{levels[0]:.0f}")
    if any(better):
        marks += level(logs[1], BLUE, "" if abs(logs[0] - logs[1]) < 1 else f"{levels[1]:.0f}")
        marks += line(better, BLUE)
    marks += line(worse, RED)
    title = f'<text x="{LEFT}" y="14" font-weight="600" {LETTERS}>{escape(name)}</text>'
    legend = (
        f'<text x="{CHART_WIDTH - 8}" y="14" text-anchor="end" {LETTERS}>'
        f'<tspan fill="{RED}">worse</tspan> <tspan fill="{BLUE}">as good</tspan></text>'
    )
    foot = f'<text x="{CHART_WIDTH - 8}" y="{HEIGHT - 6}" text-anchor="end" {LETTERS}>{end:,.0f} s</text>'
    style = f'style="max-width:{CHART_WIDTH}px;width:100%;margin:8px 12px 0 0"'
    label = f"evidence of {escape(name)} over time"
    return (
        f'<svg viewBox="0 0 {CHART_WIDTH} {HEIGHT}" role="img" aria-label="{label}" {style}>'
        f"{title}{legend}{marks}{foot}</svg>"
    )

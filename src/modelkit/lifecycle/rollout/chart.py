"""The evidence of a guard over time, as SVG without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from modelkit.lifecycle.rollout.trial import Point
from modelkit.report.html import Markup
from modelkit.report.plot import Axis, Plot, text_at

LEAST = -2.0  # logarithms below this are drawn at it


def evidence_chart(
    name: str, points: Sequence[Point], guard: int, levels: tuple[float, float]
) -> Markup:
    """Both kinds of evidence of a guard, on a scale of powers of ten.

    Args:
        name: of the guard.
        points: the evidence after each tick; at least two.
        guard: its number.
        levels: the evidence at which it rolls back, and promotes.
    """
    worse = [point.worse[guard] for point in points]
    better = [point.better[guard] for point in points]
    times = [point.seconds for point in points]
    ends = (0.0, times[-1] or 1.0)
    against, wanted = map(log, levels)
    scale = [(0.0, "1"), (against, f"{levels[0]:.0f}")]
    apart = any(better) and abs(against - wanted) >= 1
    if apart:
        scale.append((wanted, f"{levels[1]:.0f}"))
    y = Axis(LEAST, 1.15 * max(against, wanted, *worse, *better), marks=scale)
    plot = Plot(Axis(*ends, marks=((ends[1], f"{ends[1]:,.0f} s"),)), y, 440, 150, 44, 8, 22, 22)
    marks = [
        *_legend(plot, name),
        plot.line(ends, (against, against), "limit bad"),
        plot.line(times, worse, "curve bad"),
    ]
    if apart:
        marks.append(plot.line(ends, (wanted, wanted), "limit good"))
    if any(better):
        marks.append(plot.line(times, better, "curve good"))
    return plot.picture(f"evidence of {name} over time", *marks)


def _legend(plot: Plot, name: str) -> tuple[Markup, ...]:
    return (
        text_at(plot.left, 14, name, "start", "name"),
        text_at(plot.width - 70, 14, "worse", "end", "bad"),
        text_at(plot.width - 8, 14, "as good", "end", "good"),
    )

"""A plot with two axes as inline SVG, without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import final

from modelkit.report.html import escape

PLOT_WIDTH = 340
PLOT_HEIGHT = 270
PLOT_LEFT = 50
PLOT_RIGHT = 10
PLOT_TOP = 12
PLOT_BASE = 42
TICKS = 5
STEPS = (1, 2, 2.5, 5, 10)
Range = tuple[float, float]


@final
@dataclass(frozen=True)
class Plot:
    """The ranges of two axes, what they are called, and marks of the x axis in place of numbers."""

    x: Range
    y: Range
    x_name: str
    y_name: str
    x_marks: tuple[tuple[float, str], ...] = ()

    def at(self, x: float, y: float) -> str:
        """The place of a point, as "x,y" in the units of the picture."""
        return f"{self.across(x):.1f},{self.down(y):.1f}"

    def across(self, x: float) -> float:
        """How far from the left a value is; one beyond the range is at its end."""
        low, high = self.x
        share = min(max((x - low) / (high - low), 0), 1)
        return PLOT_LEFT + share * (PLOT_WIDTH - PLOT_LEFT - PLOT_RIGHT)

    def down(self, y: float) -> float:
        """How far from the top a value is."""
        low, high = self.y
        share = min(max((y - low) / (high - low), 0), 1)
        return PLOT_HEIGHT - PLOT_BASE - share * (PLOT_HEIGHT - PLOT_BASE - PLOT_TOP)

    def line(self, x: Sequence[float], y: Sequence[float], kind: str) -> str:
        """A line through points; `kind` is its class in the style sheet."""
        points = " ".join(self.at(a, b) for a, b in zip(x, y, strict=True))
        return f'<polyline class="{kind}" points="{points}"/>'

    def bar(self, x: float, low: float, high: float) -> str:
        """An interval on the y axis."""
        return f'<path class="bar" d="M{self.at(x, low)}L{self.at(x, high)}"/>'

    def dot(self, x: float, y: float, told: str) -> str:
        """A point that shows a text to a pointer."""
        place = f'cx="{self.across(x):.1f}" cy="{self.down(y):.1f}"'
        return f'<circle class="dot" {place} r="3.5"><title>{escape(told)}</title></circle>'

    def picture(self, name: str, inside: str) -> str:
        """The picture: a frame with ticks around what is inside."""
        right = PLOT_WIDTH - PLOT_RIGHT
        base = PLOT_HEIGHT - PLOT_BASE
        middle = (PLOT_TOP + base) / 2
        turned = f'transform="translate(12,{middle:.0f}) rotate(-90)"'
        named = self.x_marks or [(value, f"{value:g}") for value in ticks(*self.x)]
        marks = [self._x_tick(value, text) for value, text in named]
        marks += [self._y_tick(value) for value in ticks(*self.y)]
        marks.append(_text((PLOT_LEFT + right) / 2, PLOT_HEIGHT - 6, self.x_name))
        marks.append(f'<text {turned} text-anchor="middle">{escape(self.y_name)}</text>')
        frame = f'<path class="axis" d="M{PLOT_LEFT} {PLOT_TOP}V{base}H{right}"/>'
        label = f'role="img" aria-label="{escape(name)}"'
        size = f'viewBox="0 0 {PLOT_WIDTH} {PLOT_HEIGHT}"'
        return f"<svg {size} {label}>{''.join(marks)}{inside}{frame}</svg>"

    def _x_tick(self, value: float, text: str) -> str:
        x = self.across(value)
        rule = f'<path class="rule" d="M{x:.1f} {PLOT_TOP}V{PLOT_HEIGHT - PLOT_BASE}"/>'
        return rule + _text(x, PLOT_HEIGHT - PLOT_BASE + 14, text)

    def _y_tick(self, value: float) -> str:
        y = self.down(value)
        rule = f'<path class="rule" d="M{PLOT_LEFT} {y:.1f}H{PLOT_WIDTH - PLOT_RIGHT}"/>'
        return rule + _text(PLOT_LEFT - 5, y + 4, f"{value:g}", "end")


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'


def ticks(low: float, high: float) -> list[float]:
    """Some round numbers between two, both ends allowed."""
    rough = (high - low) / TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(power * each for each in STEPS if power * each >= rough)
    first = -floor(-low / step - 1e-9)
    last = floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def range_of(values: Sequence[float]) -> Range:
    """The range of some numbers, with a little room on both sides."""
    low = min(values)
    high = max(values)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - room, high + room

"""A plot with two axes as inline SVG, without scripts, in the colours of the sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import final

from modelkit.report.html import Markup, element

TICKS = 5
STEPS = (1, 2, 2.5, 5, 10)
LINE_WIDTH = 160
LINE_HEIGHT = 16
LETTER = 7.6  # the width of a digit of a tick on a narrow screen, in the units of the picture
Range = tuple[float, float]


@final
@dataclass(frozen=True)
class Axis:
    """A range of values, its name, and marks (value, text) in place of round numbers.

    Where `low` is above `high`, values grow to the left, or downwards.
    """

    low: float
    high: float
    name: str = ""
    marks: Sequence[tuple[float, str]] | None = None

    def share(self, value: float) -> float:
        """How far along the axis a value is, 0 to 1; one beyond the range is at its end."""
        return min(max((value - self.low) / ((self.high - self.low) or 1), 0), 1)

    def ticks(self) -> Sequence[tuple[float, str]]:
        """Where the axis has marks: at some round numbers, both ends allowed, unless they are given."""
        if self.marks is not None:
            return self.marks
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** floor(log10(rough))
        step = next(power * each for each in STEPS if power * each >= rough)
        first = -floor(1e-9 - self.low / step)
        last = floor(self.high / step + 1e-9)
        values = [round(k * step, 12) for k in range(first, last + 1)]
        return [(value, f"{value:g}") for value in values]


@final
@dataclass(frozen=True)
class Plot:
    """Two axes in a picture of some width and height, with room for their texts around them.

    Marks have the class `look` in the style sheet, and show `about` to a pointer.
    """

    x: Axis
    y: Axis
    width: int = 340
    height: int = 270
    left: int = 50
    right: int = 10
    top: int = 12
    base: int = 42

    def across(self, x: float) -> float:
        """How far from the left of the picture a value is."""
        return self.left + self.x.share(x) * (self.width - self.left - self.right)

    def down(self, y: float) -> float:
        """How far from the top of the picture a value is."""
        return self.height - self.base - self.y.share(y) * (self.height - self.base - self.top)

    def line(self, xs: Sequence[float], ys: Sequence[float], look: str, about: str = "") -> Markup:
        """A line through points."""
        places = zip(map(self.across, xs), map(self.down, ys), strict=True)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        return element("polyline", _title(about), class_=look, points=points)

    def box(self, xs: Range, ys: Range, look: str, about: str = "") -> Markup:
        """A rectangle from one value to another of each axis."""
        left, right = sorted(map(self.across, xs))
        top, base = sorted(map(self.down, ys))
        place = {"x": f"{left:.1f}", "y": f"{top:.1f}"}
        size = {"width": f"{right - left:.1f}", "height": f"{base - top:.1f}"}
        return element("rect", _title(about), class_=look, **place, **size)

    def dot(self, x: float, y: float, look: str = "dot", about: str = "") -> Markup:
        """A point."""
        place = {"cx": f"{self.across(x):.1f}", "cy": f"{self.down(y):.1f}", "r": "3.5"}
        return element("circle", _title(about), class_=look, **place)

    def picture(self, name: str, *marks: str) -> Markup:
        """The picture: a frame with ticks behind the marks; `name` is read to those who cannot see."""
        right = self.width - self.right
        base = self.height - self.base
        ticks: list[str] = []
        for value, text in self.x.ticks():
            x = self.across(value)
            half = LETTER * len(text) / 2
            ticks.append(_stroke("rule", f"M{x:.1f} {self.top}V{base}"))
            ticks.append(text_at(min(max(x, half), self.width - half), base + 14, text))
        for value, text in self.y.ticks():
            y = self.down(value)
            ticks.append(_stroke("rule", f"M{self.left} {y:.1f}H{right}"))
            ticks.append(text_at(self.left - 6, y + 4, text, "end"))
        ticks.append(text_at((self.left + right) / 2, self.height - 6, self.x.name))
        if self.y.name:
            turned = f"translate(12,{(self.top + base) / 2:.0f}) rotate(-90)"
            ticks.append(element("text", self.y.name, transform=turned, text_anchor="middle"))
        frame = _stroke("axis", f"M{self.left} {self.top}V{base}H{right}")
        size = f"0 0 {self.width} {self.height}"
        named = {"role": "img", "aria_label": name}
        return element("svg", *ticks, *marks, frame, class_="plot", viewBox=size, **named)


def interval_picture(
    about: str,
    value: float | None,
    low: float | None,
    high: float | None,
    scale: Range,
    mark: float | None = None,
) -> Markup:
    """A number and its interval on a scale, on one line of a table; nothing without a number.

    `mark` is a number that it is compared with, drawn as a rule.
    """
    if value is None:
        return Markup()
    plot = Plot(Axis(*scale), Axis(0, 1), LINE_WIDTH, LINE_HEIGHT, 4, 4, 0, 0)
    marks = [plot.line(scale, (0.5, 0.5), "rule")]
    if mark is not None:
        marks.append(plot.line((mark, mark), (0, 1), "mark"))
    if low is not None and high is not None:
        marks.append(plot.line((low, high), (0.5, 0.5), "bar"))
    size = f"0 0 {LINE_WIDTH} {LINE_HEIGHT}"
    named = {"role": "img", "aria_label": about}
    return element("svg", *marks, plot.dot(value, 0.5), class_="plot row", viewBox=size, **named)


def text_at(x: float, y: float, text: str, anchor: str = "middle", look: str = "") -> Markup:
    """Text at a place of a picture; without text nothing."""
    if not text:
        return Markup()
    place = {"x": f"{x:.0f}", "y": f"{y:.0f}", "text_anchor": anchor}
    return element("text", text, class_=look, **place)


def range_of(values: Sequence[float]) -> Range:
    """The range of some numbers, with a little room on both sides."""
    low = min(values)
    high = max(values)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - room, high + room


def _title(about: str) -> Markup:
    return element("title", about) if about else Markup()


def _stroke(look: str, path: str) -> Markup:
    return element("path", class_=look, d=path)

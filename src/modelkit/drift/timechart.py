"""How far a feature was from the reference over time, as an SVG that stands by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from modelkit.drift.row_times import second_text
from modelkit.report import html

CHART_SPAN = 640
HEIGHT = 190
LEFT = 52  # of the plot
RIGHT = 628
TOP = 30
BASE = 150
GAP = 1.5  # buckets' lengths without rows from which the line is broken
TICKS = 5
LEAST_TOP = 0.05  # the distance at the top of a chart in which nothing happens
HALF_DATE = 34  # the width of half a date

# The colours are those of the report's page.
CHART_STYLE = (
    "svg{color-scheme:light dark}"
    ".paper{fill:#fff}.soft{fill:#57606a}.name{fill:#1f2328;font-weight:600}"
    ".band{fill:#8aa0b8;fill-opacity:.4}.line{fill:none;stroke:#c2570c;stroke-width:1.8}"
    ".dot{fill:#c2570c}.axis{fill:none;stroke:#57606a;stroke-width:.7}"
    ".alarm{stroke:#b42318;stroke-width:1.4;stroke-dasharray:4 2}"
    ".changed{stroke:#57606a;stroke-width:1.2}"
    "text{font:11px system-ui,sans-serif}.hit{fill:transparent}"
    "@media (prefers-color-scheme:dark){.paper{fill:#15191f}.soft{fill:#9aa7b4}"
    ".name{fill:#e6edf3}.band{fill:#7389a1}.line{stroke:#ff9a52}.dot{fill:#ff9a52}"
    ".axis{stroke:#9aa7b4}.alarm{stroke:#ff9489}.changed{stroke:#9aa7b4}}"
)


@dataclass(frozen=True)
class Moment:
    """An hour or a day: its ends in POSIX seconds, its rows, and two distances.

    `value` is the distance of its rows from the reference, `chance` the one that 99 % of as many
    rows would have if nothing had changed.
    """

    start: float
    end: float
    rows: int
    value: float
    chance: float


@dataclass(frozen=True)
class Scales:
    """From times and distances to places in the chart."""

    first: float
    last: float
    top: float

    def x(self, at: float) -> float:
        """The place of a time."""
        return LEFT + (at - self.first) / (self.last - self.first) * (RIGHT - LEFT)

    def y(self, value: float) -> float:
        """The place of a distance."""
        return BASE - min(value / self.top, 1.0) * (BASE - TOP)


def time_chart(
    name: str, moments: Sequence[Moment], *, alarms: Sequence[float], references: Sequence[float]
) -> str:
    """The chart of at least one moment, in the order of time."""
    most = max(max(own.value, own.chance) for own in moments)
    top = max(1.1 * most, LEAST_TOP)
    scales = Scales(moments[0].start, moments[-1].end, top)
    parts = [
        f"<style>{CHART_STYLE}</style>",
        f'<rect class="paper" width="{CHART_SPAN}" height="{HEIGHT}"/>',
        _text(LEFT, 18, f"{name}: distance from the reference", "start", "name"),
        _band(moments, scales),
        _line(moments, scales),
        f'<path class="axis" d="M{LEFT} {TOP}V{BASE}H{RIGHT}"/>',
        _text(LEFT - 5, TOP + 4, f"{scales.top:.2g}", "end"),
        _text(LEFT - 5, BASE, "0", "end"),
        _marks(references, scales, "changed", "a new reference from"),
        _marks(alarms, scales, "alarm", "alarm at"),
        _dates(scales),
        _text(LEFT, HEIGHT - 10, _legend(alarms, references), "start"),
        _pointers(moments, scales),
    ]
    label = html.escape(f"{name}: distance from the reference over time")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {CHART_SPAN} {HEIGHT}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", look: str = "soft") -> str:
    place = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
    return f'<text class="{look}" {place}>{html.escape(text)}</text>'


def _band(moments: Sequence[Moment], scales: Scales) -> str:
    """A rectangle for each moment, as high as chance reaches."""
    rectangles = []
    for own in moments:
        x = scales.x(own.start)
        y = scales.y(own.chance)
        width = scales.x(own.end) - x
        rectangles.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.2f}" height="{BASE - y:.1f}"/>'
        )
    return f'<g class="band">{"".join(rectangles)}</g>'


def _line(moments: Sequence[Moment], scales: Scales) -> str:
    """A line through the middles of the moments, broken where some have no rows, and dots."""
    path = []
    dots = []
    before: Moment | None = None
    for own in moments:
        x = scales.x((own.start + own.end) / 2)
        y = scales.y(own.value)
        joined = before is not None and own.start - before.end < GAP * (own.end - own.start)
        path.append(f"{'L' if joined else 'M'}{x:.1f} {y:.1f}")
        dots.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2"/>')
        before = own
    return f'<path class="line" d="{"".join(path)}"/>{"".join(dots)}'


def _marks(times: Sequence[float], scales: Scales, look: str, says: str) -> str:
    """Vertical lines at these times."""
    lines = []
    for at in times:
        x = scales.x(at)
        title = f"<title>{html.escape(f'{says} {second_text(at)} UTC')}</title>"
        lines.append(
            f'<line class="{look}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{BASE}">{title}</line>'
        )
    return "".join(lines)


def _dates(scales: Scales) -> str:
    texts = []
    for k in range(TICKS):
        at = scales.first + k / (TICKS - 1) * (scales.last - scales.first)
        x = min(max(scales.x(at), HALF_DATE), CHART_SPAN - HALF_DATE)
        texts.append(_text(x, BASE + 15, _date(at, scales.last - scales.first)))
    return "".join(texts)


def _date(at: float, span: float) -> str:
    form = "%m-%d %H:%M" if span <= 4 * 86400 else "%Y-%m-%d"
    return datetime.fromtimestamp(at, UTC).strftime(form)


def _legend(alarms: Sequence[float], references: Sequence[float]) -> str:
    said = ["shaded: chance, 99 % of cases"]
    if alarms:
        said.append("dashed: an alarm")
    if references:
        said.append("upright: a new reference")
    return "; ".join([*said, "times in UTC"])


def _pointers(moments: Sequence[Moment], scales: Scales) -> str:
    """Invisible rectangles, which show the figures of a moment to a pointer."""
    rectangles = []
    for own in moments:
        x = scales.x(own.start)
        width = scales.x(own.end) - x
        says = (
            f"{second_text(own.start)}: {own.value:.3f} of {own.rows:,} rows; by chance up to "
            f"{own.chance:.3f}"
        )
        rectangles.append(
            f'<rect class="hit" x="{x:.1f}" y="{TOP}" width="{width:.2f}" '
            f'height="{BASE - TOP}"><title>{html.escape(says)}</title></rect>'
        )
    return "".join(rectangles)

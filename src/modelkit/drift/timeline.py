"""When each change began and when its alarm came, as one inline SVG over rows or over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelkit.drift.row_times import second_text
from modelkit.drift.values import Alarm
from modelkit.drift.wording import name_of
from modelkit.report.html import escape

LINES_WIDTH = 480
NAMES_END = 124
RIGHT = 466
LINE = 22  # the height of a feature's line
MOST_LINES = 12
LONGEST_NAME = 18
TICKS = 3
LONG = 4 * 86_400.0  # seconds, from which a day says enough
DAY_LENGTH = len("2013-03-09")
SHORTEST = 3600.0  # seconds: whole hours are known, and in a single one rows say more


@dataclass(frozen=True)
class Axis:
    """From the first to the last row, in rows or in seconds since 1970."""

    first: float
    last: float
    timed: bool

    def x(self, at: float) -> float:
        """The place of a row or a time."""
        wide = max(self.last - self.first, 1e-9)
        share = min(max((at - self.first) / wide, 0.0), 1.0)
        return NAMES_END + share * (RIGHT - NAMES_END)

    @property
    def ticks(self) -> int:
        """The number of parts that the ticks make: texts must not touch one another."""
        if not self.timed:
            return TICKS
        return 2 if self.last - self.first > LONG else 1

    def text(self, at: float) -> str:
        """A row or a time in words; the day alone where there are many."""
        if not self.timed:
            return f"{at:,.0f}"
        said = second_text(at)
        return said[:DAY_LENGTH] if self.last - self.first > LONG else said


def timeline_part(alarms: Sequence[Alarm], rows: int, times: tuple[float, float] | None) -> str:
    """A line for each feature with an alarm; over time where the alarms and the rows have times."""
    if rows <= 0:
        return ""
    axis = _axis(alarms, rows, times)
    if not axis.timed:  # labels are counted apart from rows
        alarms = [alarm for alarm in alarms if alarm.kind != "performance"]
    shown = _last_of_each(alarms)[:MOST_LINES]
    if not shown:
        return ""
    lines = [_line(alarm, axis, LINE * i) for i, alarm in enumerate(shown)]
    height = LINE * len(shown)
    drawn = "".join([*lines, _scale(axis, height)])
    label = "when each change began, and when its alarm came"
    return (
        f'<h2>When</h2><svg class="when" viewBox="0 0 {LINES_WIDTH} {height + 34}" role="img" '
        f'aria-label="{label}">{drawn}</svg>'
        '<p class="soft">from where the change began to where its alarm came (dot), and since</p>'
    )


def _last_of_each(alarms: Sequence[Alarm]) -> list[Alarm]:
    """The last alarm of each feature and stratum, in the order of their first ones."""
    return list({(alarm.feature, alarm.stratum): alarm for alarm in alarms}.values())


def _axis(alarms: Sequence[Alarm], rows: int, times: tuple[float, float] | None) -> Axis:
    if times is None or any(_time_of(alarm) is None for alarm in alarms):
        return Axis(0, rows, timed=False)
    first, last = times
    if last - first <= SHORTEST:
        return Axis(0, rows, timed=False)
    return Axis(first, last, timed=True)


def _time_of(alarm: Alarm) -> float | None:
    """When an alarm came; at least when the change began, where a unit of rows was judged."""
    return alarm.began_time if alarm.time is None else alarm.time


def _ends(alarm: Alarm, axis: Axis) -> tuple[float, float]:
    """Where the change began, and where the alarm came."""
    came = _time_of(alarm)
    if axis.timed and came is not None:
        return came if alarm.began_time is None else alarm.began_time, came
    began = alarm.row if alarm.began is None else alarm.began
    return float(began), float(alarm.row)


def _line(alarm: Alarm, axis: Axis, top: int) -> str:
    name = name_of(alarm.feature, alarm.stratum)
    short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."
    began, raised = _ends(alarm, axis)
    start = axis.x(began)
    dot = axis.x(raised)
    middle = top + 13
    says = f"{name}: began at about {axis.text(began)}, alarm at {axis.text(raised)}"
    return (
        f"<g><title>{escape(says)}</title>"
        f'<text x="{NAMES_END - 8}" y="{middle + 4}" text-anchor="end">{escape(short)}</text>'
        f'<path class="axis" d="M{NAMES_END} {middle}H{RIGHT}"/>'
        f'<rect class="then" x="{start:.1f}" y="{middle - 4}" width="{dot - start:.1f}" height="8"/>'
        f'<rect class="new" x="{dot:.1f}" y="{middle - 2}" width="{RIGHT - dot:.1f}" height="4"/>'
        f'<circle class="new" cx="{dot:.1f}" cy="{middle}" r="5"/></g>'
    )


def _scale(axis: Axis, top: int) -> str:
    """The ticks under the lines, and what they count."""
    ticks = axis.ticks
    texts = []
    for k in range(ticks + 1):
        at = axis.first + (axis.last - axis.first) * k / ticks
        anchor = "start" if k == 0 else "end" if k == ticks else "middle"
        said = axis.text(at)
        texts.append(
            f'<text x="{axis.x(at):.0f}" y="{top + 14}" text-anchor="{anchor}">{said}</text>'
        )
    unit = "time, UTC" if axis.timed else "rows"
    middle = (NAMES_END + RIGHT) / 2
    texts.append(f'<text x="{middle:.0f}" y="{top + 30}" text-anchor="middle">{unit}</text>')
    return "".join(texts)

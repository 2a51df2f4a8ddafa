"""The parts of a report's page on where a change is, and on what people noted about alarms."""

from __future__ import annotations

from collections.abc import Sequence

from modelkit.drift import sections
from modelkit.drift.charts import percent
from modelkit.drift.notes import Acknowledgement
from modelkit.drift.row_times import second_text
from modelkit.drift.values import SegmentDrift
from modelkit.drift.wording import count_of, listed
from modelkit.report.html import escape, wide_table

MOST_LINES = 12  # segments of one feature and column in a table


def grouped(segments: Sequence[SegmentDrift]) -> dict[tuple[str, str], list[SegmentDrift]]:
    """The segments by feature and column."""
    groups: dict[tuple[str, str], list[SegmentDrift]] = {}
    for drift in segments:
        groups.setdefault((drift.feature, drift.by), []).append(drift)
    return groups


def where_text(group: Sequence[SegmentDrift], alpha: float) -> str:
    """In which segments of one column a feature has changed, in one sentence."""
    feature = group[0].feature
    by = group[0].by
    hit = [drift.segment for drift in group if drift.p <= alpha]
    rest = len(group) - len(hit)
    if not hit:
        return (
            f"{feature} has changed in no segment of {by} by itself: the mix of segments may have, "
            "or each has too few rows"
        )
    if not rest:
        return f"{feature} has changed in every segment of {by}"
    return (
        f"{feature} has changed in {by} {listed(hit)}; nothing shows in {count_of(rest, 'other')}"
    )


def where_part(segments: Sequence[SegmentDrift], alpha: float) -> str:
    """A sentence and a table for each alarmed feature and column of segments."""
    if not segments:
        return ""
    parts = ["<h2>Where the change is</h2>"]
    for group in grouped(segments).values():
        rows: list[tuple[str, ...]] = []
        for drift in group[:MOST_LINES]:
            before, now = drift.share
            size = sections.effect_text(drift.effect)
            shares = f"{percent(before)}, {percent(now)}"
            rows.append((drift.segment, f"{drift.rows:,}", shares, size, sections.p_value(drift.p)))
        header: tuple[str, ...] = (
            group[0].by,
            "recent rows",
            "share of rows, before and now",
            "size",
            "p",
        )
        left = len(group) - MOST_LINES
        more = f"<p>and {count_of(left, 'more segment')}</p>" if left > 0 else ""
        parts.append(f"<p>{escape(where_text(group, alpha))}</p>")
        parts.append(f"{wide_table(header, rows)}{more}")
    return "".join(parts)


def notes_part(acknowledged: Sequence[Acknowledgement]) -> str:
    """The alarms that somebody knows of, and why."""
    if not acknowledged:
        return ""
    rows = []
    for note in acknowledged:
        said = f"{note.alarm.feature}: {note.alarm.kind} at row {note.alarm.row:,}"
        rows.append((said, f"{second_text(note.at)} UTC", note.reason))
    table = wide_table(("alarm", "acknowledged", "reason"), rows)
    return f"<h2>Acknowledged</h2>{table}"

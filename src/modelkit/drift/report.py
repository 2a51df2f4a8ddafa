"""The report of a Detector, as a value: printed, as JSON, as a frame and as a page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, log10, nan
from typing import Any, Literal, final

from modelkit._internal import fields
from modelkit._internal.json import parse_record, to_plain
from modelkit.drift import followup, sections, spanned, wording
from modelkit.drift.audit import audit_csv
from modelkit.drift.notes import Acknowledgement
from modelkit.drift.timeline import timeline_part
from modelkit.drift.values import Alarm, DriftCheck, FeatureDrift, Performance, SegmentDrift
from modelkit.errors import PackageError, importing
from modelkit.report import html

REPORT_SCHEMA = "modelkit.drift/1"
MOST_CHARTS = 20
LEAST_P = 1e-300  # keeps its logarithm finite


@final
@dataclass(frozen=True, repr=False)
class DriftReport:
    """A comparison of recent rows with a reference.

    `kind` is "stream" (all that a Detector saw so far; the p-values hold whenever they are read),
    "batch" (one set of rows; exact p-values) or "span" (the rows of some hours or days). `rows`
    rows were compared with `reference_rows`; `skipped` rows were left out by a row budget. `alpha`
    is the probability of a false alarm, `guarantee` says of what in words, and each of
    `assumptions` what was checked for it and found. `alarms` is empty where nothing was found.
    `features` has one entry for each feature and stratum, and `segments` one for each segment of a
    feature with an alarm. `acknowledged` are the alarms that somebody knows of. `times` are when the
    first and the last of the rows were, in seconds since 1970, where that is known.
    """

    kind: Literal["stream", "batch", "span"]
    rows: int
    reference_rows: int
    alpha: float
    guarantee: str
    assumptions: tuple[str, ...]
    alarms: tuple[Alarm, ...]
    features: tuple[FeatureDrift, ...]
    checks: tuple[DriftCheck, ...]
    performance: Performance | None
    skipped: int = 0
    times: tuple[float, float] | None = None
    segments: tuple[SegmentDrift, ...] = ()
    acknowledged: tuple[Acknowledgement, ...] = ()

    def ranked(self) -> tuple[FeatureDrift, ...]:
        """The features by evidence times importance, ties by effect size.

        That is -log10(p) * weight, with the smaller p.
        """

        def order(drift: FeatureDrift) -> tuple[float, float]:
            return -round(_evidence(drift), 6), -_size(drift)

        return tuple(sorted(self.features, key=order))

    def __str__(self) -> str:
        alarms = [f"ALARM {alarm}" for alarm in self.alarms[-3:]]
        features = [self._line(drift) for drift in self.ranked()[:4]]
        checks = [str(check) for check in self.checks[:2]]
        lines = [f"{self._title()}: {self._compared()}"]
        lines += _with_rest(alarms, len(self.alarms), "alarm")
        lines += _with_rest(features, len(self.features), "feature")
        lines += _with_rest(checks, len(self.checks), "check")
        for group in followup.grouped(self.segments).values():
            lines.append(followup.where_text(group, self.alpha))
        lines += [str(note) for note in self.acknowledged]
        if self.performance is not None:
            lines.append(_performance_text(self.performance))
        lines.append(f"guarantee: {self.guarantee}")
        return "\n  ".join(lines)

    __repr__ = fields.brief

    def _title(self) -> str:
        alarms = "no alarm"
        if self.alarms:
            alarms = wording.count_of(len(self.alarms), "alarm")
        return f"Drift of a {self.kind}, {alarms}"

    def _compared(self) -> str:
        rows = wording.count_of(self.rows, "row")
        if self.skipped:
            rows += f" ({self.skipped:,} more left out by the row budget)"
        return f"{rows} against {self.reference_rows:,} of the reference, alpha {self.alpha:g}"

    def _line(self, drift: FeatureDrift) -> str:
        found = [sections.tests_text(drift, self.kind)]
        found += [str(size) for size in drift.effects[:1]]
        where = wording.name_of(drift.feature, drift.stratum)
        return f"{where}: {'; '.join(found)}"

    def to_json(self) -> str:
        """Everything, as one line of ASCII: it may be printed on any terminal."""
        plain = {"schema": REPORT_SCHEMA} | to_plain(fields.write_object(self))
        return json.dumps(plain, allow_nan=False, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> DriftReport:
        """The inverse of `to_json`. Raises PackageError for any other text."""
        try:
            plain = parse_record(text, REPORT_SCHEMA)
            return fields.read_object(DriftReport, plain, "report")
        except (TypeError, ValueError) as error:
            raise PackageError(f"this is not a drift report in JSON: {error}") from error

    def to_dataframe(self) -> Any:
        """A pandas frame with a row for each feature, as `ranked`.

        It has three columns for each kind of effect size: its value, `low` and `high`.
        """
        with importing("pandas", "DriftReport.to_dataframe", "frames"):
            import pandas as pd

        others = ("effects", "missing", "cells", "bins", "at_alarm")
        names = [own.name for own in dataclasses.fields(FeatureDrift) if own.name not in others]
        rows = [_flat(drift, names) for drift in self.ranked()]
        columns = dict.fromkeys([*names, "missing_reference", "missing_recent"])
        for row in rows:
            columns |= dict.fromkeys(row)
        frame = pd.DataFrame(rows, columns=[*columns])
        return frame.astype({"began": "Int64", "p_changed": "float64", "p_material": "float64"})

    def to_csv(self) -> str:
        """The population stability index of each feature, as `ranked`, for those who audit by it.

        It is a line for each feature under a head: the numbers of rows with a value, the shares of
        missing ones, `psi`, the kinds of alarms, and the ten bins of the reference as (upper end,
        reference rows, recent rows). A value belongs to the first bin whose end it does not exceed,
        and a category is a bin of its own. Shares, alarms and bins are JSON within their field. No
        alarm goes by the index: it knows nothing of the other features, nor of how often one looks.

        Example:
            Path("audit.csv").write_text(report.to_csv(), encoding="utf-8")
        """
        return audit_csv(self.ranked(), self.alarms)

    def to_html(self) -> str:
        """A page of its own, with a chart for each of the first 20 features.

        It has no scripts and loads nothing.
        """
        ranked = self.ranked()
        body = [
            sections.summary_box(
                self.headline(),
                self._advice(),
                alarmed=None if self._undecided() else bool(self.alarms),
            ),
            f'<p class="soft">{html.escape(self._compared())}</p>',
            self._timeline(),
            sections.alarms_part(self.alarms, self.kind, self.guarantee),
            followup.where_part(self.segments, self.alpha),
            followup.notes_part(self.acknowledged),
            sections.performance_part(self.performance),
            sections.checks_part(self.checks),
            self._charts(ranked[:MOST_CHARTS]),
            sections.rest_part(ranked[MOST_CHARTS:]),
            sections.promise_part(self.guarantee, self.assumptions),
            sections.words_part(),
        ]
        return html.page(self._title(), "".join(body), sections.STYLE)

    def headline(self) -> str:
        """What changed, since when and by how much, in one or two sentences."""
        if self._quiet_span():
            return spanned.headline(self.ranked(), self.rows, self.alpha)
        return wording.headline(self.alarms, self.ranked(), self.kind, self.rows)

    def _advice(self) -> str:
        if self._quiet_span():
            return spanned.advice(self.features, self.alpha)
        return wording.advice(self.alarms, len(self.checks))

    def _undecided(self) -> bool:
        return self._quiet_span() and not spanned.at_rest(self.features, self.alpha)

    def _quiet_span(self) -> bool:
        return self.kind == "span" and not self.alarms

    def _timeline(self) -> str:
        if self.kind == "batch":
            return ""
        return timeline_part(
            self.alarms,
            self.rows + self.skipped,  # as alarms count: also those that a budget left out
            self.times,
        )

    def _charts(self, features: Sequence[FeatureDrift]) -> str:
        if not features:
            return ""
        alarmed: dict[tuple[str, str | None], Alarm] = {}
        for alarm in self.alarms:
            alarmed[alarm.feature, alarm.stratum] = alarm
        charts = []
        for drift in features:
            last = alarmed.get((drift.feature, drift.stratum))
            charts.append(sections.feature_part(drift, self.kind, last))
        legend = sections.legend(at_alarm=any(drift.at_alarm for drift in features))
        return f'{legend}<div class="grid">{"".join(charts)}</div>'

    def _repr_html_(self) -> str:
        facts = [("found", self.headline()), ("compared", self._compared())]
        alarms = [str(alarm) for alarm in self.alarms[-5:]]
        facts += [("alarm", text) for text in _with_rest(alarms, len(self.alarms), "alarm")]
        if self.performance is not None:
            facts.append(("performance", _performance_text(self.performance)))
        facts.append(("guarantee", self.guarantee))
        rows = []
        for drift in self.ranked()[:5]:
            where = wording.name_of(drift.feature, drift.stratum)
            tests = sections.tests_text(drift, self.kind)
            sizes = "; ".join(map(sections.effect_text, drift.effects[:1]))
            rows.append((where, tests, sizes))
        return html.card(self._title(), facts, ("feature", "", "size"), rows)


def _evidence(drift: FeatureDrift) -> float:
    """The evidence of the smaller p-value, -log10(p), times the weight."""
    smallest = 1.0
    for p in (drift.p_changed, drift.p_material):
        if p is not None and p < smallest:
            smallest = p
    return -log10(max(smallest, LEAST_P)) * drift.weight


def _size(drift: FeatureDrift) -> float:
    if not drift.effects or isnan(drift.effects[0].value):
        return 0.0
    return abs(drift.effects[0].value)


def _with_rest(lines: list[str], total: int, noun: str) -> list[str]:
    """Lines, and one that counts those that are not shown."""
    left = total - len(lines)
    if not left:
        return lines
    return [*lines, f"and {wording.count_of(left, f'more {noun}')}"]


def _performance_text(found: Performance) -> str:
    parts = []
    if found.loss is not None:
        rows = wording.count_of(found.labelled, "labelled row")
        parts.append(f"loss {sections.interval_text(found.loss)} of {rows}")
    if found.baseline is not None:
        parts.append(f"reference {sections.interval_text(found.baseline)}")
    for name, values in found.estimated.items():
        parts.append(f"estimated {found.title(name)} {sections.interval_text(values)}")
    if found.unsupported is not None:
        parts.append(f"estimates not to be relied on: {found.unsupported}")
    return "; ".join(parts) or "nothing known of the performance"


def _flat(drift: FeatureDrift, names: list[str]) -> dict[str, Any]:
    row = {name: getattr(drift, name) for name in names}
    before, now = drift.missing
    row["missing_reference"] = before
    row["missing_recent"] = now if drift.rows else nan
    for size in drift.effects:
        row[size.name] = size.value
        row[f"{size.name} low"] = size.low
        row[f"{size.name} high"] = size.high
    return row

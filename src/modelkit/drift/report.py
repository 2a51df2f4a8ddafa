"""The report of a Detector, as a value: printed, as JSON, as a frame and as a page."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from dataclasses import dataclass
from math import isnan, log10, nan
from typing import Any, Literal, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit._internal.json import read_report, to_record
from modelkit.drift import page, words
from modelkit.drift.units import count_of
from modelkit.drift.values import (
    Acknowledgement,
    Alarm,
    DriftCheck,
    FeatureDrift,
    Performance,
    SegmentDrift,
)
from modelkit.errors import importing
from modelkit.report import html

REPORT_SCHEMA = "modelkit.drift/1"
LEAST_P = 1e-300  # keeps its logarithm finite
CSV_COLUMNS = (
    "feature",
    "stratum",
    "kind",
    "reference_rows",
    "recent_rows",
    "missing",
    "psi",
    "alarms",
    "bins",
)
LEAST_SHARE = 1e-4  # that stands for an empty bin, whose logarithm there is not


@final
@dataclass(frozen=True, repr=False)
class DriftReport:
    """A comparison of recent rows with a reference.

        report = mk.Detector(profile).test(X_today)
        print(report.headline())
        report.to_dataframe()

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
        return tuple(sorted(self.features, key=_order))

    def __str__(self) -> str:
        return "\n  ".join([f"{self._title()}: {self._compared()}", *self._lines()])

    __repr__ = fields.brief

    def _title(self) -> str:
        alarms = count_of(len(self.alarms), "alarm") if self.alarms else "no alarm"
        return f"Drift of a {self.kind}, {alarms}"

    def _compared(self) -> str:
        rows = count_of(self.rows, "row")
        if self.skipped:
            rows += f" ({self.skipped:,} more left out by the row budget)"
        return f"{rows} against {self.reference_rows:,} of the reference, alpha {self.alpha:g}"

    def _lines(self) -> list[str]:
        """What was found, for the text and the card: of many alarms and features some."""
        alarms = [f"ALARM {alarm}" for alarm in self.alarms[-3:]]
        features = []
        for drift in self.ranked()[:4]:
            parts = [words.tests_text(drift, self.kind), *map(str, drift.effects[:1])]
            features.append(f"{words.name_of(drift)}: {'; '.join(parts)}")
        checks = [str(check) for check in self.checks[:2]]
        lines = words.with_rest(alarms, len(self.alarms), "alarm")
        lines += words.with_rest(features, len(self.features), "feature")
        lines += words.with_rest(checks, len(self.checks), "check")
        lines += [words.segments_text(group, self.alpha) for group in words.grouped(self.segments)]
        lines += [str(note) for note in self.acknowledged]
        if self.performance is not None:
            lines.append("; ".join(words.performance_texts(self.performance)))
        return [*lines, f"guarantee: {self.guarantee}"]

    def to_json(self) -> str:
        """Everything, as one line of ASCII: it may be printed on any terminal."""
        return to_record(self, REPORT_SCHEMA)

    @staticmethod
    def from_json(text: str) -> DriftReport:
        """The inverse of `to_json`. Raises PackageError for any other text."""
        return read_report(DriftReport, text, REPORT_SCHEMA, "a drift report")

    def to_dataframe(self) -> Any:
        """A pandas frame with a row for each feature, as `ranked`.

        It has three columns for each kind of effect size: its value, `low` and `high`.
        """
        with importing("pandas", "DriftReport.to_dataframe", "frames"):
            import pandas as pd

        others = ("effects", "missing", "cells", "bins")
        names = [own.name for own in dataclasses.fields(FeatureDrift) if own.name not in others]
        rows = []
        for drift in self.ranked():
            row = {name: getattr(drift, name) for name in names}
            before, now = drift.missing
            row |= {"missing_reference": before, "missing_recent": now if drift.rows else nan}
            for size in drift.effects:
                sizes = (size.value, size.low, size.high)
                row |= zip((size.name, f"{size.name} low", f"{size.name} high"), sizes, strict=True)
            rows.append(row)
        none = [*names, "missing_reference", "missing_recent"]
        frame = pd.DataFrame(rows, columns=None if rows else none)
        return frame.astype({"p_changed": "float64", "p_material": "float64"})

    def to_csv(self) -> str:
        """The population stability index of each feature, as `ranked`, for those who audit by it.

            Path("audit.csv").write_text(report.to_csv(), encoding="utf-8")

        It is a line for each feature under a head: the numbers of rows with a value, the shares of
        missing ones, `psi`, the kinds of alarms, and the ten bins of the reference as (upper end,
        reference rows, recent rows). A value belongs to the first bin whose end it does not exceed,
        and a category is a bin of its own. Shares, alarms and bins are JSON within their field. No
        alarm goes by the index: it knows nothing of the other features, nor of how often one looks.
        """
        written = io.StringIO()
        lines = csv.writer(written, lineterminator="\n")
        lines.writerow(CSV_COLUMNS)
        for drift in self.ranked():
            old = np.array([before for _, before, _ in drift.bins])
            new = np.array([now for _, _, now in drift.bins])
            psi = customary_psi(old, new) if old.any() and new.any() else None
            name = words.name_of(drift)
            kinds = [own.kind for own in self.alarms if words.name_of(own) == name]
            missing, alarms, bins = map(
                json.dumps, (drift.missing, [*dict.fromkeys(kinds)], drift.bins)
            )
            start = (drift.feature, drift.stratum, drift.kind)
            lines.writerow((*start, old.sum(), new.sum(), missing, psi, alarms, bins))
        return written.getvalue()

    def to_html(self) -> str:
        """A page of its own, with a chart for each of the first 20 features.

        It contains no scripts and loads nothing.
        """
        ranked = self.ranked()
        advice = words.advice(self.alarms, ranked, self.kind, self.alpha, len(self.checks))
        # A span without an alarm may be neither good nor bad.
        calm = "good" if words.is_calm(ranked, self.kind, self.alpha) else ""
        look = "bad" if self.alarms else calm
        return html.page(
            self._title(),
            html.summary(self.headline(), advice, look=look),
            html.element("p", self._compared(), class_="soft"),
            page.alarms_part(self.alarms, self.kind, self.guarantee),
            page.where_part(self.segments, self.alpha),
            page.notes_part(self.acknowledged),
            page.performance_part(self.performance),
            page.checks_part(self.checks),
            page.features_part(ranked, self.alarms, self.kind),
            page.promise_part(self.guarantee, self.assumptions),
            page.words_part(),
        )

    def headline(self) -> str:
        """What changed, since when and by how much, in one or two sentences."""
        return words.headline(self.alarms, self.ranked(), self.kind, self.rows, self.alpha)

    def _repr_html_(self) -> str:
        facts = [("found", self.headline()), ("compared", self._compared())]
        return html.card(self._title(), facts + [("", line) for line in self._lines()])


def _order(drift: FeatureDrift) -> tuple[float, float]:
    """Less for more evidence, -log10 of the smaller p-value, times the weight; then for a larger size."""
    known = [p for p in (drift.p_changed, drift.p_material) if p is not None and not isnan(p)]
    evidence = -log10(max(min(known, default=1.0), LEAST_P)) * drift.weight
    size = drift.effects[0].value if drift.effects else 0.0
    return -round(evidence, 6), 0.0 if isnan(size) else -abs(size)


def customary_psi(old: Array, new: Array) -> float:
    """The population stability index of counts (K,): the sum of (p - q) ln(p / q).

    A share of 0 counts as 0.0001. Source: Siddiqi, Credit Risk Scorecards.
    """
    p = np.maximum(new / new.sum(), LEAST_SHARE)
    q = np.maximum(old / old.sum(), LEAST_SHARE)
    return float(((p - q) * np.log(p / q)).sum())

"""What a Detector found, as a value: it can be printed, kept as JSON, read as a frame and looked at as a page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from math import isnan, log10, nan
from typing import Any, Literal, final

from modelkit import html, record
from modelkit.drift import sections
from modelkit.drift.values import Alarm, Check, Effect, FeatureDrift, Performance
from modelkit.errors import DriftError, importing

REPORT_SCHEMA = "modelkit.drift/1"
MOST_CHARTS = 20


@final
@dataclass(frozen=True, repr=False)
class DriftReport:
    """How recent rows compare with a reference.

    `kind` is "stream" (all that a Detector saw so far; the p-values hold whenever they are read) or
    "batch" (one set of rows; exact p-values). `rows` were compared with `reference_rows`; `skipped`
    were left out by a row budget. `alpha` is the false-alarm rate, `guarantee` says in words of
    what, and each of `assumptions` what was checked for it and found. `alarms` is empty where
    nothing was found. `features` has one entry for each feature and stratum.
    """

    kind: Literal["stream", "batch"]
    rows: int
    reference_rows: int
    alpha: float
    guarantee: str
    assumptions: tuple[str, ...]
    alarms: tuple[Alarm, ...]
    features: tuple[FeatureDrift, ...]
    checks: tuple[Check, ...]
    performance: Performance | None
    skipped: int = 0

    def ranked(self) -> tuple[FeatureDrift, ...]:
        """The features by evidence times importance, -log10(p) * weight with the smaller p; ties by effect size."""
        return tuple(
            sorted(self.features, key=lambda drift: (-round(_evidence(drift), 6), -_size(drift)))
        )

    def __str__(self) -> str:
        lines = [f"{self._title()}: {self._compared()}"]
        lines += _with_rest(self.alarms, [f"ALARM {alarm}" for alarm in self.alarms[:3]], "alarm")
        top = self.ranked()[:4]
        lines += _with_rest(
            self.features,
            [f"{sections.where(d.feature, d.stratum)}: {self._found(d)}" for d in top],
            "feature",
        )
        lines += _with_rest(self.checks, [str(check) for check in self.checks[:2]], "check")
        if self.performance is not None:
            lines.append(_performance_text(self.performance))
        return "\n  ".join([*lines, f"guarantee: {self.guarantee}"])

    def __repr__(self) -> str:
        return str(self)

    def _title(self) -> str:
        return f"Drift of a {self.kind}, {sections.counted(len(self.alarms), 'alarm') if self.alarms else 'no alarm'}"

    def _compared(self) -> str:
        skipped = f" ({self.skipped:,} more left out by the row budget)" if self.skipped else ""
        rows = f"{sections.counted(self.rows, 'row')}{skipped}"
        return f"{rows} against {self.reference_rows:,} of the reference, alpha {self.alpha:g}"

    def _found(self, drift: FeatureDrift) -> str:
        return "; ".join(
            [sections.tests_text(drift, self.kind), *(str(size) for size in drift.effects[:1])]
        )

    def to_json(self) -> str:
        """Everything, as one line of ASCII: it may be printed on any terminal."""
        return json.dumps(
            {"schema": REPORT_SCHEMA} | record.plain(asdict(self)), allow_nan=False, sort_keys=True
        )

    @staticmethod
    def from_json(text: str) -> DriftReport:
        """The inverse of `to_json`. Raises DriftError for text that is no such record."""
        try:
            plain = record.back(json.loads(text))
            if plain.pop("schema") != REPORT_SCHEMA:
                raise DriftError(f"this is no record of {REPORT_SCHEMA}")
            performance = plain["performance"]
            return DriftReport(
                **plain
                | {
                    "assumptions": tuple(plain["assumptions"]),
                    "alarms": tuple(map(_read_alarm, plain["alarms"])),
                    "features": tuple(map(_read_feature, plain["features"])),
                    "checks": tuple(Check(**check) for check in plain["checks"]),
                    "performance": None if performance is None else _read_performance(performance),
                }
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DriftError(f"this is no drift report in JSON: {error}") from error

    def to_dataframe(self) -> Any:
        """A pandas frame with a row for each feature, as `ranked`, and three columns for each kind of effect size."""
        with importing("pandas", "DriftReport.to_dataframe", "frames"):
            import pandas as pd
        names = [
            f.name for f in fields(FeatureDrift) if f.name not in ("effects", "missing", "cells")
        ]
        columns = [*names, "missing_reference", "missing_recent"]
        rows = [_flat(drift, names) for drift in self.ranked()]
        sizes = dict.fromkeys(name for row in rows for name in row if name not in columns)
        frame = pd.DataFrame(rows, columns=[*columns, *sizes])
        return frame.astype({"began": "Int64", "p_changed": "float64", "p_material": "float64"})

    def to_html(self) -> str:
        """A page of its own, with a chart for each of the first 20 features; it has no scripts and loads nothing."""
        alarmed = {(alarm.feature, alarm.stratum) for alarm in self.alarms}
        ranked = self.ranked()
        charts = [
            sections.feature_part(
                drift, self.kind, alarmed=(drift.feature, drift.stratum) in alarmed
            )
            for drift in ranked[:MOST_CHARTS]
        ]
        legend = (
            '<h2>Features, by evidence times importance</h2><p><span class="key old" style="margin-left:0"></span>'
            'reference<span class="key new"></span>recent rows</p>'
        )
        body = [
            f'<p class="soft">{html.escape(self._compared())}</p>',
            sections.alarm_box(self.alarms, self.kind, self.guarantee),
            sections.promise(self.guarantee, self.assumptions),
            sections.performance_part(self.performance),
            sections.checks_part(self.checks),
            f'{legend}<div class="grid">{"".join(charts)}</div>' if charts else "",
            sections.rest_part(ranked[MOST_CHARTS:]),
        ]
        return html.page(self._title(), "".join(body), sections.STYLE)

    def _repr_html_(self) -> str:
        facts = [
            ("compared", self._compared()),
            *(("alarm", str(alarm)) for alarm in self.alarms[:5]),
        ]
        if self.performance is not None:
            facts.append(("performance", _performance_text(self.performance)))
        rows = [
            (
                sections.where(drift.feature, drift.stratum),
                sections.tests_text(drift, self.kind),
                "; ".join(map(sections.effect_text, drift.effects[:1])),
            )
            for drift in self.ranked()[:5]
        ]
        return html.card(
            self._title(), [*facts, ("guarantee", self.guarantee)], ("feature", "", "size"), rows
        )


def _evidence(drift: FeatureDrift) -> float:
    p = min(
        (p for p in (drift.p_changed, drift.p_material) if p is not None and not isnan(p)),
        default=1.0,
    )
    return -log10(max(p, 1e-300)) * drift.weight


def _size(drift: FeatureDrift) -> float:
    return max(
        (abs(size.value) for size in drift.effects[:1] if not isnan(size.value)), default=0.0
    )


def _with_rest(all_of_them: tuple[Any, ...], lines: list[str], noun: str) -> list[str]:
    left = len(all_of_them) - len(lines)
    return [*lines, f"and {sections.counted(left, f'more {noun}')}"] if left else lines


def _performance_text(found: Performance) -> str:
    parts = []
    if found.loss is not None:
        parts.append(
            f"loss {sections.interval_text(found.loss)} of "
            f"{sections.counted(found.labelled, 'labelled row')}"
        )
    if found.baseline is not None:
        parts.append(f"reference {sections.interval_text(found.baseline)}")
    parts += [
        f"estimated {name} {sections.interval_text(values)}"
        for name, values in found.estimated.items()
    ]
    if found.unsupported is not None:
        parts.append(f"estimates not to be relied on: {found.unsupported}")
    return "; ".join(parts) or "nothing known of the performance"


def _flat(drift: FeatureDrift, names: list[str]) -> dict[str, Any]:
    row = {name: getattr(drift, name) for name in names}
    before, now = drift.missing
    row |= {"missing_reference": before, "missing_recent": now if drift.rows else nan}
    for size in drift.effects:
        row |= {size.name: size.value, f"{size.name} low": size.low, f"{size.name} high": size.high}
    return row


def _read_alarm(plain: dict[str, Any]) -> Alarm:
    size = None if plain["effect"] is None else Effect(**plain["effect"])
    return Alarm(**plain | {"effect": size, "assumptions": tuple(plain["assumptions"])})


def _read_feature(plain: dict[str, Any]) -> FeatureDrift:
    effects = tuple(Effect(**size) for size in plain["effects"])
    before, now = plain["missing"]
    cells = tuple((label, old, new) for label, old, new in plain["cells"])
    return FeatureDrift(**plain | {"effects": effects, "missing": (before, now), "cells": cells})


def _read_performance(plain: dict[str, Any]) -> Performance:
    three = {
        name: None if plain[name] is None else tuple(plain[name]) for name in ("loss", "baseline")
    }
    return Performance(
        **plain | three | {"estimated": {name: tuple(v) for name, v in plain["estimated"].items()}}
    )

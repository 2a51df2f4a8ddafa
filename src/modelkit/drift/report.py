"""What a Detector found, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelkit.drift.values import Alarm, Check, FeatureDrift, Performance


@dataclass(frozen=True)
class DriftReport:
    """Stub."""

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

"""What a Detector says, as values: alarms, checks, and the findings on each feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AlarmKind = Literal["changed", "material", "performance"]


@dataclass(frozen=True)
class Effect:
    """The size of a difference, from counts: `low` and `high` are a 95 % interval."""

    name: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Alarm:
    """One alarm, with the evidence and the assumptions behind it.

    `kind` is "changed" (the rows are no longer like the reference), "material" (and by more than
    the tolerance) or "performance" (the mean loss is above the bound for that of the reference, and
    0.02 more). `p` is that of the evidence: under the hypothesis it is ever at most p with a
    probability of at most p (of a Detector with "arl": at any one time). `level` is the share of
    alpha of this kind, feature and stratum; for "material" and "performance" a third of it is for
    the error of the reference, which p does not count. `row` is the number of rows seen until then, `began` the
    estimated number of rows before the change. `stratum` is None where there are no strata.
    """

    kind: AlarmKind
    feature: str
    stratum: str | None
    statistic: str
    p: float
    level: float
    row: int
    began: int | None
    effect: Effect | None
    guarantee: str
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        where = "" if self.stratum is None else f" (stratum {self.stratum})"
        since = "" if self.began is None else f", since about row {self.began:,}"
        size = "" if self.effect is None else f", {self.effect}"
        about = f"{self.kind} at row {self.row:,}{since}"
        return f"{self.feature}{where}: {about}: p {self.p:.2g}{size}"


@dataclass(frozen=True)
class DriftCheck:
    """A plain fact about rows that the reference did not prepare for.

    `p` is the p-value where a test stands behind it, None elsewhere.
    """

    name: str
    feature: str
    found: str
    expected: str
    p: float | None = None

    def __str__(self) -> str:
        test = "" if self.p is None else f" (p {self.p:.2g})"
        return f"{self.feature}: {self.name}: {self.found}; expected {self.expected}{test}"


@dataclass(frozen=True)
class FeatureDrift:
    """The findings on one feature.

    `p_changed` and `p_material` are anytime p-values of a stream, or for a batch the exact p-value,
    adjusted by Holm, and None. `cells` are (label, share of the reference, share of the recent
    rows), in order, for drawing; `missing` the two shares of missing values; `weight` the
    importance, of a sum of one.
    """

    feature: str
    kind: str
    stratum: str | None
    rows: int
    p_changed: float | None
    p_material: float | None
    effects: tuple[Effect, ...]
    missing: tuple[float, float]
    weight: float
    began: int | None
    cells: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Performance:
    """The performance of a model: from labels, and estimated without.

    `loss` and `baseline` are (mean, low, high) of the labelled rows and of the reference;
    `labelled` is the number of labelled rows. `estimated` has the label-free estimates by name:
    (value, low, high); `unsupported` is the reason not to rely on them, or None.
    """

    labelled: int
    loss: tuple[float, float, float] | None
    baseline: tuple[float, float, float] | None
    estimated: dict[str, tuple[float, float, float]]
    unsupported: str | None = None

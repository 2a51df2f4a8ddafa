"""What a Detector says, as values: alarms, checks, and the findings on each feature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Literal

from modelkit._internal import fields
from modelkit.drift.row_times import second_text
from modelkit.drift.units import count_of

AlarmKind = Literal["changed", "material", "performance"]


@dataclass(frozen=True, eq=False)
class Effect:
    """The size of a difference, from counts: `low` and `high` are a 95 % interval, or both NaN.

    Two are equal where their fields are, NaN among them: an alarm that was read again is the same.
    """

    name: str
    value: float
    low: float
    high: float

    @staticmethod
    def later(measure: Callable[[], tuple[Effect, ...]]) -> Effect:
        """The first of what `measure` gives, once somebody looks at it: four hundred alarms at once cost little."""
        effect = object.__new__(Effect)
        vars(effect)["_measure"] = measure
        return effect

    def __getattr__(self, name: str) -> Any:  # of a field that was not measured yet
        if name not in Effect.__dataclass_fields__:
            raise AttributeError(f"an Effect has no {name!r}")
        held = vars(self)
        measure = held.get("_measure")
        if measure is not None:  # no other thread was sooner
            held.update(vars(measure()[0]))
            held.pop("_measure", None)
        return held[name]

    def _key(self) -> tuple[str, ...]:
        return self.name, *map(str, map(float, (self.value, self.low, self.high)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Effect) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        if isnan(self.low):
            return f"{self.name} {self.value:.3f}"
        return f"{self.name} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Alarm:
    """One alarm, with the evidence and the assumptions behind it.

    `kind` is "changed" (the rows are no longer like the reference), "material" (and by more than
    the tolerance) or "performance" (the mean loss is above the bound for the mean loss of the
    reference, and 0.02 more). `p` is the p-value of the evidence: under the hypothesis it is ever
    at most p with a probability of at most p (of a Detector with "arl": at any one time). `level`
    is the share of alpha of this kind, feature and stratum that was left for this alarm; for
    "material" of rows and for "performance" a third of it is for the error of the reference, which
    p does not count. `row` is the number of rows seen until then, of all strata and references, as
    the Detector counts them, or as its Monitor served them; of labels it is the number of labels.
    `began` is the estimated number of them before the change. `time` is the latest time of a row
    until then, or the last second of the unit, and `began_time` the estimated one of the change, in
    seconds since 1970, by the rows or else by the host's clock; None for a batch of rows without
    times. `rows` is how many rows were looked at until then: rows of the stratum that have a value
    of the feature and that its stride left, since the reference was taken. `again` says that rows
    differ from what the feature's alarm before was about: by more than it showed, or for "changed"
    from the rows since it was acknowledged. `unit` names the unit that was judged, such as "day
    2013-03-09"; None where rows are compared. `counts` are the numbers of rows in each of the 67
    cells since the change, of the last 1,024 at most: what the alarm saw; empty for "performance".
    `stratum` is None without a strata. `statistic` names what p was computed from, `effect` is the
    size of the change, None where it is not known, and `guarantee` and `assumptions` say in words
    what holds and why.
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
    time: float | None = None
    began_time: float | None = None
    rows: int | None = None
    unit: str | None = None
    counts: tuple[int, ...] = field(default=(), repr=False)
    again: bool = False

    __repr__ = fields.brief

    def __str__(self) -> str:
        where = "" if self.stratum is None else f" (stratum {self.stratum})"
        since = "" if self.began is None else f", since about row {self.began:,}"
        if self.unit is not None and self.began_time is not None:
            since = f", since about {second_text(self.began_time)} UTC"
        size = "" if self.effect is None else f", {self.effect}"
        when = f"at row {self.row:,}" if self.unit is None else f"with {self.unit}"
        again = " again" if self.again else ""
        about = f"{self.kind}{again} {when}{since}"
        if self.unit is None and self.rows is not None and self.rows < self.row:
            about = f"{about} ({count_of(self.rows, 'row')} looked at)"
        return f"{self.feature}{where}: {about}: p {self.p:.2g}{size}"


@dataclass(frozen=True)
class Acknowledgement:
    """An alarm that somebody knows of, and why it is dealt with.

    `at` is when you acknowledged it, in POSIX seconds.
    """

    alarm: Alarm
    reason: str
    at: float

    def __str__(self) -> str:
        return f"{self.alarm.feature}: {self.alarm.kind}: acknowledged: {self.reason}"


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
    adjusted for all features (by Holm, or for units by the largest of each choice), and None.
    `cells` are (label, share of the reference, share of the recent rows), in order, for drawing;
    `missing` the two shares of missing values; `weight` the importance, of a sum of one. `bins` are
    (upper end, rows of the reference, recent rows), ten of about a tenth of the reference each, or
    one for each category. The p-values rest on `compared` rows and on
    `reference_rows` of the reference.
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
    cells: tuple[tuple[str, float, float], ...]
    bins: tuple[tuple[str, int, int], ...]
    reference_rows: int
    compared: int

    __repr__ = fields.brief


@dataclass(frozen=True)
class SegmentDrift:
    """A feature with an alarm in one segment: one category, range or hour of the column `by`.

    `rows` of the latest rows are in it, and `share` are its shares of the rows of the reference and
    of the latest ones. `p` holds at all times, adjusted by Holm over all segments of a report.
    """

    feature: str
    by: str
    segment: str
    rows: int
    share: tuple[float, float]
    p: float
    effect: Effect

    def __str__(self) -> str:
        where = f"{self.feature} in {self.by} {self.segment}"
        return f"{where}: p {self.p:.2g}, {count_of(self.rows, 'row')}, {self.effect}"


@dataclass(frozen=True)
class Performance:
    """The performance of a model: from labels, and estimated without.

    `loss` and `baseline` are (mean, low, high) of the labelled rows and of the reference;
    `labelled` is the number of labelled rows. `estimated` has the label-free estimates by name:
    (value, low, high); `unsupported` is the reason not to rely on them, or None. `positive` is the
    class of two, as text, of which the precision, recall, F1 and AUC among them are; else empty.
    """

    labelled: int
    loss: tuple[float, float, float] | None
    baseline: tuple[float, float, float] | None
    estimated: dict[str, tuple[float, float, float]]
    unsupported: str | None = None
    positive: str = ""

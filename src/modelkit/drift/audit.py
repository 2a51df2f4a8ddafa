"""The figures that auditors ask for: PSI in ten bins of the reference, and Kolmogorov-Smirnov.

Both are as a text book has them, of one look at one feature, and no alarm goes by them. Each row
holds the bins and their counts, so that whoever has the rows, or only this table, computes the same
figures again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.fields import brief
from modelkit.drift.cells import GONE, REST, Feature
from modelkit.drift.values import Alarm, FeatureDrift
from modelkit.errors import importing

AUDIT_SCHEMA = "modelkit.audit/1"
BINS = 10
LEAST_SHARE = 1e-4  # that stands for an empty bin, whose logarithm there is not
CUSTOMARY = ((0.1, "stable"), (0.25, "moderate"))  # Siddiqi, Credit Risk Scorecards


@final
@dataclass(frozen=True)
class AuditRow:
    """The customary figures on one feature.

    `bins` are (upper end, reference rows, recent rows): a value belongs to the first bin whose end
    it does not exceed, the last bin has the end "inf", and a category is a bin of its own. Missing
    values are in no bin; `missing` has their two shares. `psi` is the sum over the bins of (p - q)
    ln(p / q), where a share of 0 counts as 0.0001; `says` is what is customarily said of it:
    "stable" below 0.1, "moderate" below 0.25, "large" else. `test` is "ks", the two-sample
    Kolmogorov-Smirnov test, or for categories "chi-square"; `statistic` and `p` are of that test
    alone, as if nobody looked at any other feature or on any other day. They are None where there
    are no rows on one side. `alarms` are the kinds of alarms that the feature raised here.
    """

    feature: str
    stratum: str | None
    kind: str
    reference_rows: int
    recent_rows: int
    missing: tuple[float, float]
    psi: float | None
    says: str | None
    test: str
    statistic: float | None
    p: float | None
    alarms: tuple[str, ...]
    bins: tuple[tuple[str, int, int], ...]

    __repr__ = brief


@final
@dataclass(frozen=True)
class AuditTable:
    """The customary figures on all features, in the order of the report."""

    rows: tuple[AuditRow, ...]

    __repr__ = brief

    def to_csv(self) -> str:
        """A line for each feature; bins, missing shares and alarms are JSON within their field."""
        written = io.StringIO()
        names = [own.name for own in fields(AuditRow)]
        lines = csv.DictWriter(written, names, lineterminator="\n")
        lines.writeheader()
        for row in self.rows:
            lines.writerow({name: _cell(value) for name, value in asdict(row).items()})
        return written.getvalue()

    def to_json(self) -> str:
        """Everything, as one line of ASCII."""
        rows = [asdict(row) for row in self.rows]
        plain = {"schema": AUDIT_SCHEMA, "rows": rows}
        return json.dumps(plain, allow_nan=False, sort_keys=True)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, tuple) else value


def audit_table(features: Iterable[FeatureDrift], alarms: Sequence[Alarm]) -> AuditTable:
    """The customary figures of features."""
    rows = []
    for drift in features:
        own = (drift.feature, drift.stratum)
        kinds = dict.fromkeys(
            alarm.kind for alarm in alarms if (alarm.feature, alarm.stratum) == own
        )
        rows.append(_row(drift, tuple(kinds)))
    return AuditTable(tuple(rows))


def _row(drift: FeatureDrift, alarms: tuple[str, ...]) -> AuditRow:
    old = np.array([before for _, before, _ in drift.bins])
    new = np.array([now for _, _, now in drift.bins])
    ordered = drift.kind != "category"
    psi = None
    statistic = None
    p = None
    if old.sum() and new.sum():
        psi = customary_psi(old, new)
        statistic, p = _test(drift, old, new)
    return AuditRow(
        feature=drift.feature,
        stratum=drift.stratum,
        kind=drift.kind,
        reference_rows=int(old.sum()),
        recent_rows=int(new.sum()),
        missing=drift.missing,
        psi=psi,
        says=None if psi is None else _says(psi),
        test="ks" if ordered else "chi-square",
        statistic=statistic,
        p=p,
        alarms=alarms,
        bins=drift.bins,
    )


def _test(drift: FeatureDrift, old: Array, new: Array) -> tuple[float, float]:
    """The statistic of the customary test, and its p-value."""
    if drift.kind == "category":
        return _chi_square(old, new)
    return _ks(drift, old, new)


def customary_psi(old: Array, new: Array) -> float:
    """The population stability index of counts (K,), where a share of 0 counts as 0.0001."""
    p = np.maximum(new / new.sum(), LEAST_SHARE)
    q = np.maximum(old / old.sum(), LEAST_SHARE)
    return float(((p - q) * np.log(p / q)).sum())


def _says(psi: float) -> str:
    for limit, word in CUSTOMARY:
        if psi < limit:
            return word
    return "large"


def _ks(drift: FeatureDrift, old: Array, new: Array) -> tuple[float, float]:
    """The distance at the ends of cells, and the p-value that goes with it.

    As scipy.stats.ks_2samp has it with method="asymp". Between the ends of cells the distance of
    the rows themselves may be larger, by less than one cell.
    """
    with importing("scipy", "the customary Kolmogorov-Smirnov test", "drift"):
        from scipy.stats import kstwo

    shares = [(before, now) for label, before, now in drift.cells if label != "(missing)"]
    before, now = np.array(shares).T
    gap = np.cumsum(now / now.sum()) - np.cumsum(before / before.sum())
    distance = float(np.abs(gap).max())
    sizes = old.sum() * new.sum() / (old.sum() + new.sum())
    return distance, float(kstwo.sf(distance, round(sizes)))


def _chi_square(old: Array, new: Array) -> tuple[float, float]:
    """Pearson's statistic of a table of two rows, and its p-value."""
    with importing("scipy", "the customary chi-square test", "drift"):
        from scipy.special import chdtrc

    table = np.array([old, new])[:, (old + new) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(max(table.shape[1] - 1, 1), statistic))


# The bins.


def bins_of(feature: Feature, reference: Array, recent: Array) -> tuple[tuple[str, int, int], ...]:
    """The customary bins of counts (67,): (upper end, reference rows, recent rows).

    A category that the reference has is a bin, and all others together are one. Other values have
    ten bins of about a tenth of the reference each, whose ends are the ends of cells next to the
    deciles; fewer where one value has more than a tenth.
    """
    if feature.ordered:
        return _deciles(feature, reference[:GONE], recent[:GONE])
    return _categories(feature.labels(), reference, recent)


def _categories(
    labels: Sequence[str], reference: Array, recent: Array
) -> tuple[tuple[str, int, int], ...]:
    known = [cell for cell in range(REST) if reference[cell]]
    bins = [(labels[cell], int(reference[cell]), int(recent[cell])) for cell in known]
    others = int(reference[REST:GONE].sum())
    rest = int(recent[:GONE].sum()) - sum(now for _, _, now in bins)
    if others or rest or not bins:
        bins.append(("(other)", others, rest))
    return tuple(bins)


def _deciles(feature: Feature, reference: Array, recent: Array) -> tuple[tuple[str, int, int], ...]:
    ends = _ends(feature)
    cuts = _next_to_deciles(reference, len(ends))
    names = [ends[cell] for cell in cuts]
    names.append("true" if feature.kind == "flag" else "inf")
    starts = [0, *(cell + 1 for cell in cuts)]
    before = np.add.reduceat(reference, starts)
    now = np.add.reduceat(recent, starts)
    return tuple(zip(names, before.tolist(), now.tolist(), strict=True))


def _next_to_deciles(reference: Array, ends: int) -> list[int]:
    """The cells, of the first `ends`, at whose ends the bins of counts (66,) end."""
    upto = np.cumsum(reference)[:ends]
    total = reference.sum()
    nearest = []
    for tenth in range(1, BINS):
        far = np.abs(upto - total * tenth / BINS)
        nearest.append(int(far.argmin()))
    return [cell for cell in dict.fromkeys(nearest) if 0 < upto[cell] < total]


def _ends(feature: Feature) -> list[str]:
    """The upper ends of the cells that a value can be at or below, in order: all but the last."""
    if feature.kind == "flag":
        return ["-inf", "false"]
    if feature.kind == "time":
        return ["-inf", *(str(np.datetime64(int(edge), "us")) for edge in feature.edges)]
    return ["-inf", *(str(np.float32(edge)) for edge in feature.edges)]

"""The figures that auditors ask for, as CSV: PSI in ten bins of the reference.

The population stability index is as a text book has it, of one look at one feature, and no alarm
goes by it. Each line has the bins and their counts, so that whoever has the rows, or only the line,
computes it again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import GONE, REST, Feature
from modelkit.drift.values import Alarm, FeatureDrift

COLUMNS = (
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
BINS = 10
LEAST_SHARE = 1e-4  # that stands for an empty bin, whose logarithm there is not


def audit_csv(features: Iterable[FeatureDrift], alarms: Sequence[Alarm]) -> str:
    """The lines of features, under a head."""
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(COLUMNS)
    for drift in features:
        old = np.array([before for _, before, _ in drift.bins])
        new = np.array([now for _, _, now in drift.bins])
        psi = customary_psi(old, new) if old.any() and new.any() else None
        where = (drift.feature, drift.stratum)
        kinds = [alarm.kind for alarm in alarms if (alarm.feature, alarm.stratum) == where]
        lists = [json.dumps(own) for own in (drift.missing, [*dict.fromkeys(kinds)], drift.bins)]
        missing, raised, bins = lists
        lines.writerow((*where, drift.kind, old.sum(), new.sum(), missing, psi, raised, bins))
    return written.getvalue()


def customary_psi(old: Array, new: Array) -> float:
    """The population stability index of counts (K,): the sum of (p - q) ln(p / q).

    A share of 0 counts as 0.0001. Source: Siddiqi, Credit Risk Scorecards.
    """
    p = np.maximum(new / new.sum(), LEAST_SHARE)
    q = np.maximum(old / old.sum(), LEAST_SHARE)
    return float(((p - q) * np.log(p / q)).sum())


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

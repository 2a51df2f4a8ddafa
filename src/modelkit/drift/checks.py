"""Plain checks of rows: facts that the reference did not prepare for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, GONE, UNKNOWN_CATEGORY, Feature
from modelkit.drift.columns import as_texts
from modelkit.drift.counts import STRANGE, Tally
from modelkit.drift.layout import Rows
from modelkit.drift.open_unit import Units
from modelkit.drift.profile import Profile
from modelkit.drift.units import count_of, many
from modelkit.drift.values import DriftCheck
from modelkit.stats.exact import constant_test, rate_test
from modelkit.stats.tests import holm

EXAMPLES_SHOWN = 3  # of unseen categories
LONGEST_EXAMPLE = 40
FEWEST_ALIKE = 20  # rows of one value that are worth a word


def unseen(
    features: Sequence[Feature], counts: Array, rows: Rows | None = None
) -> list[DriftCheck]:
    """Categories that training did not know, from counts (d, 67); by the rows, the names of some."""
    found = []
    for j, (feature, own) in enumerate(zip(features, counts.tolist(), strict=True)):
        new = own[UNKNOWN_CATEGORY]
        if not new or feature.ordered:
            continue
        what = f"{new:,} of {sum(own):,} rows"
        if rows is None:
            what = f"{what} have a category that training did not know"
        else:
            these = rows.columns[feature.name][rows.cells[:, j] == UNKNOWN_CATEGORY]
            names = sorted({str(name) for name in as_texts(these)})[:EXAMPLES_SHOWN]
            what = f"{what}, such as {', '.join(repr(name[:LONGEST_EXAMPLE]) for name in names)}"
        found.append(DriftCheck("unseen category", feature.name, what, "none"))
    return found


def strange_rows(profile: Profile, strange: int, rows: int) -> list[DriftCheck]:
    """Rows of a stratum that the reference does not have."""
    return _unseen_stratum(profile, f"{strange:,} of {rows:,} rows are") if strange else []


def strange_units(profile: Profile, units: int, rows: int) -> list[DriftCheck]:
    """Units of a stratum that the reference does not have, and their rows."""
    what = f"{many(units, str(profile.unit))} ({count_of(rows, 'row')})"
    return _unseen_stratum(profile, what) if units else []


def _unseen_stratum(profile: Profile, what: str) -> list[DriftCheck]:
    found = f"{what} of a stratum that the reference lacks; they were not compared"
    return [DriftCheck("unseen stratum", str(profile.stratum), found, "none")]


def units_left_out(profile: Profile, units: Units) -> list[DriftCheck]:
    """Rows of a stream of units that could not be compared."""
    found = []
    if units.late:
        late = "came after their unit was judged; they were not compared"
        what = f"{count_of(units.late, 'row')} {late}"
        found.append(DriftCheck("late rows", str(profile.time or profile.unit), what, "none"))
    if units.partial:
        part = f"of the {units.unit} in which watching began, which is incomplete"
        what = f"{count_of(units.partial, 'row')} {part}; they were not compared"
        found.append(DriftCheck("unit not whole", str(profile.time), what, "whole units"))
    return found + strange_units(profile, units.uncompared, units.strange)


def of_counts(profile: Profile, tally: Tally, alpha: float) -> list[DriftCheck]:
    """Rates that went up, and constant columns, where an exact test at alpha finds them.

    Holm's correction is over all tests of all columns, and not over those that found something:
    these are chosen by the rows. Rows of a stratum that the reference does not have are left out.
    """
    known = [stratum != STRANGE for _, stratum in tally.groups]
    counts = tally.counts[known].sum(axis=0)
    reference = profile.counts.sum(axis=0)
    tested: list[DriftCheck] = []
    for j in np.flatnonzero(tally.counted).tolist():
        tested += _tested(profile.features[j], counts[j], reference[j])
    adjusted = holm(np.array([check.p for check in tested], np.float64)).tolist()
    pairs = zip(tested, adjusted, strict=True)
    return [replace(check, p=p) for check, p in pairs if p <= alpha]


def _tested(feature: Feature, counts: Array, reference: Array) -> list[DriftCheck]:
    """Whether all values are in one cell, and rates of missing, infinite and outlying ones.

    p is 1 where a batch of at least 20 rows is not constant, and where a rate did not go up.
    """
    n, total = int(counts.sum()), int(reference.sum())
    cell = int(np.argmax(counts))
    constant = n >= FEWEST_ALIKE and counts[cell] == n
    found = DriftCheck(
        "constant",
        feature.name,
        f"all {n:,} values are {feature.labels()[cell]}",
        f"a share of {reference[cell] / max(total, 1):.2g}",
        constant_test(counts, reference) if constant else 1.0,
    )
    rates = {"missing rate": [GONE]}
    if feature.kind in ("number", "text", "time") and feature.edges:
        rates["below the usual range"] = [1]
        rates["above the usual range"] = [len(feature.edges) + 1]
        rates["infinite"] = [0, CELLS - 2]
    tested = [found]
    for name, cells in rates.items():
        here, there = int(counts[cells].sum()), int(reference[cells].sum())
        p = rate_test(here, n, there, total) if here * total > there * n else 1.0
        rate = f"{here / max(n, 1):.2%} of {n:,} rows"
        tested.append(DriftCheck(name, feature.name, rate, f"{there / max(total, 1):.2%}", p))
    return tested

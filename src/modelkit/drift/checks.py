"""Plain checks of rows: facts that the reference did not prepare for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, GONE, UNKNOWN_CATEGORY, Feature
from modelkit.drift.columns import as_texts, length
from modelkit.drift.counts import STRANGE, Tally
from modelkit.drift.layout import Rows
from modelkit.drift.open_unit import Units
from modelkit.drift.profile import Profile
from modelkit.drift.repeats import duplicates
from modelkit.drift.units import many
from modelkit.drift.values import DriftCheck
from modelkit.stats.exact import constant_test, rate_test
from modelkit.stats.tests import holm

EXAMPLES_SHOWN = 3  # of unseen categories
LONGEST_EXAMPLE = 40
MOST_COMPARED = 100_000  # rows that are looked through for duplicates
FEWEST_ALIKE = 20  # rows of one value that are worth a word


def unseen(features: Sequence[Feature], counts: Array) -> list[DriftCheck]:
    """Categories that training did not know, from counts (d, 67)."""
    found = []
    for feature, own in zip(features, counts.tolist(), strict=True):
        new = own[UNKNOWN_CATEGORY]
        if new and not feature.ordered:
            rows = f"{new:,} of {sum(own):,} rows have a category that training did not know"
            found.append(DriftCheck("unseen category", feature.name, rows, "none"))
    return found


def unseen_names(features: Sequence[Feature], rows: Rows) -> list[DriftCheck]:
    """The same with the names of some."""
    found = []
    for j, feature in enumerate(features):
        new = np.flatnonzero(rows.cells[:, j] == UNKNOWN_CATEGORY)
        if len(new) and not feature.ordered:
            names = {str(name) for name in as_texts(rows.columns[feature.name][new])}
            shown = ", ".join(
                repr(name[:LONGEST_EXAMPLE]) for name in sorted(names)[:EXAMPLES_SHOWN]
            )
            seen = f"{len(new):,} of {len(rows):,} rows, such as {shown}"
            found.append(DriftCheck("unseen category", feature.name, seen, "none"))
    return found


def strangers(unknown: int, rows: int, stratum: str | None) -> list[DriftCheck]:
    """Rows of a stratum that the reference does not have."""
    if not unknown or stratum is None:
        return []
    found = (
        f"{unknown:,} of {rows:,} rows are of a stratum that the reference does not have; they "
        "were not compared"
    )
    return [DriftCheck("unseen stratum", stratum, found, "none")]


def strange_units(profile: Profile, units: int, rows: int) -> list[DriftCheck]:
    """Units of a stratum that the reference does not have, and their rows."""
    if not units:
        return []
    found = (
        f"{many(units, str(profile.unit))} ({rows:,} rows) of a stratum that the reference does not "
        "have; they were not compared"
    )
    return [DriftCheck("unseen stratum", str(profile.stratum), found, "none")]


def units_left_out(profile: Profile, stream: Units) -> list[DriftCheck]:
    """Rows of a stream of units that could not be compared."""
    found = []
    if stream.late:
        rows = (
            f"{stream.late:,} rows came after the unit that they belong to was judged; they were "
            "not compared"
        )
        found.append(DriftCheck("late rows", str(profile.time or profile.unit), rows, "none"))
    if stream.partial:
        rows = (
            f"{stream.partial:,} rows are of the {stream.unit} in which watching began, which is not "
            "whole; they were not compared"
        )
        found.append(DriftCheck("unit not whole", str(profile.time), rows, "whole units"))
    return found + strange_units(profile, stream.uncompared, stream.strange)


def of_counts(profile: Profile, tally: Tally, alpha: float) -> list[DriftCheck]:
    """Rates that went up, and constant columns, where an exact test at alpha tells them.

    Holm's correction is over all tests of all columns, and not over those that found something:
    these are chosen by the rows. Rows of a stratum that the reference does not have are left out.
    """
    tested: list[DriftCheck] = []
    known = [stratum != STRANGE for _, stratum in tally.groups]
    counts = tally.counts[known].sum(axis=0)
    reference = profile.counts.sum(axis=0)
    for j in np.flatnonzero(tally.counted).tolist():
        feature = profile.features[j]
        tested.append(_constant_column(feature, counts[j], reference[j]))
        tested += _rates(feature, counts[j], reference[j])
    adjusted = holm(np.array([check.p for check in tested], np.float64))
    found = []
    for check, p in zip(tested, adjusted.tolist(), strict=True):
        if p <= alpha:
            found.append(replace(check, p=p))
    return found


def _constant_column(feature: Feature, counts: Array, reference: Array) -> DriftCheck:
    """Whether all values of a batch are in one cell; p is the exact probability of that.

    It is 1 where they are not, and of fewer than 20 rows.
    """
    n = int(counts.sum())
    cell = int(np.argmax(counts))
    p = 1.0
    if n >= FEWEST_ALIKE and counts[cell] == n:
        p = constant_test(counts, reference)
    share = reference[cell] / max(reference.sum(), 1)
    found = f"all {n:,} values are {feature.labels()[cell]}"
    return DriftCheck("constant", feature.name, found, f"a share of {share:.2g}", p)


def _rates(feature: Feature, counts: Array, reference: Array) -> list[DriftCheck]:
    """Rates of missing, infinite and outlying values; p is 1 where one did not go up."""
    asked = {"missing rate": [GONE]}
    if feature.kind in ("number", "text", "time") and feature.edges:
        last = len(feature.edges) + 1
        asked["below the usual range"] = [1]
        asked["above the usual range"] = [last]
        asked["infinite"] = [0, CELLS - 2]
    n = int(counts.sum())
    total = int(reference.sum())
    tested = []
    for name, cells in asked.items():
        here = int(counts[cells].sum())
        there = int(reference[cells].sum())
        p = 1.0
        if here * total > there * n:
            p = rate_test(here, n, there, total)
        rate = f"{here / max(n, 1):.2%} of {n:,} rows"
        tested.append(DriftCheck(name, feature.name, rate, f"{there / max(total, 1):.2%}", p))
    return tested


def duplicated(profile: Profile, columns: Mapping[str, Array], alpha: float) -> list[DriftCheck]:
    """Rows that equal an earlier one, among as many rows as the reference has.

    More rows would have more duplicates. The test takes duplicates for independent events, which
    rows that come three times are not, so it is not exact: the check has no p-value.
    """
    inputs = [feature for feature in profile.features if not feature.output]
    absent = any(feature.name not in columns for feature in inputs)
    if absent or not inputs:
        return []
    most = min(profile.rows, MOST_COMPARED)
    first = {feature.name: columns[feature.name][:most] for feature in inputs}
    n = length(first)
    share = profile.duplicates / profile.rows
    twice = duplicates(first)
    if twice <= share * n:
        return []
    if rate_test(twice, n, profile.duplicates, profile.rows) > alpha:
        return []
    found = f"{twice / n:.2%} of {n:,} rows"
    expected = f"{share:.2%} (by a test that is not exact)"
    return [DriftCheck("duplicate rows", "all columns", found, expected)]

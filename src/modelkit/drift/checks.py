"""Plain checks of rows: facts that the reference did not prepare for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import exact
from modelkit.drift.cells import CELLS, GONE, UNKNOWN_CATEGORY, Feature
from modelkit.drift.columns import as_texts, length
from modelkit.drift.layout import Rows
from modelkit.drift.profile import Profile
from modelkit.drift.repeats import duplicates
from modelkit.drift.values import DriftCheck
from modelkit.stats.tests import holm

EXAMPLES_SHOWN = 3  # of unseen categories
LONGEST_EXAMPLE = 40
MOST_COMPARED = 100_000  # rows that are looked through for duplicates
FEWEST_ALIKE = 20  # rows of one value that are worth a word


def unseen(feature: Feature, counts: Array) -> list[DriftCheck]:
    """A category that training did not know, from counts (67,)."""
    if feature.ordered or not counts[UNKNOWN_CATEGORY]:
        return []
    new = int(counts[UNKNOWN_CATEGORY])
    total = int(counts.sum())
    found = f"{new:,} of {total:,} rows have a category that training did not know"
    return [DriftCheck("unseen category", feature.name, found, "none")]


def strangers(unknown: int, rows: int, stratum: str | None) -> tuple[DriftCheck, ...]:
    """Rows of a stratum that the reference does not have."""
    if not unknown or stratum is None:
        return ()
    found = (
        f"{unknown:,} of {rows:,} rows are of a stratum that the reference does not have; they "
        "were not compared"
    )
    return (DriftCheck("unseen stratum", stratum, found, "none"),)


def batch_checks(profile: Profile, rows: Rows, counts: Array, *, alpha: float) -> list[DriftCheck]:
    """The checks of one batch with counts (d, 67).

    A rate that went up, and a column that is constant, are reported where an exact test at alpha
    tells them from the reference. Holm's correction is over all tests of all columns, and not over
    those that found something: these are chosen by the rows.
    """
    found: list[DriftCheck] = []
    columns = rows.columns
    present = [j for j, feature in enumerate(profile.features) if feature.name in columns]
    for j in present:
        feature = profile.features[j]
        found += _unseen_names(feature, columns[feature.name], rows.cells[:, j])
    found += count_checks(profile, present, counts, alpha)
    return found + _duplicated(profile, columns, alpha)


def count_checks(
    profile: Profile, present: Sequence[int], counts: Array, alpha: float
) -> list[DriftCheck]:
    """The checks that counts (d, 67) of a batch suffice for, of the features that it has."""
    tested: list[DriftCheck] = []
    reference = profile.counts.sum(axis=0)
    for j in present:
        feature = profile.features[j]
        tested.append(_constant_column(feature, counts[j], reference[j]))
        tested += _rates(feature, counts[j], reference[j])
    adjusted = holm(np.array([check.p for check in tested], np.float64))
    found = []
    for check, p in zip(tested, adjusted.tolist(), strict=True):
        if p <= alpha:
            found.append(replace(check, p=p))
    return found


def _unseen_names(feature: Feature, values: Array, cells: Array) -> list[DriftCheck]:
    if feature.ordered:
        return []
    new = [str(item) for item in as_texts(values[cells == UNKNOWN_CATEGORY])]
    if not new:
        return []
    examples = sorted(set(new))[:EXAMPLES_SHOWN]
    names = ", ".join(repr(name[:LONGEST_EXAMPLE]) for name in examples)
    found = f"{len(new):,} of {len(values):,} rows, such as {names}"
    return [DriftCheck("unseen category", feature.name, found, "none")]


def _constant_column(feature: Feature, counts: Array, reference: Array) -> DriftCheck:
    """Whether all values of a batch are in one cell; p is the exact probability of that.

    It is 1 where they are not, and of fewer than 20 rows.
    """
    n = int(counts.sum())
    cell = int(np.argmax(counts))
    p = 1.0
    if n >= FEWEST_ALIKE and counts[cell] == n:
        p = exact.constant_test(counts, reference)
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
            p = exact.rate_test(here, n, there, total)
        rate = f"{here / max(n, 1):.2%} of {n:,} rows"
        tested.append(DriftCheck(name, feature.name, rate, f"{there / max(total, 1):.2%}", p))
    return tested


def _duplicated(profile: Profile, columns: Mapping[str, Array], alpha: float) -> list[DriftCheck]:
    """Rows that equal an earlier one, among as many rows as the reference has.

    More rows would have more duplicates. The test takes duplicates for independent events, which
    rows that come three times are not, so it is not exact: the check has no p-value.
    """
    inputs = [feature for feature in profile.features if not feature.output]
    absent = any(feature.name not in columns for feature in inputs)
    if profile.epsilon is not None or absent or not inputs:
        return []
    most = min(profile.rows, MOST_COMPARED)
    first = {feature.name: columns[feature.name][:most] for feature in inputs}
    n = length(first)
    share = profile.duplicates / profile.rows
    twice = duplicates(first)
    if twice <= share * n:
        return []
    if exact.rate_test(twice, n, profile.duplicates, profile.rows) > alpha:
        return []
    found = f"{twice / n:.2%} of {n:,} rows"
    expected = f"{share:.2%} (by a test that is not exact)"
    return [DriftCheck("duplicate rows", "all columns", found, expected)]

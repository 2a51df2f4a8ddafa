"""Plain checks of rows: facts that the reference did not prepare for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from modelkit.cast import Array
from modelkit.drift import exact
from modelkit.drift.cells import CELLS, GONE, UNKNOWN_CATEGORY, Feature
from modelkit.drift.columns import as_texts
from modelkit.drift.fitting import duplicates
from modelkit.drift.profile import Profile
from modelkit.drift.values import DriftCheck
from modelkit.holm import holm

EXAMPLES_SHOWN = 3  # of unseen categories
LONGEST_EXAMPLE = 40
MOST_COMPARED = 100_000  # rows that are looked through for duplicates
UNLIKELY = 1e-6  # that a column is constant by chance
FEWEST_ALIKE = 20  # rows of one value that are worth a word


def unseen(
    feature: Feature,
    counts: Array,
) -> list[DriftCheck]:
    """A category that training did not know, from counts (67,)."""
    if feature.ordered or not counts[UNKNOWN_CATEGORY]:
        return []
    new = int(counts[UNKNOWN_CATEGORY])
    total = int(counts.sum())
    found = f"{new:,} of {total:,} rows have a category that training did not know"
    return [DriftCheck("unseen category", feature.name, found, "none")]


def strangers(
    unknown: int,
    rows: int,
    stratum: str | None,
) -> tuple[DriftCheck, ...]:
    """Rows of a stratum that the reference does not have."""
    if not unknown or stratum is None:
        return ()
    found = (
        f"{unknown:,} of {rows:,} rows are of a stratum that the reference does not have; they "
        "were not compared"
    )
    return (DriftCheck("unseen stratum", stratum, found, "none"),)


def batch_checks(
    profile: Profile,
    columns: Mapping[str, Array],
    counts: Array,
    *,
    alpha: float,
) -> list[DriftCheck]:
    """The checks of one batch with counts (d, 67).

    A rate is reported where an exact test at alpha, adjusted by Holm, tells it from the
    reference's.
    """
    plain: list[DriftCheck] = []
    rates: list[DriftCheck] = []
    reference = profile.counts.sum(axis=0)
    for j, feature in enumerate(profile.features):
        if feature.name in columns:
            plain += _unseen_names(feature, columns[feature.name])
            plain += _constant_column(feature, counts[j], reference[j])
            rates += _rates(feature, counts[j], reference[j])
    rates += _duplicated(profile, columns)
    raw = [1.0 if check.p is None else check.p for check in rates]
    adjusted = holm(np.array(raw))
    for check, p in zip(rates, adjusted, strict=True):
        if p <= alpha:
            plain.append(replace(check, p=float(p)))
    return plain


def _unseen_names(
    feature: Feature,
    values: Array,
) -> list[DriftCheck]:
    if feature.ordered:
        return []
    items = zip(as_texts(values), feature.cells(values), strict=True)
    new = [str(item) for item, cell in items if cell == UNKNOWN_CATEGORY]
    if not new:
        return []
    examples = sorted(set(new))[:EXAMPLES_SHOWN]
    names = ", ".join(repr(name[:LONGEST_EXAMPLE]) for name in examples)
    found = f"{len(new):,} of {len(values):,} rows, such as {names}"
    return [DriftCheck("unseen category", feature.name, found, "none")]


def _constant_column(
    feature: Feature,
    counts: Array,
    reference: Array,
) -> list[DriftCheck]:
    n = int(counts.sum())
    if n < FEWEST_ALIKE or np.count_nonzero(counts) > 1 or not reference.sum():
        return []
    cell = int(np.argmax(counts))
    share = (int(reference[cell]) + 1) / (int(reference.sum()) + 2)
    p = float(share**n)
    if p > UNLIKELY:
        return []
    found = f"all {n:,} values are {feature.labels()[cell]}"
    return [DriftCheck("constant", feature.name, found, f"a share of {share:.2g}", p)]


def _rates(
    feature: Feature,
    counts: Array,
    reference: Array,
) -> list[DriftCheck]:
    """Rates of missing, infinite and outlying values, with p-values that are not adjusted yet."""
    asked = {"missing rate": [GONE]}
    if feature.kind in ("number", "text", "time") and feature.edges:
        last = len(feature.edges) + 1
        asked["below the usual range"] = [1]
        asked["above the usual range"] = [last]
        asked["infinite"] = [0, CELLS - 2]
    n = int(counts.sum())
    total = int(reference.sum())
    if not n or not total:
        return []
    found = []
    for name, cells in asked.items():
        here = int(counts[cells].sum())
        there = int(reference[cells].sum())
        if here / n > there / total:
            p = exact.rate_test(here, n, there, total)
            rate = f"{here / n:.2%} of {n:,} rows"
            found.append(DriftCheck(name, feature.name, rate, f"{there / total:.2%}", p))
    return found


def _duplicated(
    profile: Profile,
    columns: Mapping[str, Array],
) -> list[DriftCheck]:
    """Rows that equal an earlier one, among as many rows as the reference has.

    More rows would have more duplicates.
    """
    inputs = [feature for feature in profile.features if not feature.output]
    absent = any(feature.name not in columns for feature in inputs)
    if profile.epsilon is not None or absent:
        return []
    most = min(profile.rows, MOST_COMPARED)
    first = {feature.name: columns[feature.name][:most] for feature in inputs}
    n = max((len(column) for column in first.values()), default=0)
    share = profile.duplicates / profile.rows
    twice = duplicates(inputs, first)
    if twice <= share * n:
        return []
    p = exact.rate_test(twice, n, profile.duplicates, profile.rows)
    found = f"{twice / n:.2%} of {n:,} rows"
    return [DriftCheck("duplicate rows", "all columns", found, f"{share:.2%}", p)]

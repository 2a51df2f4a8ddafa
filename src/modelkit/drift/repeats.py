"""Rows of a reference that equal training rows.

Rows are compared by a hash of all their values, and none is kept. Numbers are compared as float32,
as the cells do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.columns import ColumnsByName, as_numbers, as_texts, feature_kind, length
from modelkit.errors import UsageError

MOST_HASHED = 200_000  # rows of each side that are compared
IMPOSSIBLE = 1e-6  # the probability below which shared rows are no chance
MATERIAL = 0.005  # of the rows of the reference, below which shared ones do no harm


def row_hashes(columns: ColumnsByName) -> Array:
    """A hash of each row, uint64 (n,), from its values; equal rows have equal ones."""
    total = np.zeros(length(columns), np.uint64)
    place = 0
    for name, values in columns.items():
        parts = [values] if values.ndim == 1 else list(values.T)
        for part in parts:
            place += 1
            total = _mixed(total, _bits(name, part) + np.uint64(2 * place + 1))
    return total


def _bits(name: str, values: Array) -> Array:
    """The numbers by which values pass as equal, uint64 (n,)."""
    kind = feature_kind(name, values)
    if kind == "category":
        return np.fromiter(map(hash, as_texts(values)), np.int64, len(values)).view(np.uint64)
    numbers = as_numbers(values, kind, name) + 0.0  # of two zeros one
    numbers[np.isnan(numbers)] = np.nan
    return numbers.view(f"u{numbers.itemsize}").astype(np.uint64)


def _mixed(total: Array, bits: Array) -> Array:
    """Hashes of rows, with one more number of each row mixed in; all uint64 (n,)."""
    bits = (bits ^ (bits >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = total ^ bits ^ (bits >> np.uint64(29))
    return mixed * np.uint64(0xBF58476D1CE4E5B9)


def check_shared(train: ColumnsByName, held: ColumnsByName) -> None:
    """Raise UsageError for a reference that has rows of the training rows.

    Were all rows given to the two sides at random, a row value that occurs m times would be on both
    with a probability of 1 - f^m - (1 - f)^m, where f is the share of the reference. A value of a
    table with few values is on both sides almost surely, and says nothing; a value that occurs
    twice, in a table where most occur once, is so in at most half of the cases. The number of
    values that are on both is compared with its mean by the bound of Hoeffding (1956), at 1e-6; and
    up to 0.5 % of the rows of the reference are let pass.

    That is not yet proof. The rows of a timetable, a calendar or a catalogue come again in the same
    way on both sides, and not at random. So a row counts only if it has a measured number, one that
    is not an integer, which no other row value has; unless the reference has nothing but training
    rows, each as often at most.
    """
    in_order = {name: held[name] for name in train}
    sides = [_some(columns) for columns in (train, in_order)]
    hashes = [row_hashes(side) for side in sides]
    values, first, rows = np.unique(np.concatenate(hashes), return_index=True, return_counts=True)
    there = np.searchsorted(values, hashes[1])
    of_held = np.bincount(there, minlength=len(values))
    n = len(hashes[1])
    share = n / rows.sum()
    if not _beyond_chance(rows, of_held, share, n):
        return
    nothing_else = (2 * of_held <= rows).all()
    if not nothing_else:
        alone = _has_own_number(sides, first)
        if not _beyond_chance(rows[alone], of_held[alone], share, n):
            return
    shared = int(of_held[of_held < rows].sum())
    raise UsageError(
        f"{shared:,} of {n:,} rows of the reference equal training rows, far more than "
        "chance gives: the reference is rows that X does not have. Leave them out of one of the "
        "two, or leave out reference=, and half of X is held out"
    )


def _some(columns: ColumnsByName) -> ColumnsByName:
    """At most 200,000 of the rows, evenly spread."""
    step = -(-length(columns) // MOST_HASHED)
    return {name: values[:: max(step, 1)] for name, values in columns.items()}


def _has_own_number(sides: Sequence[ColumnsByName], first: Array) -> Array:
    """Whether a row value has a number, and no integer, that no other one has: bool (values,).

    `first` are the places of the row values in the rows of both sides, one after the other.
    """
    found = np.zeros(len(first), np.bool_)
    for name in sides[0]:
        if feature_kind(name, sides[0][name]) != "number":
            continue
        blocks = [side[name].reshape(length(side), -1).T for side in sides]
        for parts in zip(*blocks, strict=True):
            numbers = np.concatenate([as_numbers(part, "number", name) for part in parts])[first]
            _, at, often = np.unique(numbers, return_inverse=True, return_counts=True)
            found |= (often[at] == 1) & np.isfinite(numbers) & (numbers != np.rint(numbers))
        if found.all():
            break
    return found


def _beyond_chance(rows: Array, of_held: Array, share: float, n: int) -> bool:
    """Whether row values are on both sides more often than at random.

    Args:
        rows: how often each row value occurs, (values,).
        of_held: how often in the reference, (values,).
        share: the reference's share of all rows.
        n: the rows of the reference.
    """
    several = rows > 1
    both = int((several & (of_held > 0) & (of_held < rows)).sum())
    chance = 1 - share ** rows[several] - (1 - share) ** rows[several]
    beyond = both - chance.sum()
    if beyond <= MATERIAL * n:
        return False
    from scipy.stats import binom

    # Of events with several probabilities as many are less likely than of as many with their mean
    # (Hoeffding 1956, theorem 4).
    return bool(binom.sf(both - 1, len(chance), chance.mean()) <= IMPOSSIBLE)

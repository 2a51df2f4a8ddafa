"""Rows that equal others: how many repeat an earlier one, and how many a reference has from X.

Rows are compared by a hash of all their values, and none is kept. Numbers are compared as float32,
as the cells do.
"""

from __future__ import annotations

from math import log

import numpy as np

from modelkit.cast import Array
from modelkit.drift.columns import (
    ColumnsByName,
    as_numbers,
    as_texts,
    feature_kind,
    length,
)
from modelkit.errors import DriftError

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
        hashes = np.fromiter(map(hash, as_texts(values)), np.int64, len(values))
        return hashes.view(np.uint64)
    numbers = as_numbers(values, kind, name) + 0.0  # of two zeros one
    numbers[np.isnan(numbers)] = np.nan
    return numbers.view(f"u{numbers.itemsize}").astype(np.uint64)


def _mixed(total: Array, bits: Array) -> Array:
    """Hashes of rows, with one more number of each row mixed in; all uint64 (n,)."""
    bits = (bits ^ (bits >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = total ^ bits ^ (bits >> np.uint64(29))
    return mixed * np.uint64(0xBF58476D1CE4E5B9)


def duplicates(columns: ColumnsByName) -> int:
    """The number of rows that equal an earlier one in every column."""
    return length(columns) - len(np.unique(row_hashes(columns)))


def check_shared(
    train: ColumnsByName,
    held: ColumnsByName,
) -> None:
    """Raise DriftError for a reference that has more rows of the training rows than chance gives.

    Were all rows given to the two sides at random, a row value that occurs m times would be on both
    with a probability of 1 - f^m - (1 - f)^m, where f is the share of the reference. A value of a
    table with few values is on both sides almost surely, and tells nothing; a value that occurs
    twice, in a table where most occur once, is so in at most half of the cases. The number of
    values that are on both is compared with its mean by the bound of Chernoff and Hoeffding (1963),
    at 1e-6; and up to 0.5 % of the rows of the reference are let pass.
    """
    in_order = {name: held[name] for name in train}
    hashes = [_some(row_hashes(side)) for side in (train, in_order)]
    values, rows = np.unique(np.concatenate(hashes), return_counts=True)
    there = np.searchsorted(values, hashes[1])
    of_held = np.bincount(there, minlength=len(values))
    several = rows > 1
    both = several & (of_held > 0) & (of_held < rows)
    share = len(hashes[1]) / rows.sum()
    chance = 1 - share ** rows[several] - (1 - share) ** rows[several]
    beyond = both.sum() - chance.sum()
    if beyond <= MATERIAL * len(hashes[1]) or _log_tail(both.sum(), chance) > log(IMPOSSIBLE):
        return
    shared = int(of_held[both].sum())
    raise DriftError(
        f"{shared:,} of {len(hashes[1]):,} rows of the reference equal training rows, far more than "
        "chance gives: the reference is rows that X does not have. Leave them out of one of the "
        "two, or leave out reference=, and half of X is held out"
    )


def _some(hashes: Array) -> Array:
    """At most 200,000 of the hashes, evenly spread."""
    step = -(-len(hashes) // MOST_HASHED)
    return hashes[:: max(step, 1)]


def _log_tail(found: int, chances: Array) -> float:
    """A bound on the log-probability that as many of independent events happen, or more.

    The events have these probabilities, (n,). Hoeffding, Probability inequalities for sums of
    bounded random variables, theorem 1.
    """
    n = len(chances)
    mean = float(chances.mean())
    share = found / n
    if share <= mean or mean >= 1:
        return 0.0
    tail = share * log(share / mean)
    if share < 1:
        tail += (1 - share) * log((1 - share) / (1 - mean))
    return -n * tail

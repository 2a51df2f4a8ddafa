"""D1, "changed": a conformal test martingale on cells, exact for a reference of any size.

A row's p-value is its rank among the reference and all rows before it, with ties broken at random.
If all of them are exchangeable, these p-values are independent and uniform, whatever the law of the
rows and however small the reference. Bets against uniformity multiply their stake by a function of
the p-value whose mean is one, so the money is a martingale. Bets look at earlier p-values only,
never at counts.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World; Vovk, Testing
randomness online (arXiv:1906.09256). The proof for this form is in docs/drift_guarantees.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from modelkit.cast import Array
from modelkit.drift.cells import ABSENT, CELLS

BLOCK = 32  # rows of a micro-batch
SLOTS = 64  # of a p-value
WIDE = CELLS + 1  # with a place for absent values
PRODUCTS = 32  # rows of a matrix product at once: larger ones wake the threads of the BLAS, which go on spinning


@cache
def bets() -> tuple[Array, Array]:
    """The logarithms of what each bet pays in each of the 64 slots of a p-value, (64, 110), and their weights (110,).

    Thirty follow polynomials (location, scale, skewness, each way), eighty the sixteen groups of
    four slots.
    """
    x = (np.arange(SLOTS) + 0.5) / SLOTS
    shapes = (2 * x - 1, 6 * x * x - 6 * x + 1, 20 * x**3 - 30 * x * x + 12 * x - 1)
    pays = []
    for shape in shapes:
        centred = shape - shape.mean()
        for tilt in (centred, -centred):
            pays += [
                1 + fraction * tilt / -tilt.min() for fraction in (0.6, 0.3, 0.15, 0.075, 0.0375)
            ]
    for group in range(16):
        inside = np.arange(SLOTS) // 4 == group
        pays += [
            np.where(inside, rate, (1 - rate / 16) / (1 - 1 / 16))
            for rate in (1.15, 1.5, 3, 0.7, 0.3)
        ]
    table = np.array(pays).T
    return np.log(table / table.mean(axis=0)), np.array([1 / 60] * 30 + [1 / 160] * 80)


def advance(counts: Array, cells: Array, draws: Array) -> tuple[Array, Array]:
    """Rank rows among the reference and the rows before them; `counts` takes them in.

    Args:
        counts: int64 (d, 67), the reference and what came so far; changed in place.
        cells: uint8 (blocks, 32, d), in order of arrival; 255 where a row has no value to be
            counted.
        draws: uniform random numbers of the same shape.

    Returns:
        How many p-values fell into each of the 64 slots, float64 (blocks, d, 64), and how many
        values each block added to each cell, int64 (blocks, d, 67).
    """
    blocks, rows, d = cells.shape
    lanes = blocks * d
    values = cells.transpose(1, 0, 2).reshape(rows, lanes)
    absent = values == ABSENT
    gaps = bool(absent.any())
    at = (np.where(absent, CELLS, values) if gaps else values) + np.arange(0, lanes * WIDE, WIDE)
    added = _tally(at, lanes, WIDE).reshape(blocks, d, CELLS)
    after = np.cumsum(added, axis=0)
    after += counts
    equal = np.zeros((blocks, d, WIDE), np.int64)
    np.subtract(after, added, out=equal[:, :, :CELLS])
    upto = np.cumsum(equal, axis=2)
    seen = np.arange(rows)[:, None]
    if gaps:
        present = ~absent
        seen = np.cumsum(present, axis=0) - present
    total = upto[:, :, -1].ravel() + seen
    less, ties = (upto - equal).ravel().take(at), equal.ravel().take(at)
    of_block = _earlier(values)
    less[1:] += of_block[0]
    ties[1:] += of_block[1]
    p = (less + draws.transpose(1, 0, 2).reshape(rows, lanes) * (ties + 1)) / (total + 1)
    slot = np.minimum((p * SLOTS).astype(np.int64), SLOTS - 1)
    if gaps:
        slot[absent] = SLOTS
    slots = _tally(slot + np.arange(0, lanes * (SLOTS + 1), SLOTS + 1), lanes, SLOTS + 1)
    counts[:] = after[-1]
    return slots.reshape(blocks, d, SLOTS).astype(np.float64), added


def tally(cells: Array) -> Array:
    """How many values of each feature are in each cell: uint8 (n, d) to int64 (d, 67)."""
    lanes = cells.shape[1]
    absent = cells == ABSENT
    values = np.where(absent, CELLS, cells) if absent.any() else cells
    return _tally(values + np.arange(0, lanes * WIDE, WIDE), lanes, WIDE)


def _tally(at: Array, lanes: int, width: int) -> Array:
    """Counts (lanes, width - 1) of positions in lanes of that width, whose last place is for absent values."""
    return np.bincount(at.ravel(), minlength=lanes * width).reshape(lanes, width)[:, :-1]


def _earlier(values: Array) -> tuple[Array, Array]:
    """How many values before each but the first of a block are less, and how many equal: uint8 (rows - 1, lanes).

    Every pair is compared; gathering the pairs first lets each comparison run over all lanes at
    once.
    """
    early, late, starts = _pairs(len(values))
    first, second = values.take(early, axis=0), values.take(late, axis=0)
    less, equal = first < second, first == second
    counted = [
        np.add.reduceat(pairs.view(np.uint8), starts, axis=0, dtype=np.uint8)
        for pairs in (less, equal)
    ]
    return counted[0], counted[1]


@cache
def _pairs(rows: int) -> tuple[Array, Array, Array]:
    """The rows of every pair, sorted by the later one, and where each later one begins."""
    late, early = np.tril_indices(rows, -1)
    return early, late, np.flatnonzero(np.diff(late, prepend=0))


def increments(slots: Array) -> Array:
    """The logarithm of what each bet made of each block: (blocks, d, 64) slots to (blocks, d, 110)."""
    table, weights = bets()
    out = np.empty((*slots.shape[:2], len(weights)))
    for start in range(
        0, slots.shape[1], PRODUCTS
    ):  # block by block: how a product is rounded depends on its shape
        part = slice(start, start + PRODUCTS)
        np.matmul(slots[:, part], table, out=out[:, part])
    return out

"""D1, "changed": a conformal test martingale on cells, exact for a reference of any size.

A row's p-value is its rank among the reference and all rows before it, with ties broken at random.
If all of them are exchangeable, these p-values are independent and uniform, whatever the law of the
rows and however small the reference. Bets against uniformity multiply their stake by a function of
the p-value whose mean is one, so the wealth is a martingale. Bets look at earlier p-values only,
never at counts.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World; Vovk, Testing
randomness online (arXiv:1906.09256). The proof for this form is in docs/drift_guarantees.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import ABSENT, CELLS

BLOCK_ROWS = 32  # rows of a micro-batch
P_SLOTS = 64  # of a p-value
LANE_WIDTH = CELLS + 1  # with a place for absent values
# Rows of a matrix product at once: larger ones wake the threads of the BLAS, which go on spinning.
PRODUCT_ROWS = 32
MANY_LANES = 128  # from which comparing rows in place is faster than gathering their pairs
LANES_AT_ONCE = 2048
TILTS = (0.6, 0.3, 0.15, 0.075, 0.0375)  # of a bet on a polynomial
RATES = (1.15, 1.5, 3, 0.7, 0.3)  # of a bet on a group of four slots
P_GROUPS = 16


@cache
def rank_bets() -> tuple[Array, Array]:
    """What each bet pays for a p-value in each of the 64 slots.

    Thirty bets follow polynomials (location, scale, skewness, each way), eighty the sixteen groups
    of four slots.

    Returns:
        The logarithms of the gains, (64, 110), and the weights of the bets, (110,).
    """
    pays = [*_polynomial_bets(), *_group_bets()]
    table = np.array(pays).T
    fair = table / table.mean(axis=0)
    weights = np.array([1 / 60] * 30 + [1 / 160] * 80)
    return np.log(fair), weights


def _polynomial_bets() -> list[Array]:
    x = (np.arange(P_SLOTS) + 0.5) / P_SLOTS
    location = 2 * x - 1
    scale = 6 * x * x - 6 * x + 1
    skewness = 20 * x**3 - 30 * x * x + 12 * x - 1
    pays = []
    for shape in (location, scale, skewness):
        centred = shape - shape.mean()
        for tilt in (centred, -centred):
            most = -tilt.min()  # that a bet may stake on it
            pays += [1 + fraction * tilt / most for fraction in TILTS]
    return pays


def _group_bets() -> list[Array]:
    groups = np.arange(P_SLOTS) // (P_SLOTS // P_GROUPS)
    pays = []
    for group in range(P_GROUPS):
        inside = groups == group
        for rate in RATES:
            rest = 1 - rate / P_GROUPS
            outside = rest / (1 - 1 / P_GROUPS)
            pays.append(np.where(inside, rate, outside))
    return pays


def advance(counts: Array, cells: Array, draws: Array) -> tuple[Array, Array]:
    """Rank rows among the reference and the rows before them; `counts` takes them in.

    Args:
        counts: int64 (d, 67), the reference and the rows so far; changed in place.
        cells: uint8 (blocks, 32, d), in order of arrival; 255 where a row has no value to be
            counted.
        draws: uniform random numbers of the same shape.

    Returns:
        The number of p-values in each of the 64 slots, float64 (blocks, d, 64), and the number of
        values that each block added to each cell, int64 (blocks, d, 67).
    """
    blocks, _, d = cells.shape
    slots = np.empty((blocks, d, P_SLOTS))
    added = np.empty((blocks, d, CELLS), np.int64)
    step = max(1, LANES_AT_ONCE // blocks)
    for start in range(0, d, step):
        part = slice(start, start + step)
        slots[:, part], added[:, part] = _advance_part(
            counts[part], cells[:, :, part], draws[:, :, part]
        )
    return slots, added


def _advance_part(counts: Array, cells: Array, draws: Array) -> tuple[Array, Array]:
    """`advance` for so few features that their tables stay in the cache of a core."""
    blocks, rows, d = cells.shape
    values = _in_lanes(cells)
    gaps = _gaps(values)
    at = _places(values, gaps)
    added = _tally(at, LANE_WIDTH).reshape(blocks, d, CELLS)
    equal, upto, after = _before_blocks(counts, added)
    less, ties = _ranks(values, at, equal, upto)
    met = upto[:, :, -1].ravel()
    total = met + _rows_before(rows, gaps)
    share = _in_lanes(draws)  # of the equal ones that count as less
    rank = less + share * (ties + 1)
    slots = _slots(rank / (total + 1), gaps)
    counts[:] = after
    return slots.reshape(blocks, d, P_SLOTS), added


def _in_lanes(blocks: Array) -> Array:
    """Blocks (blocks, rows, d) as (rows, lanes): a lane is one feature in one block."""
    count, rows, d = blocks.shape
    return blocks.transpose(1, 0, 2).reshape(rows, count * d)


def _gaps(values: Array) -> Array | None:
    """Where there is no value to be counted; None where there are all."""
    absent: Array = values == ABSENT
    return absent if absent.any() else None


def _places(values: Array, gaps: Array | None) -> Array:
    """The place of each cell, (rows, lanes), among the places of all lanes, 68 in each."""
    known = values if gaps is None else np.where(gaps, CELLS, values)
    return _by_lane(known, LANE_WIDTH)


def _by_lane(places: Array, width: int) -> Array:
    """Places within lanes, (rows, lanes), as places among those of all lanes."""
    lanes = places.shape[1]
    return places + np.arange(0, lanes * width, width)


def _ranks(values: Array, at: Array, equal: Array, upto: Array) -> tuple[Array, Array]:
    """For each value, (rows, lanes), the number of those before it that are less, and equal."""
    below = upto - equal
    less = below.ravel().take(at)
    ties = equal.ravel().take(at)
    less_in_block, ties_in_block = _earlier(values)
    less[1:] += less_in_block
    ties[1:] += ties_in_block
    return less, ties


def _rows_before(rows: int, gaps: Array | None) -> Array:
    """The number of values before each row of a block, (rows, 1), or (rows, lanes) with gaps."""
    if gaps is None:
        return np.arange(rows)[:, None]
    present = ~gaps
    before: Array = np.cumsum(present, axis=0) - present
    return before


def _slots(p: Array, gaps: Array | None) -> Array:
    """The number of p-values of each lane in each slot, (lanes, 64)."""
    slot = (p * P_SLOTS).astype(np.int64)
    slot = np.minimum(slot, P_SLOTS - 1)
    if gaps is not None:
        slot[gaps] = P_SLOTS
    width = P_SLOTS + 1
    return _tally(_by_lane(slot, width), width)


def _before_blocks(counts: Array, added: Array) -> tuple[Array, Array, Array]:
    """The counts that each block meets, int64 (blocks, d, 68), and their running sums over cells.

    The third is the counts (d, 67) after all blocks. The last place is for absent values, and 0.
    """
    blocks, d, _ = added.shape
    equal = np.zeros((blocks, d, LANE_WIDTH), np.int64)
    after = counts
    for block in range(blocks):  # three times as fast as np.cumsum along the blocks
        equal[block, :, :CELLS] = after
        after = after + added[block]
    return equal, np.cumsum(equal, axis=2), after


def tally(cells: Array) -> Array:
    """The number of values of each feature in each cell: uint8 (n, d) to int64 (d, 67)."""
    at = _places(cells, _gaps(cells))
    return _tally(at, LANE_WIDTH)


def _tally(at: Array, width: int) -> Array:
    """Counts (lanes, width - 1) of places in lanes; the last place is for absent values."""
    lanes = at.shape[1]
    counts = np.bincount(at.ravel(), minlength=lanes * width)
    of_lanes = counts.reshape(lanes, width)
    return of_lanes[:, :-1]


def _earlier(values: Array) -> tuple[Array, Array]:
    """For each value but a block's first, the earlier values that are less, and those equal.

    Both are uint8 (rows - 1, lanes). Every pair is compared.
    """
    if values.shape[1] < MANY_LANES:
        return _gathered_pairs(values)
    return _shifted_pairs(values)


def _shifted_pairs(values: Array) -> tuple[Array, Array]:
    """Rows that are one apart are compared, then those two apart, and so on; nothing is copied."""
    rows = len(values)
    less = np.zeros_like(values[1:])
    ties = np.zeros_like(values[1:])
    ones = np.empty_like(less)  # where a pair is found
    found = ones.view(np.bool_)
    for apart in range(1, rows):
        early = values[:-apart]
        late = values[apart:]
        pairs = ones[: rows - apart]
        hits = found[: rows - apart]
        np.less(early, late, out=hits)
        less[apart - 1 :] += pairs
        np.equal(early, late, out=hits)
        ties[apart - 1 :] += pairs
    return less, ties


def _gathered_pairs(values: Array) -> tuple[Array, Array]:
    """The pairs are gathered first, so that few calls do for the few lanes of a Monitor."""
    early, late, starts = _row_pairs(len(values))
    first = values.take(early, axis=0)
    second = values.take(late, axis=0)
    less = _summed(first < second, starts)
    ties = _summed(first == second, starts)
    return less, ties


def _summed(pairs: Array, starts: Array) -> Array:
    found: Array = np.add.reduceat(pairs.view(np.uint8), starts, axis=0, dtype=np.uint8)
    return found


@cache
def _row_pairs(rows: int) -> tuple[Array, Array, Array]:
    """The rows of every pair, sorted by the later one, and where each later one begins."""
    late, early = np.tril_indices(rows, -1)
    rises = np.diff(late, prepend=0)
    starts = np.flatnonzero(rises)
    return early, late, starts


def rank_increments(slots: Array) -> Array:
    """The logarithm of each bet's gain in each block: slots (blocks, d, 64) to (blocks, d, 110)."""
    table, weights = rank_bets()
    bets = len(weights)
    blocks, d, _ = slots.shape
    out = np.empty((blocks, d, bets))
    # Block by block: how a product is rounded depends on its shape.
    for start in range(0, d, PRODUCT_ROWS):
        part = slice(start, start + PRODUCT_ROWS)
        np.matmul(slots[:, part], table, out=out[:, part])
    return out

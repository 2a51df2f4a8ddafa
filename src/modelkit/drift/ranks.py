"""Where a new row ranks among those before it, and what bets on ranks pay.

If the reference and all members after it are exchangeable, the ranks, ties at random, are independent
and uniform, for a reference of any size: docs/explanation/drift_proofs.md has the proof. A row is a unit of
one row, and all before it are known by their counts. `unit_ranks` has whole units.

Bets look at p-values only, never at counts. The mean of each bet over 64 slots of equal width is
exactly one, so that bets gain one on average where p-values are uniform.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, section 2.2; Vovk,
Testing randomness online (arXiv:1906.09256).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import ABSENT, CELLS

LANE_WIDTH = CELLS + 1  # with a place for absent values
MANY_LANES = 128  # from which comparing rows in place is faster than gathering their pairs
LANES_AT_ONCE = 2048  # whose tables stay in the cache of a core
NO_TIME = float("nan")  # of members that say nothing of it
SLOTS = 64  # of equal width, which a p-value falls into
ROW_SHIFTS = (0.12, 0.25, 0.5, 1.0, 2.0)  # that bets on location are best for, in deviations
ROW_SPREADS = (0.6, 0.8, 0.9, 1.1, 1.25, 1.6)  # that bets on scale are best for, in deviations
TILTS = (0.4, 0.2, 0.1)  # of a bet on a polynomial
GROUP = 4  # slots
GROUP_RATES = (1.5, 3.0, 0.3)  # of a bet on a group
ENDS = ((1, 4.0), (1, 12.0), (2, 6.0))  # slots at either end, and the rate of a bet on them
UNIT_SHIFTS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
UNIT_SPREADS = (2.5, 1.5, 0.5, 0.25)
UNIT_WEIGHTS = (1.0,) * 14 + (0.5, 0.5)  # of the bets on units, in this order
# Lanes of a matrix product at once: larger ones wake the threads of the BLAS, which go on spinning.
PRODUCT_LANES = 32

Gain = tuple[Array, Array, Array]  # the arguments of `Evidence.step`
Table = tuple[Array, Array]  # the logarithms of the gains, (64, bets), and the weights, (bets,)


class Ranked(NamedTuple):
    """Blocks of members that are ranked.

    `slots` has for each kind of bets on ranks the number of p-values in each slot, float64 (blocks,
    lanes, 64), `kept` what is kept of each block, (blocks, ...), and `values` how many values of each
    feature it has, int64 (blocks, d). `ends` (blocks, 3) are the number of its last member, and the
    first and the last time of its members.
    """

    slots: dict[str, Array]
    kept: Array
    values: Array
    ends: Array


# Rows.


@final
class RowBag:
    """The rows of the reference and those that were ranked, by their counts (d, 67).

    Args:
        reference: int64 (d, 67), the counts of the reference.
        seed: of the ties.
    """

    changing = ("counts", "left_out", "rng")

    def __init__(self, reference: Array, seed: np.random.SeedSequence) -> None:
        self.counts = reference.copy()
        self.left_out = np.zeros(len(reference), bool)  # of the next block
        self.rng = np.random.default_rng(seed)

    def rank(self, blocks: Array, ends: Array) -> Ranked:
        """Rank rows in blocks, uint8 (blocks, rows, d), which join the bag; 255 is not a value."""
        if self.left_out.any():
            blocks = blocks.copy()  # they may be the caller's
            blocks[0][:, self.left_out] = ABSENT
            self.left_out[:] = False
        draws = np.asarray(self.rng.random(blocks.shape))
        slots, added = rank_rows(self.counts, blocks, draws)
        return Ranked({"changed": slots}, added, added.sum(axis=2), ends)

    def begin_anew(self, j: int, block: int) -> None:
        """Rank later rows of feature number `j` among themselves, from the next block on."""
        self.counts[j] = 0
        self.left_out[j] = True


def rank_rows(counts: Array, blocks: Array, draws: Array) -> tuple[Array, Array]:
    """Rank rows among the reference and the rows before them; `counts` takes them in.

    The p-value of a row is (less + draw (equal + 1)) / (n + 1), with the rows before it that are less,
    and equal, and all n of them.

    Args:
        counts: int64 (d, 67), the reference and the rows so far; changed in place.
        blocks: uint8 (blocks, rows, d), in order of arrival; 255 where a row lacks a value.
        draws: uniform random numbers of the same shape.

    Returns:
        The number of p-values in each of the 64 slots, float64 (blocks, d, 64), and the number of
        values that each block added to each cell, int64 (blocks, d, 67).
    """
    count, _, d = blocks.shape
    step = max(1, LANES_AT_ONCE // count)
    if d <= step:
        return _rank_part(counts, blocks, draws)
    slots = np.empty((count, d, SLOTS))
    added = np.empty((count, d, CELLS), np.int64)
    for start in range(0, d, step):
        part = slice(start, start + step)
        ranked = _rank_part(counts[part], blocks[:, :, part], draws[:, :, part])
        slots[:, part], added[:, part] = ranked
    return slots, added


def _rank_part(counts: Array, blocks: Array, draws: Array) -> tuple[Array, Array]:
    """`rank_rows` for so few features that their tables stay in the cache of a core."""
    count, rows, d = blocks.shape
    values = _in_lanes(blocks)
    gaps = values == ABSENT
    absent = gaps if gaps.any() else None
    at = _by_lane(values, absent, LANE_WIDTH)
    added = _count(at, LANE_WIDTH).reshape(count, d, CELLS)
    equal, upto, after = _before_blocks(counts, added)
    less = (upto - equal).ravel().take(at)
    ties = equal.ravel().take(at)
    # For each value but a block's first, the earlier values that are less, and those equal.
    earlier_pairs = _gathered_pairs if values.shape[1] < MANY_LANES else _shifted_pairs
    less_in_block, ties_in_block = earlier_pairs(values)
    less[1:] += less_in_block
    ties[1:] += ties_in_block
    earlier = np.arange(rows)[:, None] if absent is None else np.cumsum(~absent, axis=0) - ~absent
    total = upto[:, :, -1].ravel() + earlier
    rank = less + _in_lanes(draws) * (ties + 1)
    counts[:] = after
    return count_slots(rank / (total + 1), absent).reshape(count, d, SLOTS), added


def _in_lanes(blocks: Array) -> Array:
    """Blocks (blocks, rows, d) as (rows, lanes): a lane is one feature in one block."""
    count, rows, d = blocks.shape
    return blocks.transpose(1, 0, 2).reshape(rows, count * d)


def _by_lane(values: Array, absent: Array | None, width: int) -> Array:
    """The places of values (rows, lanes) among the places of all lanes, `width` in each.

    The last place of a lane is for absent values.
    """
    known = values if absent is None else np.where(absent, width - 1, values)
    return known + np.arange(0, values.shape[1] * width, width)


def _count(at: Array, width: int) -> Array:
    """The counts (lanes, width - 1) of places (rows, lanes); absent values are not counted."""
    lanes = at.shape[1]
    return np.bincount(at.ravel(), minlength=lanes * width).reshape(lanes, width)[:, :-1]


def count_slots(p: Array, absent: Array | None) -> Array:
    """The number of p-values (rows, lanes) of each lane in each slot, float64 (lanes, 64).

    `absent` says where there is none; None where there are all.
    """
    slot = np.minimum((p * SLOTS).astype(np.int64), SLOTS - 1)
    return _count(_by_lane(slot, absent, SLOTS + 1), SLOTS + 1).astype(np.float64)


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


def _shifted_pairs(values: Array) -> tuple[Array, Array]:
    """Rows that are one apart are compared, then those two apart, and so on; nothing is copied."""
    rows = len(values)
    less = np.zeros_like(values[1:])
    ties = np.zeros_like(values[1:])
    ones = np.empty_like(less)
    hits = ones.view(np.bool_)
    for apart in range(1, rows):
        early = values[:-apart]
        late = values[apart:]
        pairs = rows - apart
        np.less(early, late, out=hits[:pairs])
        less[apart - 1 :] += ones[:pairs]
        np.equal(early, late, out=hits[:pairs])
        ties[apart - 1 :] += ones[:pairs]
    return less, ties


def _gathered_pairs(values: Array) -> tuple[Array, Array]:
    """The pairs are gathered first, so that few calls do for the few lanes of a Monitor."""
    early, late, starts = _row_pairs(len(values))
    first = values.take(early, axis=0)
    second = values.take(late, axis=0)
    pairs = (first < second, first == second)
    less, ties = (
        np.add.reduceat(hits.view(np.uint8), starts, axis=0, dtype=np.uint8) for hits in pairs
    )
    return less, ties


@cache
def _row_pairs(rows: int) -> tuple[Array, Array, Array]:
    """The rows of every pair, sorted by the later one, and where each later one begins."""
    late, early = np.tril_indices(rows, -1)
    return early, late, np.flatnonzero(np.diff(late, prepend=0))


# Bets.


@cache
def bets_on_rows() -> Table:
    """Bets on shifts and spreads, on slopes of the density, on groups of slots, and on either end.

    A share that few values have, such as missing ones, is at an end, where a bet may multiply by 12.
    """
    groups = [(start, GROUP, rate) for start in range(0, SLOTS, GROUP) for rate in GROUP_RATES]
    ends = [(start, n, rate) for n, rate in ENDS for start in (0, SLOTS - n)]
    shared = (
        (0.3, _normal_ratios(ROW_SHIFTS, ROW_SPREADS)),
        (0.2, _slopes()),
        (0.4, [_inside(*group) for group in groups]),
        (0.1, [_inside(*end) for end in ends]),
    )
    pays = [bet for _, bets in shared for bet in bets]
    weights = [share / len(bets) for share, bets in shared for _ in bets]
    return _fair(np.array(pays)), np.array(weights)


def _normal_ratios(shifts: Sequence[float], spreads: Sequence[float]) -> list[Array]:
    """Ratios of normal densities at the normal quantile of p: of shifts each way, and of spreads."""
    normal = NormalDist()
    x = np.array([normal.inv_cdf((slot + 0.5) / SLOTS) for slot in range(SLOTS)])
    of_shifts = [np.exp(sign * shift * x) for shift in shifts for sign in (1, -1)]
    return of_shifts + [np.exp(x * x * (1 - spread**-2) / 2) for spread in spreads]


def _slopes() -> list[Array]:
    """One and a part of a polynomial of p: location, scale and skewness, each way."""
    x = (np.arange(SLOTS) + 0.5) / SLOTS
    location = 2 * x - 1
    scale = 6 * x * x - 6 * x + 1
    skewness = 20 * x**3 - 30 * x * x + 12 * x - 1
    pays = []
    for shape in (location, scale, skewness):
        centred = shape - shape.mean()
        for tilt in (centred, -centred):
            most = -tilt.min()  # that a bet may stake on it
            pays += [1 + part * tilt / most for part in TILTS]
    return pays


def _inside(start: int, slots: int, rate: float) -> Array:
    """A bet that pays `rate` in some slots, and the same in all others."""
    at = np.arange(SLOTS)
    inside = (start <= at) & (at < start + slots)
    share = slots / SLOTS
    return np.where(inside, rate, (1 - rate * share) / (1 - share))


@cache
def bets_on_units() -> Table:
    """Twelve bets on shifts, and four on spreads."""
    weights = np.array(UNIT_WEIGHTS)
    return _fair(np.array(_normal_ratios(UNIT_SHIFTS, UNIT_SPREADS))), weights / weights.sum()


@cache
def bets_on_tails() -> Table:
    """The six bets on units that pay the less, the larger the p-value is."""
    down = bets_on_units()[0][:, 1 : 2 * len(UNIT_SHIFTS) : 2]
    return down, np.full(len(UNIT_SHIFTS), 1 / len(UNIT_SHIFTS))


def _fair(pays: Array) -> Array:
    table = pays.T
    logs: Array = np.log(table / table.mean(axis=0))
    return logs


def gains(slots: Array, table: Array) -> Array:
    """The logarithm of what each bet gains in each block: (blocks, lanes, 64) to (blocks, lanes, bets)."""
    blocks, lanes, _ = slots.shape
    out = np.empty((blocks, lanes, table.shape[1]))
    # Block by block: how a product is rounded depends on its shape.
    for start in range(0, lanes, PRODUCT_LANES):
        part = slice(start, start + PRODUCT_LANES)
        np.matmul(slots[:, part], table, out=out[:, part])
    return out


@final
class Ranks:
    """D1: bets on ranks. A feature that alarmed is closed until somebody knows of it."""

    changing = ()
    blocks = 1  # of a step
    spared = 0.0  # of alpha, for the error of the reference

    def __init__(self, table: Table, lanes: int = 1) -> None:
        self._table, self.weights = table
        self.lanes = lanes

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain]:
        """What bets gain on each block."""
        slots = ranked.slots["changed"]
        values = ranked.values if self.lanes == 1 else slots.sum(axis=2)
        return rank_gains(slots, self._table, values)


def rank_gains(slots: Array, table: Array, values: Array) -> Iterator[Gain]:
    """What bets with a table gain on each block, by the slots of its p-values and their number."""
    logs = gains(slots, table)
    return zip(logs, np.exp(logs), values, strict=True)

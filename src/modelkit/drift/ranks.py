"""Where a new member ranks among those before it: rows by their cells, and whole units by their scores.

If the reference and all members after it are exchangeable, the ranks, ties at random, are independent
and uniform, for a reference of any size: docs/drift_guarantees.md has the proof. A row is a unit of
one row, and all before it are known by their counts.

Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, section 2.2.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.bets import SLOTS, count_slots
from modelkit.drift.cells import ABSENT, CELLS
from modelkit.drift.units import FULL_SHARE

LANE_WIDTH = CELLS + 1  # with a place for absent values
MANY_LANES = 128  # from which comparing rows in place is faster than gathering their pairs
LANES_AT_ONCE = 2048  # whose tables stay in the cache of a core
RANKED_AT_ONCE = 1 << 17  # numbers of a bag of units: likewise
OF_REFERENCE = -1  # of units that were judged, the number of those judged before
RECENT_UNITS = 8  # whose counts are kept for effect sizes
SCORES = ("location", "scale", "distance")


class Ranked(NamedTuple):
    """Blocks of members that are ranked.

    `slots` has for each kind of bets on ranks the number of p-values in each slot, float64 (blocks,
    lanes, 64), `kept` what is kept of each block, (blocks, ...), and `values` how many values of each
    feature it has, int64 (blocks, d).
    """

    slots: dict[str, Array]
    kept: Array
    values: Array


# Rows.


@final
class RowBag:
    """The rows of the reference and those that were ranked, by their counts (d, 67).

    Args:
        reference: int64 (d, 67), the counts of the reference.
        rng: of the ties.
    """

    changing = ("counts", "left_out", "rng")

    def __init__(self, reference: Array, rng: np.random.Generator) -> None:
        self.counts = reference.copy()
        self.left_out = np.zeros(len(reference), bool)  # of the next block
        self.rng = rng

    def rank(self, blocks: Array) -> Ranked:
        """Rank rows in blocks, uint8 (blocks, rows, d), which join the bag; 255 is no value."""
        if self.left_out.any():
            blocks = blocks.copy()  # they may be the caller's
            blocks[0][:, self.left_out] = ABSENT
            self.left_out[:] = False
        draws = np.asarray(self.rng.random(blocks.shape))
        slots, added = rank_rows(self.counts, blocks, draws)
        return Ranked({"changed": slots}, added, added.sum(axis=2))

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
        blocks: uint8 (blocks, rows, d), in order of arrival; 255 where a row has no value.
        draws: uniform random numbers of the same shape.

    Returns:
        The number of p-values in each of the 64 slots, float64 (blocks, d, 64), and the number of
        values that each block added to each cell, int64 (blocks, d, 67).
    """
    count, _, d = blocks.shape
    slots = np.empty((count, d, SLOTS))
    added = np.empty((count, d, CELLS), np.int64)
    step = max(1, LANES_AT_ONCE // count)
    for start in range(0, d, step):
        part = slice(start, start + step)
        own = counts[part], blocks[:, :, part], draws[:, :, part]
        slots[:, part], added[:, part] = _rank_part(*own)
    return slots, added


def _rank_part(counts: Array, blocks: Array, draws: Array) -> tuple[Array, Array]:
    """`rank_rows` for so few features that their tables stay in the cache of a core."""
    count, rows, d = blocks.shape
    values = _in_lanes(blocks)
    absent = _absent(values)
    at = _by_lane(values, absent)
    added = _count_cells(at).reshape(count, d, CELLS)
    equal, upto, after = _before_blocks(counts, added)
    less = (upto - equal).ravel().take(at)
    ties = equal.ravel().take(at)
    less_in_block, ties_in_block = _earlier(values)
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


def _absent(values: Array) -> Array | None:
    """Where there is no value to be counted; None where there are all."""
    absent: Array = values == ABSENT
    return absent if absent.any() else None


def _by_lane(values: Array, absent: Array | None) -> Array:
    """The place of each cell, (rows, lanes), among the places of all lanes, 68 in each."""
    known = values if absent is None else np.where(absent, CELLS, values)
    return known + np.arange(0, values.shape[1] * LANE_WIDTH, LANE_WIDTH)


def _count_cells(at: Array) -> Array:
    """The counts (lanes, 67) of places in lanes."""
    lanes = at.shape[1]
    counts = np.bincount(at.ravel(), minlength=lanes * LANE_WIDTH)
    return counts.reshape(lanes, LANE_WIDTH)[:, :CELLS]


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


@final
class Unranked:
    """Members that are bet on as they are, and nothing else is kept of."""

    changing = ()

    def rank(self, blocks: Array) -> Ranked:
        """Blocks of numbers (blocks, members) of one feature."""
        count, size = blocks.shape
        return Ranked({}, blocks[:, None], np.full((count, 1), size))

    def begin_anew(self, j: int, block: int) -> None:
        """Nothing is ranked."""


# Whole units.


class Tails(Protocol):
    """What ranks units for "material", by `lanes` scores; `strata` are those of the last units."""

    lanes: int
    strata: deque[int]

    def ranks(self, bag: Array, order: Array, draws: Array, part: slice) -> Array:
        """The p-values of the last unit of a bag by some features, (features, 6), NaN for none."""


@dataclass(eq=False)
class _Ranking:
    """A unit on its way through its features: the first `ranked` of them have their p-values.

    `bag` (n, d, 16) has the unit last, and `order` (n,) is that of being judged. `p` (d, 9) and the
    `draws` are of the scores for "changed", and then of those for "material".
    """

    counts: Array
    stratum: int
    bag: Array
    order: Array
    draws: Array
    p: Array
    ranked: int = 0


@final
class UnitBag:
    """The units of the reference and those that were judged, by their shares, in each stratum.

    `since` (d,) is the number of units judged before those that a later one is ranked among for
    "changed".

    Args:
        units: those of the reference in each stratum, uint16 (n, d, 16).
        tails: what ranks them for "material".
        most: units in all.
        rng: of the ties, and of the units that are forgotten.
    """

    changing = ("bags", "order", "since", "rng")
    growing = ("bags", "order")

    def __init__(
        self, units: list[Array], tails: Tails, most: int, rng: np.random.Generator
    ) -> None:
        self.bags = units
        self.tails = tails
        self.order = [np.full(len(bag), OF_REFERENCE) for bag in units]
        self.room = [max(most // len(units), len(bag)) for bag in units]
        self.since = np.full(units[0].shape[1], OF_REFERENCE)
        self.rng = rng
        self._unit: _Ranking | None = None

    @property
    def ranks(self) -> bool:
        """Whether a unit that began is not ranked by all features yet."""
        return self._unit is not None

    def begin(self, counts: Array, stratum: int, shares: Array, number: int) -> None:
        """Take a unit, which `rank_part` is then called for until it is ranked.

        It has counts (d, 67) and shares, uint16 (d, 16), and comes after a number of judged units.
        """
        bag = np.concatenate([self.bags[stratum], shares[None]])
        order = np.append(self.order[stratum], number)
        draws = self.rng.random((len(shares), len(SCORES) + self.tails.lanes))
        self._unit = _Ranking(counts, stratum, bag, order, draws, np.empty_like(draws))

    def rank_part(self) -> Ranked | None:
        """Rank the unit by its next features, so that no call waits; what it is once it has them all."""
        unit = self._unit
        if unit is None:
            raise ValueError("no unit began")
        n, d, groups = unit.bag.shape
        end = unit.ranked + max(RANKED_AT_ONCE // (n * groups), 1)
        part = slice(unit.ranked, end)
        changed, material = _by_kind(unit.p)
        for_changed, for_material = _by_kind(unit.draws)
        since = unit.order[:, None] >= self.since[part]
        bag = unit.bag[:, part] * since[:, :, None]
        changed[part] = last_ranks(unit_scores(bag), np.any(bag, axis=2), for_changed[part])
        material[part] = self.tails.ranks(unit.bag, unit.order, for_material, part)
        unit.ranked = end
        if end < d:
            return None
        self._unit = None
        self._keep(unit)
        slots = {"changed": _unit_slots(changed), "material": _unit_slots(material)}
        return Ranked(slots, unit.counts[None], unit.counts.sum(axis=1)[None])

    def _keep(self, unit: _Ranking) -> None:
        """Keep the bag for later units, without one where it has too many."""
        bag, order = unit.bag, unit.order
        if len(bag) > self.room[unit.stratum]:
            # Whichever it is, it must not matter which of them came last: see the proof.
            forgotten = self.rng.integers(len(bag))
            bag = np.delete(bag, forgotten, axis=0)
            order = np.delete(order, forgotten)
        self.bags[unit.stratum] = bag
        self.order[unit.stratum] = order
        self.tails.strata.append(unit.stratum)

    def begin_anew(self, j: int, block: int) -> None:
        """Rank later units of feature number `j` among themselves, from after this one on.

        It may be open, and is left out.
        """
        self.since[j] = block + 1


def _by_kind(both: Array) -> tuple[Array, Array]:
    """What is of the scores for "changed", (d, 3), and for "material", (d, 6)."""
    return both[:, : len(SCORES)], both[:, len(SCORES) :]


def _unit_slots(p: Array) -> Array:
    """The p-values (d, scores) of one unit as `Ranked.slots`, (1, d * scores, 64)."""
    absent = np.isnan(p).reshape(1, -1)
    counts = count_slots(np.nan_to_num(p).reshape(1, -1), absent)
    return counts[None].astype(np.float64)


# Scores of units.


def unit_scores(bag: Array) -> Array:
    """The three scores of each unit, float64 (n, d, 3): functions of it and of the sum of all units.

    So all are measured alike, and it does not matter which came last. The sum is one of integers, so
    that rounding does not depend on the order of units either.

    With the mid-ranks of the 16 groups among the rows of all units: the mean rank of a unit's rows,
    the mean of the second Legendre polynomial of their ranks, and the total variation between the
    unit and all units.

    Args:
        bag: the shares of n units, uint16 (n, d, 16).
    """
    pool = bag.sum(axis=0, dtype=np.int64)
    total = pool.sum(axis=1, keepdims=True)
    total = np.maximum(total, 1)
    upto = np.cumsum(pool, axis=1)
    location = (2 * upto - pool) / total - 1
    scale = 1.5 * location**2 - 0.5
    shares = bag / FULL_SHARE
    apart = np.abs(shares - pool / total)
    numbers = (shares * location, shares * scale, apart / 2)
    sums = [groups.sum(axis=2) for groups in numbers]
    return np.stack(sums, axis=2)


def last_ranks(scores: Array, present: Array, draws: Array) -> Array:
    """The p-values of the last unit: its rank among all, ties at random, float64 (d, 3).

    NaN where it has no values of a feature.

    Args:
        scores: of n units, (n, d, 3).
        present: whether a unit has values of a feature, bool (n, d).
        draws: uniform on [0, 1), (d, 3).
    """
    last = scores[-1]
    counted = present[:, :, None]
    lower = (scores < last) & counted
    equal = (scores == last) & counted
    units = counted.sum(axis=0)
    rank = lower.sum(axis=0) + draws * equal.sum(axis=0)
    return np.where(counted[-1], rank / np.maximum(units, 1), np.nan)

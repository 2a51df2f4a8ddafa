"""What comes one after another and is bet on: rows, labels, losses, or whole units.

All are members of a sequence. Blocks of members, of a fixed size, are ranked, and sources say what
bets gain on them. The rest is one thing for all: the wealth, its threshold, the alarm, the alarms after
it, and where in the sequence the change began. Where a block ends depends on how many members have
come, never on what they hold. docs/explanation/drift_proofs.md has the proofs.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from math import isnan
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS
from modelkit.drift.limits import Bettor, Limits
from modelkit.drift.ranks import NO_TIME, Ranked, RowBag
from modelkit.drift.unit_ranks import UnitBag
from modelkit.stats.evidence import LEAST_WEALTH, Guarantee

ALL = slice(None)
MOST_PLACES = 128  # of blocks that are kept


@final
class Trail:
    """Where blocks were: the last ones, and of older ones the fewer the older they are.

    What is between two of them is interpolated. `row` is the number of the last member that was bet
    on, in the Detector, and `latest` the latest time of these members.
    """

    changing = ("blocks", "row", "latest", "kept")

    def __init__(self) -> None:
        self.blocks = 0
        self.row = 0
        self.latest = NO_TIME
        self.kept: list[list[float]] = []  # of blocks: number, members before, first time

    def add(self, row: float, first: float, last: float) -> None:
        """Take the next block: the number of its last member, its first and its last time."""
        self.kept.append([self.blocks, self.row, first])
        self.blocks += 1
        self.row = int(row)
        if isnan(self.latest) or last > self.latest:
            self.latest = last
        if len(self.kept) > MOST_PLACES:
            half = MOST_PLACES // 2
            self.kept = self.kept[:half:2] + self.kept[half:]

    def at(self, blocks: Array) -> tuple[Array, Array]:
        """The members before blocks of these numbers, int64 (n,), and the times of these blocks."""
        if not self.kept:
            return np.zeros(len(blocks), np.int64), np.full(len(blocks), NO_TIME)
        kept, before, times = np.array(self.kept).T
        members = np.rint(np.interp(blocks, kept, before)).astype(np.int64)
        return members, np.interp(blocks, kept, times)


@dataclass(frozen=True)
class Crossing:
    """Evidence that passed its threshold.

    `feature` is the number of the feature, `lane` the number of the score that says so, `p` the
    p-value and `row` the number of members until then. `block` is that at which the change is
    estimated to have begun, `began` the number of members before it, and `recent` are what is kept
    of the blocks since then, as far as they are. `level` is the share of alpha of the lane for this
    alarm, and `again` whether it goes beyond an alarm before. `time` and `began_time` are when
    these members were, and `values` is how many values of the feature were looked at.
    """

    kind: str
    feature: int
    p: float
    row: int
    began: int | None
    recent: Array
    level: float
    again: bool = False
    lane: int = 0
    block: int = 0
    time: float | None = None
    began_time: float | None = None
    values: int | None = None


@final
class Sequence:
    """Members in blocks, what is bet on them, and what is kept of the last blocks.

    `members` is how many came, and `first` the number of the member before the first of them.
    `values` (d,) is how many values of each feature were bet on, and `totals` (d, 67) the counts of
    all members, which the caller adds, whether or not they are bet on. `pending` and `places` hold
    the members that fill no block yet, with their numbers and times, (block, 2).

    Args:
        bag: what members are ranked among; None where they are bet on as they are.
        bettors: by kind; none where nothing is bet.
        block: zeros in the form of a block, (members, ...).
        kept: zeros in the form of what is kept of the last blocks, (blocks, d, ...).
    """

    changing = (
        "members",
        "first",
        "totals",
        "values",
        "pending",
        "places",
        "kept",
        "trail",
        "bag",
        "bettors",
    )

    def __init__(
        self,
        bag: RowBag | UnitBag | None,
        bettors: Mapping[str, Bettor],
        *,
        block: Array,
        kept: Array,
    ) -> None:
        self.bag = bag
        self.bettors = bettors
        self.size = len(block)
        self.members = 0
        self.first = 0
        d = kept.shape[1]
        self.totals = np.zeros((d, CELLS), np.int64)
        self.values = np.zeros(d, np.int64)
        self.kept = kept
        self.trail = Trail()
        self.pending = block  # members that fill no block yet, and zeros
        self.places = np.zeros((self.size, 2))  # their numbers and times
        self._ranked: list[Ranked] = []

    @property
    def blocks(self) -> int:
        """The number of blocks that were bet on."""
        return self.trail.blocks

    @property
    def left_out(self) -> int:
        """The number of members that were counted only.

        It is a lower bound where some had no value for any feature.
        """
        most = int(self.totals.sum(axis=1).max(initial=0))
        return max(most - self.members, 0)

    def begin_after(self, member: int) -> None:
        """Begin with the member after this number: those until then had another reference."""
        self.first = member
        self.trail.row = member

    # Members.

    def rank(self, members: Array, places: Array) -> Ranked | None:
        """Take rows, labels or losses; the bets on them wait for `settle`.

        Returns the blocks that are whole now, or None.

        Args:
            members: (n, ...); of rows uint8 (n, d), with 255 where a row lacks a value of a
                feature.
            places: the number of each member in its Detector and its time, float64 (n, 2).
        """
        n = len(members)
        had = self.members % self.size
        self.members += n
        if had + n < self.size:
            self.pending[had : had + n] = members
            self.places[had : had + n] = places
            return None
        blocks = _whole_blocks(self.pending, had, members)
        ends = _ends(_whole_blocks(self.places, had, places))
        if isinstance(self.bag, RowBag):
            ranked = self.bag.rank(blocks, ends)
        else:  # numbers of one feature, as they are
            ranked = Ranked({}, blocks[:, None], np.full((len(blocks), 1), self.size), ends)
        self.take(ranked)
        return ranked

    def take(self, ranked: Ranked) -> None:
        """Take blocks that are ranked; the bets on them wait for `settle`."""
        self._ranked.append(ranked)

    def settle(self) -> list[Crossing]:
        """Bet on all blocks that are ranked."""
        crossed: list[Crossing] = []
        for ranked in self._ranked:
            betting = [
                (kind, bettor, bettor.source.gains(ranked, self.blocks))
                for kind, bettor in self.bettors.items()
            ]
            for i, end in enumerate(ranked.ends.tolist()):
                self.kept[self.blocks % len(self.kept)] = ranked.kept[i]
                self.trail.add(*end)
                self.values += ranked.values[i]
                for kind, bettor, gains in betting:
                    gain = next(gains)
                    if gain is not None:
                        crossed += [self._cross(kind, bettor, j) for j in bettor.step(gain)]
                if self.blocks % len(self.kept) == 0:
                    self._tighten()
        self._ranked.clear()
        return crossed

    def _tighten(self) -> None:
        """Narrow the limits of features that came nearer to the reference, a while after an alarm."""
        for bettor in self.bettors.values():
            if isinstance(bettor.source, Limits):
                for j in bettor.source.tighten(self.recent(), self.blocks):
                    bettor.arm(j)

    def close(self, j: int) -> None:
        """Let feature number `j` never again raise an alarm of the kind "changed"."""
        self.bettors["changed"].open[j] = False

    def open_again(self, j: int) -> bool:
        """Let a feature that raised the alarm "changed" raise another one, by later members alone.

        They are ranked among themselves. Members that were ranked are settled. Whether it had been
        closed.
        """
        bettor = self.bettors["changed"]
        closed = not bettor.open[j]
        if closed:
            assert self.bag is not None
            bettor.arm(j)
            self.bag.begin_anew(j, self.blocks)
        return closed

    # Evidence.

    def _cross(self, kind: str, bettor: Bettor, j: int) -> Crossing:
        """What alarms now; a feature that may alarm again begins again."""
        value = bettor.by_feature(bettor.evidence.value)[j]
        lane = int(value.argmax())
        block = int(bettor.began()[j, lane])
        (began,), (began_time,) = self.trail.at(np.array([block]))
        crossing = Crossing(
            kind,
            feature=j,
            lane=lane,
            p=float(self._p_of(bettor, value[lane])),
            level=float(bettor.levels[j] / len(value) * bettor.parts[j]),
            again=bettor.again(j),
            row=self.trail.row,
            time=known(self.trail.latest),
            block=block,
            began=int(began),
            began_time=known(began_time),
            recent=self.recent(block, j),
            values=int(self.values[j]),
        )
        bettor.go_on(j, crossing.recent, self.blocks)
        return crossing

    def p(self, kind: str) -> Array:
        """The p-value of each feature, of all its lanes together, (d,).

        For "ever" it is valid at all times together, for "arl" at each one of them.
        """
        lanes = self.lane_p(kind)
        p: Array = np.minimum(1.0, lanes.min(axis=1) * lanes.shape[1])
        return p

    def lane_p(self, kind: str) -> Array:
        """The p-value of each lane, (d, lanes)."""
        bettor = self.bettors[kind]
        return bettor.by_feature(self._p_of(bettor, bettor.evidence.peak))

    def _p_of(self, bettor: Bettor, wealth: Array) -> Array:
        return anytime_p(wealth, self.staked(bettor.evidence.guarantee))

    def staked(self, guarantee: Guarantee) -> int:
        """The largest mean that the wealth can have by now where nothing has changed."""
        return 1 if guarantee == "ever" else max(self.blocks * self.size, 1)

    def material_wealth(self) -> Array:
        """What was won about material changes until now, (d,), by all alarms together."""
        bettor = self.bettors["material"]
        return bettor.evidence.value + bettor.won

    def recent(self, block: int = 0, features: int | slice = ALL) -> Array:
        """The kept part of the last blocks, from the block of this number on, for all features or one."""
        most = len(self.kept)
        blocks = min(most, self.blocks, max(self.blocks - block, 1))
        at = np.arange(self.blocks - blocks, self.blocks) % most
        return self.kept[at, features]


def _whole_blocks(pending: Array, had: int, members: Array) -> Array:
    """Whole blocks (blocks, size, ...) of the `had` members that are pending, and of others.

    `pending` has room for one block, and takes those that are left.
    """
    size = len(pending)
    whole = np.concatenate([pending[:had], members]) if had else members
    rest = len(whole) % size
    cut = len(whole) - rest
    pending[:rest] = whole[cut:]
    pending[rest:] = 0
    return whole[:cut].reshape(-1, size, *whole.shape[1:])


def _ends(places: Array) -> Array:
    """For blocks of places (blocks, size, 2), the last number, the first and the last time, (blocks, 3)."""
    times = places[:, :, 1]
    ends = np.empty((len(places), 3))
    ends[:, 0] = places[:, -1, 0]
    ends[:, 1] = times.min(axis=1)
    ends[:, 2] = times.max(axis=1)
    return ends


def anytime_p(wealth: Array, staked: float) -> Array:
    """The p-value of each wealth, whose mean without a change is at most what was staked."""
    return np.minimum(1.0, staked / np.maximum(wealth, LEAST_WEALTH))


def known(time: float) -> float | None:
    """A time, or None where it is not known."""
    return None if np.isnan(time) else float(time)


def places_of(first: int, times: Array) -> Array:
    """The numbers of members from `first` + 1 on beside their times (n,), float64 (n, 2)."""
    after = first + 1
    places = np.empty((len(times), 2))
    places[:, 0] = np.arange(after, after + len(times))
    places[:, 1] = times
    return places


def merged(parts: Many[Ranked | None]) -> Ranked | None:
    """The blocks of several sequences as one, in the order in which they ended; None without any."""
    ranked = [part for part in parts if part is not None]
    if not ranked:
        return None
    fields = zip(*((part.slots["changed"], *part[1:]) for part in ranked), strict=True)
    slots, kept, values, ends = map(np.concatenate, fields)
    order = np.argsort(ends[:, 0], kind="stable")
    return Ranked({"changed": slots[order]}, kept[order], values[order], ends[order])

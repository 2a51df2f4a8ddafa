"""What comes one after another and is bet on: rows, labels, losses, or whole units.

All are members of a sequence. Blocks of members, of a fixed size, are ranked, and sources say what
bets gain on them. The rest is one thing for all: the wealth, its threshold, the alarm, the alarms after
it, and where in the sequence the change began. Where a block ends depends on how many members have
come, never on what they hold. docs/drift_guarantees.md has the proofs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.bets import Bets, Bettor, Gain
from modelkit.drift.cells import CELLS
from modelkit.drift.ranks import Ranked, RowBag, UnitBag, Unranked
from modelkit.stats.evidence import LEAST_WEALTH, Guarantee

ALL = slice(None)
MOST_PLACES = 128  # of blocks that are kept
NO_TIME = float("nan")  # the time of members that say nothing of it


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
        self._kept: list[tuple[float, float, float]] = []  # blocks: number, members before, time

    @property
    def kept(self) -> Array:
        """The places that are kept, float64 (n, 3)."""
        return np.array(self._kept).reshape(-1, 3)

    @kept.setter
    def kept(self, kept: Array) -> None:
        self._kept = [(block, before, time) for block, before, time in kept.tolist()]

    def add(self, row: float, first: float, last: float) -> None:
        """Take the next block: the number of its last member, its first and its last time."""
        self._kept.append((self.blocks, self.row, first))
        self.blocks += 1
        self.row = int(row)
        self.latest = float(np.fmax(self.latest, last))
        if len(self._kept) > MOST_PLACES:
            half = MOST_PLACES // 2
            self._kept = self._kept[:half:2] + self._kept[half:]

    def at(self, blocks: Array) -> tuple[Array, Array]:
        """The members before blocks of these numbers, int64 (n,), and the times of these blocks."""
        if not self._kept:
            return np.zeros(len(blocks), np.int64), np.full(len(blocks), NO_TIME)
        kept, before, times = self.kept.T
        whole = np.rint(np.interp(blocks, kept, before)).astype(np.int64)
        return whole, np.interp(blocks, kept, times)


@dataclass(frozen=True)
class Crossing:
    """Evidence that passed its threshold.

    `feature` is the number of the feature, `lane` that of the score that says so, `p` the p-value and
    `row` the number of members until then. `block` is that at which the change is estimated to have
    begun, `began` the number of members before it, and `recent` are what is kept of the blocks since
    then, as far as they are. `part` is the part of its share of alpha that the feature had left for
    this alarm, and `level` that share of a lane. `again` is whether it goes beyond an alarm before,
    `time` and `began_time` are when these members were, and `values` is how many values of the
    feature were looked at.
    """

    kind: str
    feature: int
    p: float
    row: int
    began: int | None
    recent: Array
    part: float = 1.0
    again: bool = False
    lane: int = 0
    level: float = 0.0
    block: int = 0
    time: float | None = None
    began_time: float | None = None
    values: int | None = None


class Source(Bets, Protocol):
    """What bets gain on blocks."""

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain | None]:
        """The gain in each block, None within a step; so many blocks came before."""

    def further(self, j: int) -> bool:
        """Whether feature number j may be further from the reference than at first."""

    def allow(self, j: int, recent: Array, blocks: int) -> bool:
        """Allow what recent blocks show, by which j alarmed; whether it may alarm again then."""

    def tighten(self, recent: Array, blocks: int) -> list[int]:
        """Allow less where recent blocks show less; the numbers of these features."""


class RankedBlocks(NamedTuple):
    """Blocks that wait for their bets; `ends` has for each the number of its last member, and times."""

    ranked: Ranked
    ends: Array


@final
class Sequence:
    """Members in blocks, what is bet on them, and what is kept of the last blocks.

    `members` is how many came, and `first` the number of the member before them. `values` (d,) is how
    many values of each feature were bet on. `totals` (d, 67) are counts of all members, whether or
    not they are bet on, for whoever counts them.

    Args:
        bag: what members are ranked among.
        sources: of gains, by kind; none where nothing is bet.
        bettors: by kind.
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
        "sources",
        "bettors",
    )

    def __init__(
        self,
        bag: RowBag | Unranked | UnitBag,
        sources: Mapping[str, Source],
        bettors: Mapping[str, Bettor],
        *,
        block: Array,
        kept: Array,
    ) -> None:
        self.bag = bag
        self.sources = sources
        self.bettors = bettors
        self.size = len(block)
        self.members = 0
        self.first = 0
        d = kept.shape[1]
        self.totals = np.zeros((d, CELLS), np.int64)
        self.values = np.zeros(d, np.int64)
        self.kept = kept
        self.trail = Trail()
        self._pending = block
        self._places = np.zeros((self.size, 2))
        self._ranked: list[RankedBlocks] = []

    @property
    def blocks(self) -> int:
        """The number of blocks that were bet on."""
        return self.trail.blocks

    @property
    def pending(self) -> Array:
        """The members that fill no block yet."""
        return self._pending[: self.members % self.size]

    @pending.setter
    def pending(self, members: Array) -> None:
        self._pending[: len(members)] = members

    @property
    def places(self) -> Array:
        """Their numbers and times, (n, 2)."""
        return self._places[: self.members % self.size]

    @places.setter
    def places(self, places: Array) -> None:
        self._places[: len(places)] = places

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

    def rank(self, members: Array, places: Array) -> RankedBlocks | None:
        """Take rows, labels or losses; the bets on them wait for `settle`.

        Returns the blocks that are whole now, None where there are none.

        Args:
            members: (n, ...); of rows uint8 (n, d), with 255 where a row has no value of a feature.
            places: the number of each member in its Detector and its time, float64 (n, 2).
        """
        n = len(members)
        had = self.members % self.size
        self.members += n
        if had + n < self.size:
            self._pending[had : had + n] = members
            self._places[had : had + n] = places
            return None
        blocks = _whole_blocks(self._pending, had, members)
        times = _whole_blocks(self._places, had, places)
        if isinstance(self.bag, UnitBag):
            raise TypeError("units are ranked in parts")
        return self.take(self.bag.rank(blocks), _ends(times))

    def take(self, ranked: Ranked, ends: Array) -> RankedBlocks:
        """Take blocks that are ranked, and the ends of each: see `RankedBlocks`."""
        self._ranked.append(RankedBlocks(ranked, ends))
        return self._ranked[-1]

    def settle(self) -> list[Crossing]:
        """Bet on all blocks that are ranked."""
        crossed: list[Crossing] = []
        for ranked, ends in self._ranked:
            betting = [
                (kind, self.bettors[kind], source.gains(ranked, self.blocks))
                for kind, source in self.sources.items()
            ]
            for end, kept, values in zip(ends.tolist(), ranked.kept, ranked.values, strict=True):
                self._come_to(end, kept, values)
                for kind, bettor, gains in betting:
                    gain = next(gains)
                    if gain is not None and (features := bettor.step(gain)):
                        crossed += self._crossings(kind, features)
                if self.blocks % len(self.kept) == 0:
                    self._tighten()
        self._ranked.clear()
        return crossed

    def _come_to(self, end: list[float], kept: Array, values: Array) -> None:
        """Take the next block, on which bets are made."""
        self.kept[self.blocks % len(self.kept)] = kept
        self.trail.add(*end)
        self.values += values

    def _crossings(self, kind: str, features: list[int]) -> list[Crossing]:
        """What alarms now, after which the features that may alarm again begin anew."""
        crossed = [self._crossing(kind, j) for j in features]
        bettor = self.bettors[kind]
        for crossing in crossed:
            j = crossing.feature
            every = bettor.evidence.guarantee == "arl"
            if every or self.sources[kind].allow(j, crossing.recent, self.blocks):
                bettor.arm(j)
        return crossed

    def _tighten(self) -> None:
        """Hold features to less that have come nearer to the reference, a while after an alarm."""
        for kind, source in self.sources.items():
            for j in source.tighten(self.recent(), self.blocks):
                self.bettors[kind].arm(j)

    def close(self, j: int) -> None:
        """Let feature number `j` raise no alarm of the kind "changed" any more."""
        self.bettors["changed"].open[j] = False

    def open_again(self, j: int) -> bool:
        """Let a feature that raised the alarm "changed" raise another one, by later members alone.

        They are ranked among themselves. Members that were ranked are settled. Whether it had been
        closed.
        """
        closed = self.bettors["changed"].open_again(j)
        if closed:
            self.bag.begin_anew(j, self.blocks)
        return closed

    # Evidence.

    def _crossing(self, kind: str, j: int) -> Crossing:
        bettor = self.bettors[kind]
        value = bettor.by_feature(bettor.evidence.value)
        lane = int(value[j].argmax())
        block = int(bettor.began()[j, lane])
        (began,), (began_time,) = self.trail.at(np.array([block]))
        return Crossing(
            kind,
            feature=j,
            lane=lane,
            p=float(self._p_of(bettor, value[j, lane])),
            part=float(bettor.parts[j]),
            level=bettor.level(j),
            again=bettor.armed(j) if kind == "changed" else self.sources[kind].further(j),
            row=self.trail.row,
            time=known(self.trail.latest),
            block=block,
            began=int(began),
            began_time=known(began_time),
            recent=self.recent(block, j),
            values=int(self.values[j]),
        )

    def p(self, kind: str) -> Array:
        """The p-value of each feature, of all its lanes together, (d,).

        For "ever" it is valid at all times together, for "arl" at each one of them.
        """
        p: Array = np.minimum(1.0, self.lane_p(kind).min(axis=1) * self.bettors[kind].lanes)
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

    def began(self, kind: str) -> Array:
        """For each feature, (d,), the number of members before the start of its best bet."""
        return self.trail.at(self.bettors[kind].began()[:, 0])[0]

    def recent(self, block: int = 0, features: int | slice = ALL) -> Array:
        """What is kept of the last blocks, from the block of this number on; or that of one feature."""
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
    return whole[:cut].reshape(-1, size, *whole.shape[1:])


def _ends(places: Array) -> Array:
    """For blocks of places (blocks, size, 2), the last number, the first and the last time, (blocks, 3)."""
    times = places[:, :, 1]
    return np.stack([places[:, -1, 0], times.min(axis=1), times.max(axis=1)], axis=1)


def anytime_p(wealth: Array, staked: float) -> Array:
    """The p-value of each wealth, whose mean without a change is at most what was staked."""
    p: Array = np.minimum(1.0, staked / np.maximum(wealth, LEAST_WEALTH))
    return p


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

"""Which tests of which leaves a row meets, as bits.

A player is a raw column. A leaf asks one test of each of its players: a condition, or several of
columns that one player makes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.explain.ensemble import Leaves

# An index in brackets is four times as slow as `take`, and one that is checked against the size is
# half as fast: all indices are made here, so `take` gets mode="clip" where it counts.

# Made at once, so that they stay in the cache and other threads get the interpreter in between.
CELLS_AT_ONCE = 1 << 17


class Tests:
    """The tests of all leaves. `players` (leaves,) is the number of players of each leaf."""

    def __init__(self, leaves: Leaves, players: Array) -> None:
        self._conditions = leaves.conditions
        leaf, player, path = _by_player(leaves, players)
        new = np.ones(len(path), bool)
        new[1:] = np.diff(leaf) != 0
        new[1:] |= np.diff(player) != 0
        starts = np.flatnonzero(new)
        sizes = np.diff(starts, append=len(path))
        several = sizes > 1
        self._several = path[several[np.cumsum(new) - 1]]
        self._starts = np.cumsum(sizes[several]) - sizes[several]
        joined = len(leaves.conditions.column) + np.cumsum(several) - 1
        self._test = np.where(several, joined, path[starts])
        self._player = player[starts]
        self.players = np.bincount(leaf[starts], minlength=len(leaves.values))

    def run(self, rows: Array) -> Array:
        """Whether each row meets each test, (n, tests) of bool."""
        met = self._conditions.met(rows)
        if not len(self._starts):
            return met
        several = met.take(self._several, axis=1)
        return np.concatenate([met, np.logical_and.reduceat(several, self._starts, axis=1)], 1)

    def of(self, leaves: Array, d: int) -> tuple[Array, Array]:
        """The tests and the players, each (leaves, d), of leaves that have d players each."""
        first = np.cumsum(self.players) - self.players
        at = first[leaves][:, None] + np.arange(d)
        return self._test[at], self._player[at]


def _by_player(leaves: Leaves, players: Array) -> tuple[Array, Array, Array]:
    """The leaf, player and condition of each step of all paths, in the order of the players."""
    # Not by `repeat`, which does not let other threads run.
    steps = np.arange(len(leaves.path))
    leaf = np.searchsorted(leaves.starts, steps, side="right") - 1
    player = players[leaves.conditions.column[leaves.path]]
    order = np.lexsort((player, leaf))
    return leaf[order], player[order], leaves.path[order]


class Background:
    """Which tests the rows of a background meet, eight rows to a byte.

    `often` (tests,) is the number of rows that meet each test.
    """

    def __init__(self, tests: Tests, rows: Array) -> None:
        self._count = len(rows)
        parts = [tests.run(rows[start : start + 8]) for start in range(0, len(rows), 8)]
        self._packed = np.concatenate([np.packbits(met, axis=0) for met in parts])
        self.often = np.bitwise_count(self._packed).sum(axis=0, dtype=np.intp)

    def patterns(self, slots: Array, cells: int) -> Iterator[tuple[int, Array]]:
        """The patterns of some leaves after the other.

        Args:
            slots: (d, leaves) the tests of each leaf.
            cells: what the caller makes of each leaf at once.

        Yields:
            The number of the first of some leaves, and their patterns (rows, leaves).
        """
        step = max(1, CELLS_AT_ONCE // max(cells, self._count))
        for start in range(0, slots.shape[1], step):
            part = slots[:, start : start + step]
            packed = self._packed.take(part.ravel(), axis=1)
            bits = np.unpackbits(packed, axis=0, count=self._count)
            yield start, patterns(bits, np.arange(part.size).reshape(part.shape))


class LeafGroup:
    """All leaves that have d players each.

    `slots` (d, leaves) are the tests and `players` (d, leaves) the players of each leaf, and
    `values` is (leaves, outputs). The players of a leaf are in the order of how often the
    background meets their tests. So the patterns that are common differ in their low bits, and are
    near each other in a table.

    Where each leaf adds to one output, as in boosting, `single` is true and the `factor` (leaves,)
    of what is looked up is the value of the leaf; elsewhere it is 1. `place` (d, leaves) is where
    in a flat (players, outputs) array a leaf adds.
    """

    def __init__(self, tests: Tests, d: int, values: Array, background: Background) -> None:
        chosen = np.flatnonzero(tests.players == d)
        slots, players = tests.of(chosen, d)
        order = np.argsort(-background.often[slots], axis=1, kind="stable")
        self.d = d
        self.values = values[chosen]
        self.background = background
        slots = np.take_along_axis(slots, order, 1)
        players = np.take_along_axis(players, order, 1)
        self.slots = np.ascontiguousarray(slots.T)
        self.players = np.ascontiguousarray(players.T)
        self.single = bool((np.count_nonzero(self.values, axis=1) == 1).all())
        self.factor, self.place = self._factor_and_place()

    def _factor_and_place(self) -> tuple[Array, Array]:
        place = self.players * self.values.shape[1]
        if not self.single:
            return np.ones(len(self)), place
        output = np.abs(self.values).argmax(axis=1)
        return self.values[np.arange(len(self)), output], place + output

    def __len__(self) -> int:
        return len(self.values)


class PlayerSums:
    """Adds what each leaf of a group gives to its players to what they have.

    What is given is (n, d * leaves) numbers, or (n, leaves * d) unless `by_player`.
    """

    def __init__(self, group: LeafGroup, *, by_player: bool = True) -> None:
        place = group.place
        leaf = np.broadcast_to(np.arange(len(group)), place.shape)
        if not by_player:
            place = place.T
            leaf = leaf.T
        # In the order of their players, so that a player's share is one contiguous sum.
        self._order = np.argsort(place, axis=None, kind="stable")
        self._places, self._starts = np.unique(place.ravel()[self._order], return_index=True)
        self._values: list[Array | None] = [None]
        if not group.single:
            values = group.values[leaf.ravel()[self._order]]
            self._values = list(np.ascontiguousarray(values.T))

    def add(self, given: Array, out: Array) -> None:
        """Add to `out`, (n, players, outputs)."""
        given = given.take(self._order, axis=1, mode="clip")
        flat = out.reshape(len(out), -1)
        for k, values in enumerate(self._values):
            found = given if values is None else given * values
            sums = np.add.reduceat(found, self._starts, axis=1, dtype=np.float64)
            flat[:, self._places + k] += sums


def patterns(bits: Array, slots: Array) -> Array:
    """The tests that each row meets of each leaf, as the bits of a number; (n, leaves)."""
    d, leaves = slots.shape
    kind = _dtype_of(d)
    out = np.zeros((len(bits), leaves), kind)
    for j in range(d):
        bit = bits.take(slots[j], axis=1, mode="clip").astype(kind, copy=False)
        out |= np.left_shift(bit, kind.type(j), out=bit)
    return out


def _dtype_of(d: int) -> np.dtype[np.signedinteger]:
    """The smallest dtype for patterns of d bits."""
    if d < 15:
        return np.dtype(np.int16)
    return np.dtype(np.int32) if d < 31 else np.dtype(np.int64)

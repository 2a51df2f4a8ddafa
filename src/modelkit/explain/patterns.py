"""Which conditions of which leaves hold: as bits of rows, and as numbers of leaves that have as many players each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelkit.cast import Array
from modelkit.explain.ensemble import Leaves

# An index in brackets is four times as slow as `take`, and one that is checked against the size is
# half as fast: all indices are made here, so `take` gets mode="clip" where it counts.
CELLS = (
    1 << 17
)  # of what is made at once: it stays in the cache, and other threads get the interpreter in between


class Tests:
    """What each leaf asks of each player: one condition, or several of columns that one player makes."""

    def __init__(self, leaves: Leaves, players: Array) -> None:
        self._conditions = leaves.conditions
        # Not by `repeat`, which does not let other threads run.
        leaf = np.searchsorted(leaves.starts, np.arange(len(leaves.path)), side="right") - 1
        player = players[leaves.conditions.column[leaves.path]]
        order = np.lexsort((player, leaf))
        leaf, player, path = leaf[order], player[order], leaves.path[order]
        new = np.ones(len(path), bool)
        new[1:] = (np.diff(leaf) != 0) | (np.diff(player) != 0)
        starts = np.flatnonzero(new)
        sizes = np.diff(starts, append=len(path))
        several = sizes > 1
        self._several = path[several[np.cumsum(new) - 1]]
        self._starts = np.cumsum(sizes[several]) - sizes[several]
        self._test = np.where(
            several, len(leaves.conditions.column) + np.cumsum(several) - 1, path[starts]
        )
        self._player = player[starts]
        self.players = np.bincount(
            leaf[starts], minlength=len(leaves.values)
        )  # of each leaf, how many

    def run(self, rows: Array) -> Array:
        """(n, tests) of bool."""
        met = self._conditions.met(rows)
        if not len(self._starts):
            return met
        return np.concatenate(
            [met, np.logical_and.reduceat(met.take(self._several, axis=1), self._starts, axis=1)], 1
        )

    def of(self, leaves: Array, d: int) -> tuple[Array, Array]:
        """(leaves, d) tests and players of leaves that have d players each."""
        at = (np.cumsum(self.players) - self.players)[leaves][:, None] + np.arange(d)
        return self._test[at], self._player[at]


class Background:
    """Which tests the rows of a background meet, eight rows to a byte."""

    def __init__(self, tests: Tests, rows: Array) -> None:
        self._count = len(rows)
        parts = [
            np.packbits(tests.run(rows[start : start + 8]), axis=0)
            for start in range(0, len(rows), 8)
        ]
        self._packed = np.concatenate(parts)
        self.often = np.bitwise_count(self._packed).sum(
            axis=0, dtype=np.intp
        )  # of each test, the rows that meet it

    def patterns(self, slots: Array, cells: int) -> Iterator[tuple[int, Array]]:
        """(rows, some leaves) patterns and the first of these leaves, of `cells` for each leaf at once."""
        step = max(1, CELLS // max(cells, self._count))
        for start in range(0, slots.shape[1], step):
            part = slots[:, start : start + step]
            bits = np.unpackbits(self._packed.take(part.ravel(), axis=1), axis=0, count=self._count)
            yield start, patterns(bits, np.arange(part.size).reshape(part.shape))


class Members:
    """The leaves of d players: tests (`slots`) and players are (d, leaves), values (leaves, outputs).

    The players of a leaf are in the order of how often the background meets what is asked of them.
    So the patterns that are common differ in their low bits, and are near each other in a table.
    """

    def __init__(self, tests: Tests, d: int, values: Array, background: Background) -> None:
        chosen = np.flatnonzero(tests.players == d)
        slots, players = tests.of(chosen, d)
        order = np.argsort(-background.often[slots], axis=1, kind="stable")
        self.d, self.values, self.background = d, values[chosen], background
        self.slots, self.players = (
            np.ascontiguousarray(np.take_along_axis(of, order, 1).T) for of in (slots, players)
        )
        # Where each leaf adds to one output, as in boosting, its value is multiplied into what is
        # looked up.
        outputs, rows = values.shape[1], np.arange(len(chosen))
        output = np.abs(self.values).argmax(axis=1)
        self.single = bool((np.count_nonzero(self.values, axis=1) == 1).all())
        self.factor = self.values[rows, output] if self.single else np.ones(len(chosen))
        self.place = self.players * outputs + (
            output if self.single else 0
        )  # in the row of a flat (players, outputs)

    def __len__(self) -> int:
        return len(self.values)


class Sum:
    """Adds what each leaf gives to each of its players to what these have."""

    def __init__(self, members: Members, *, by_player: bool = True) -> None:
        """Given are (n, d x leaves) numbers, or (n, leaves x d) of them unless `by_player`."""
        place, leaf = members.place, np.broadcast_to(np.arange(len(members)), members.place.shape)
        if not by_player:
            place, leaf = place.T, leaf.T
        # In the order of their players, so that a player's share is one contiguous sum.
        self._order = np.argsort(place, axis=None, kind="stable")
        self._places, self._starts = np.unique(place.ravel()[self._order], return_index=True)
        leaf = leaf.ravel()[self._order]
        self._values = (
            [None] if members.single else list(np.ascontiguousarray(members.values[leaf].T))
        )

    def add(self, given: Array, out: Array) -> None:
        """Add to `out`, (n, players, outputs)."""
        given = given.take(self._order, axis=1, mode="clip")
        flat = out.reshape(len(out), -1)
        for k, values in enumerate(self._values):
            found = given if values is None else given * values
            flat[:, self._places + k] += np.add.reduceat(
                found, self._starts, axis=1, dtype=np.float64
            )


def patterns(bits: Array, slots: Array) -> Array:
    """(n, leaves): of each row and leaf, the tests that hold, as the bits of a number."""
    d, leaves = slots.shape
    kind = np.dtype(np.int16 if d < 15 else np.int32 if d < 31 else np.int64)
    out = np.zeros((len(bits), leaves), kind)
    for j in range(d):
        bit = bits.take(slots[j], axis=1, mode="clip").astype(kind, copy=False)
        out |= np.left_shift(bit, kind.type(j), out=bit)
    return out

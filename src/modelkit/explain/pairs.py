"""Leaves too deep for tables: a row is compared with the distinct patterns of the background.

p, q, A and B are those of the formulas in `table`.
"""

from __future__ import annotations

from math import factorial

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.explain.patterns import LeafGroup, PlayerSums, patterns


class TooDeepError(Exception):
    """Tables that would be too large; its text says how large."""


class PatternPairs:
    """Leaves too deep for tables: the distinct background patterns of each, with their shares.

    Raises TooDeepError if there are more than `most`.
    """

    bytes = 0

    def __init__(self, group: LeafGroup, most: int) -> None:
        self._d = group.d
        self._slots = group.slots
        self._factor = group.factor
        self._sums = PlayerSums(group)
        self._gain, self._loss = _pair_weights(group.d)
        pattern, share = _distinct(group, most)
        self.pairs = sum(len(found) for found in pattern)
        sizes = [len(found) for found in pattern]
        self._leaf = np.repeat(np.arange(len(pattern)), sizes)
        self._pattern = np.concatenate(pattern)
        self._share = np.concatenate(share)
        all_met = self._pattern == (1 << group.d) - 1
        self.reached = np.bincount(self._leaf, self._share * all_met, len(pattern))
        self.row_bytes = self.pairs * 8

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player."""
        held = patterns(bits, self._slots)
        for i in range(len(bits)):
            given = self._given(held[i]) * self._factor
            self._sums.add(given.reshape(1, -1), out[i : i + 1])

    def _given(self, held: Array) -> Array:
        """What the leaves give to their players, (d, leaves), for one row with patterns `held`."""
        full = (1 << self._d) - 1
        count = len(held)
        # Where one condition of a leaf holds for neither, nobody gets anything: nearly everywhere.
        p = held.take(self._leaf)
        met = np.flatnonzero((p | self._pattern) == full)
        leaf = self._leaf.take(met)
        gained = p.take(met) & ~self._pattern.take(met)
        # Together p and q are all players, so B is what p lacks, whatever the q: one sum for each
        # leaf.
        lacked = ~held & full
        a = np.bitwise_count(gained)
        b = np.bitwise_count(lacked).take(leaf)
        share = self._share.take(met)
        up = self._gain[a, b] * share
        losses = self._loss[a, b] * share
        down = np.bincount(leaf, losses, count)
        given = np.empty((self._d, count))
        for j in range(self._d):
            gains = ((gained >> j) & 1) * up
            losses = ((lacked >> j) & 1) * down
            given[j] = np.bincount(leaf, gains, count) + losses
        return given


def _distinct(group: LeafGroup, most: int) -> tuple[list[Array], list[Array]]:
    """For each leaf the distinct patterns of the background, and the share of each.

    Raises TooDeepError if there are more than `most` in all.
    """
    pattern = []
    share = []
    pairs = 0
    for _, found in group.background.patterns(group.slots, 1):
        for column in found.T:
            distinct, counts = np.unique(column, return_counts=True)
            pattern.append(distinct)
            share.append(counts / len(found))
            pairs += len(distinct)
        if pairs > most:
            raise TooDeepError(
                f"its leaves meet more than {most:,} background patterns, in {group.d} columns"
            )
    return pattern, share


def _pair_weights(d: int) -> tuple[Array, Array]:
    """What a player of A, and one of B, gets of a leaf's value, by the sizes of A and B."""
    gain, loss = np.zeros((2, d + 1, d + 1))
    for i in range(d + 1):
        for j in range(d + 1 - i):
            orders = factorial(i + j)
            if i:
                gain[i, j] = factorial(i - 1) * factorial(j) / orders
            if j:
                loss[i, j] = -factorial(i) * factorial(j - 1) / orders
    return gain, loss

r"""Exact interventional Shapley values of a sum of leaves, from one table for each leaf.

A player is a raw column, and d the number of players on the way to a leaf. For a row x and a
background row z, let p and q be the sets of players whose conditions x and z meet on this way, A =
p \ q and B = q \ p. Where p and q together are not all players, the leaf contributes nothing; else
a player of A gets v (|A|-1)! |B|! / (|A|+|B|)!, one of B gets -v |A|! (|B|-1)! / (|A|+|B|)!, all
others nothing, where v is the value of the leaf. That is the Shapley value of the game "the leaf is
reached by x on a coalition and z elsewhere".

Let r be the players that q lacks. Then p and q are all players where r is within p, and A = r, |B|
= d - |p|. Summed over the background, there is a number u for each p, the potential, of which the
gain phi_j of a player j of p is a difference:

    u(p) = share(0) (1/(d-1) + ... + 1/(d-|p|))
           + sum of share(r) (|r|-1)! c! / (|r|+c)! over the other r within p
    phi_j = v (u(p) - u(p \ j) + l)

Here share(r) is the share of the background that lacks r, and c = d - |p| - 1; where p is all
players, c = 0 and 1/0 is left out. l, which every player gets, makes the sum right: v, if p is all
players, less v times the share of the background that reaches the leaf. So a row looks up d + 1
numbers, whatever the size of the background.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial
from typing import Protocol

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.explain.ensemble import Leaves
from modelkit.explain.patterns import Background, LeafGroup, PlayerSums, Tests, patterns
from modelkit.explain.time_limit import current_call

# Players from which tables are of single precision, which graphs compute in as well.
SINGLE_PRECISION = 7
# Players up to which phi itself is kept, d numbers for each p: faster, while it is small.
MOST_SPREAD = 7
MOST_PLAYERS = 16
MOST_BITS = 62
MOST_PAIRS = 20_000_000
MOST_BYTES = 256 << 20
# Of a gather at once: it stays in the cache, and other threads get the interpreter in between.
BLOCK_BYTES = 2 << 20


class _Table(Protocol):
    """The table of a group of leaves.

    `reached` (leaves,) is the share of the background that reaches each leaf. `bytes` is the size
    of the table, `pairs` the number of patterns it keeps, and `row_bytes` what one row takes.
    """

    reached: Array
    row_bytes: int
    bytes: int
    pairs: int

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player to `out`, (n, players, outputs)."""


class LeafTable:
    """Tables of an ensemble for one background.

    Leaves of up to 16 players get tables, of at most 256 MB in all; deeper ones are compared with
    the distinct patterns of the background.

    Args:
        leaves: the ensemble.
        players: the player of each column that the ensemble reads.
        background: (m, columns) rows as the ensemble reads them.

    Raises:
        TooDeepError: if there are too many patterns.
    """

    def __init__(self, leaves: Leaves, players: Array, background: Array) -> None:
        self._players = int(players.max(initial=-1)) + 1
        self._outputs = leaves.values.shape[1]
        self._tests = Tests(leaves, players)
        deepest = int(self._tests.players.max(initial=0))
        if deepest > MOST_BITS:
            raise TooDeepError(f"its leaves have up to {deepest} columns (at most {MOST_BITS})")
        met = Background(self._tests, background)
        self.base = leaves.base.copy()
        self._groups: list[_Table] = []
        room = MOST_BYTES
        pairs = MOST_PAIRS
        for d in np.unique(self._tests.players).tolist():
            group = LeafGroup(self._tests, d, leaves.values, met)
            table = _table_of(group, room, pairs)
            self._groups.append(table)
            self.base += table.reached @ group.values
            room -= table.bytes
            pairs -= table.pairs

    def explain(self, rows: Array) -> Array:
        """Shapley values (n, players, outputs) of rows as the ensemble reads them.

        Raises DeadlineExceeded where the explanation under way has no more time.
        """
        out = np.zeros((len(rows), self._players, self._outputs))
        widest = max((group.row_bytes for group in self._groups), default=1)
        step = max(1, BLOCK_BYTES // max(widest, 1))
        for start in range(0, len(rows), step):
            current_call()
            some = slice(start, start + step)
            bits = self._tests.run(rows[some]).astype(np.int16)
            for group in self._groups:
                group.add(bits, out[some])
        return out


def _table_of(group: LeafGroup, room: int, pairs: int) -> _Table:
    """The table of a group within `room` bytes, or of at most `pairs` patterns."""
    kind = _Spread if group.d <= MOST_SPREAD else _Potential
    size = len(group) * kind.bytes_for(group.d)
    if group.d <= MOST_PLAYERS and size <= room:
        return kind(group)
    return PatternPairs(group, pairs)


class _Spread:
    """Leaves of few players: what each of these gets, for every pattern of a row."""

    pairs = 0

    def __init__(self, group: LeafGroup) -> None:
        d = group.d
        self.row_bytes = len(group) * max(d, 1) * 8
        self.reached = np.empty(len(group))
        self._slots = group.slots
        self._offset = np.arange(len(group)) << d
        self._sums = PlayerSums(group, by_player=False)
        kind = np.float64 if d < SINGLE_PRECISION else np.float32
        table = np.empty((len(group), 1 << d, d), kind)
        for part, u, reached in _potentials(group):
            self.reached[part] = reached
            given = _spread_gains(u, reached, d) * group.factor[part]
            table[part] = given.transpose(2, 1, 0)
        self._table = table.reshape(len(group) << d, d)
        self.bytes = table.nbytes

    @staticmethod
    def bytes_for(d: int) -> int:
        """The size of the table of a leaf."""
        return d * (8 if d < SINGLE_PRECISION else 4) << d

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player."""
        if self._table.size:
            at = patterns(bits, self._slots) + self._offset
            given = self._table.take(at, axis=0, mode="clip")
            self._sums.add(given.reshape(len(bits), -1), out)


def _spread_gains(u: Array, reached: Array, d: int) -> Array:
    """What each player gets of a leaf of value 1, (d, 2^d, leaves); all together what is right."""
    gains = _gains(u, d)
    rest = -reached - gains.sum(axis=0)
    rest[-1] += 1
    return np.asarray(gains + rest / max(d, 1))


def _gains(u: Array, d: int) -> Array:
    r"""The differences u(p) - u(p \ j) as (d, 2^d, leaves), for every player j."""
    return np.asarray(u - u[np.arange(1 << d) & ~(1 << np.arange(d))[:, None]])


class _Potential:
    """Leaves of more players: u of every pattern of a row, in single precision."""

    pairs = 0

    def __init__(self, group: LeafGroup) -> None:
        self._d = group.d
        self.row_bytes = len(group) * group.d * 8
        self.reached = np.empty(len(group))
        self._slots = group.slots
        self._offset = np.arange(len(group)) << group.d
        self._sums = PlayerSums(group)
        self._factor = group.factor
        player = 1 << np.arange(group.d)
        self._others = ~player[:, None]
        table = np.empty((len(group), 1 << group.d), np.float32)
        for part, u, reached in _potentials(group):
            table[part] = (u * group.factor[part]).T
            self.reached[part] = reached
        self._table = table.reshape(-1)
        self.bytes = table.nbytes

    @staticmethod
    def bytes_for(d: int) -> int:
        """The size of the table of a leaf."""
        return 4 << d

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player."""
        p = patterns(bits, self._slots)
        given = self._gains(p + self._offset)
        all_met = p == (1 << self._d) - 1
        total = (all_met - self.reached) * self._factor
        rest = total - given.sum(axis=1)
        each = (rest / self._d).astype(np.float32)
        given += each[:, None]
        self._sums.add(given.reshape(len(bits), -1), out)

    def _gains(self, at: Array) -> Array:
        """The gains u(p) - u(p without j), (n, d, leaves), from where u(p) is, (n, leaves)."""
        without = at[:, None] & self._others
        gains: Array = self._table.take(without, mode="clip")
        whole = self._table.take(at, mode="clip")
        np.subtract(whole[:, None], gains, out=gains)
        return gains


def _potentials(group: LeafGroup) -> Iterator[tuple[slice, Array, Array]]:
    """For some leaves after the other, which these are, and what the background says of them.

    Yields their slice, u (2^d, leaves), and the share (leaves,) of the background that meets all.
    """
    d = group.d
    size = 1 << d
    held = np.bitwise_count(np.arange(size)).astype(int)
    parts = [1 / i for i in range(d - 1, 0, -1)]
    harmonic = np.cumsum([0, *parts, 0])[held]
    # The factor of share(r) is the integral of t^(|r|-1) (1-t)^c from 0 to 1: so many points give
    # it exactly.
    points, weights = np.polynomial.legendre.leggauss(d // 2 + 1)
    for start, found in group.background.patterns(group.slots, size):
        share = _shares(found, size)
        reached = share[0].copy()
        share[0] = 0
        u = harmonic[:, None] * reached
        for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
            u += _at_point(share, held, t, weight)
        yield slice(start, start + found.shape[1]), u, reached


def _at_point(share: Array, held: Array, t: float, weight: float) -> Array:
    """The weighed integrand at one point, summed over the subsets of each set of `held` players."""
    d = int(held[-1])
    powers = t**held
    within = np.asarray(share * powers[:, None])
    _add_subsets(within, d)
    missing = np.maximum(d - 1 - held, 0)
    factor = weight / t * (1 - t) ** missing
    within *= factor[:, None]
    return within


def _shares(found: Array, size: int) -> Array:
    """The share of the rows (size, leaves) that lacks each set of players, from patterns."""
    count = found.shape[1]
    lacked = (found ^ (size - 1)).astype(np.intp)
    at = lacked * count + np.arange(count)
    return np.bincount(at.ravel(), minlength=count * size).reshape(size, count) / len(found)


def _add_subsets(values: Array, d: int) -> None:
    """Add to the value (2^d, leaves) of each set the values of all its subsets, in place."""
    for j in range(d):
        halves = values.reshape(-1, 2, 1 << j, values.shape[1])
        halves[:, 1] += halves[:, 0]


class TooDeepError(Exception):
    """Tables that would be too large; its text says how large."""


class PatternPairs:
    """Leaves too deep for tables: the distinct background patterns of each, with their shares.

    A row is compared with these; p, q, A and B are as above. Raises TooDeepError if there are more than `most`.
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

r"""Exact interventional Shapley values of a sum of leaves, from one table a leaf.

For a row x and a background row z, let p and q be the sets of players whose conditions x and z meet
on the way to a leaf of d players, A = p \ q and B = q \ p. Where p and q together are not all
players, the leaf contributes nothing; else a player of A gets v (|A|-1)! |B|! / (|A|+|B|)!, one of
B gets -v |A|! (|B|-1)! / (|A|+|B|)!, all others nothing. That is the Shapley value of the game "the
leaf is reached by x on a coalition and z elsewhere".

Let r be the players that q lacks. Then p and q are all players where r is within p, and A = r, |B|
= d - |p|. Summed over the background, there is a number for each p, of which the gain of a player j
of p is a difference:

    u(p) = share(0) (1/(d-1) + ... + 1/(d-|p|)) + sum of share(r) (|r|-1)! c! / (|r|+c)! over the other r within p
    phi_j = v (u(p) - u(p \ j) + l)    with c = d - |p| - 1; where p is all players, c = 0 and 1/0 is left out

l, which every player gets, makes the sum right: v, if p is all players, less v times the share of
the background that reaches the leaf. So a row looks up d + 1 numbers, whatever the size of the
background.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial

import numpy as np

from modelkit.cast import Array
from modelkit.explain.ensemble import Leaves
from modelkit.explain.patterns import Background, Members, Sum, Tests, patterns

SINGLE = 7  # players from which tables are of single precision, which graphs compute in as well
MOST_SPREAD = (
    7  # players up to which phi itself is kept, d numbers for each p: faster, while it is small
)
MOST_PLAYERS = 16
MOST_BITS = 62
MOST_PAIRS = 20_000_000
MOST_BYTES = 256 << 20
BLOCK_BYTES = (
    2 << 20
)  # of a gather at once: it stays in the cache, and other threads get the interpreter in between


class TooDeepError(Exception):
    """Tables that would be too large; its text says how large."""


class LeafTable:
    """Tables of an ensemble for one background.

    Args:
        leaves: the ensemble.
        players: the player of each column that the ensemble reads.
        background: (m, columns) rows as the ensemble reads them.

    Leaves of up to 16 players get tables, of at most 256 MB in all; deeper ones are compared with
    the distinct patterns of the background.

    Raises TooDeepError where that would be too many.
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
        self._groups: list[_Spread | _Potential | _Pairs] = []
        room, pairs = MOST_BYTES, MOST_PAIRS
        for d in np.unique(self._tests.players).tolist():
            group = self._group(Members(self._tests, d, leaves.values, met), room, pairs)
            self._groups.append(group)
            self.base += group.reached @ leaves.values[self._tests.players == d]
            room, pairs = room - group.bytes, pairs - group.pairs

    @staticmethod
    def _group(members: Members, room: int, pairs: int) -> _Spread | _Potential | _Pairs:
        kind = _Spread if members.d <= MOST_SPREAD else _Potential
        fits = members.d <= MOST_PLAYERS and len(members) * kind.bytes_for(members.d) <= room
        return kind(members) if fits else _Pairs(members, pairs)

    def explain(self, rows: Array) -> Array:
        """(n, players, outputs) Shapley values of rows as the ensemble reads them."""
        out = np.zeros((len(rows), self._players, self._outputs))
        widest = max((group.row_bytes for group in self._groups), default=1)
        step = max(1, BLOCK_BYTES // max(widest, 1))
        for start in range(0, len(rows), step):
            bits = self._tests.run(rows[start : start + step]).astype(np.int16)
            for group in self._groups:
                group.add(bits, out[start : start + step])
        return out


class _Spread:
    """Leaves of few players: what each of these gets, for every pattern of a row."""

    def __init__(self, members: Members) -> None:
        d = members.d
        self.row_bytes = len(members) * max(d, 1) * 8
        self.reached = np.empty(len(members))
        self._slots, self._offset, self._sum = (
            members.slots,
            np.arange(len(members)) << d,
            Sum(members, by_player=False),
        )
        table = np.empty((len(members), 1 << d, d), np.float64 if d < SINGLE else np.float32)
        p = np.arange(1 << d)
        for part, u, reached in _potentials(members):
            gains = np.stack([u - u[p & ~(1 << j)] for j in range(d)]) if d else u[None][:0]
            rest = -reached - gains.sum(axis=0)
            rest[-1] += 1
            self.reached[part] = reached
            table[part] = ((gains + rest / max(d, 1)) * members.factor[part]).transpose(2, 1, 0)
        self._table = table.reshape(len(members) << d, d)
        self.bytes, self.pairs = table.nbytes, 0

    @staticmethod
    def bytes_for(d: int) -> int:
        """Of the table of a leaf."""
        return d * (8 if d < SINGLE else 4) << d

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player."""
        if self._table.size:
            at = patterns(bits, self._slots) + self._offset
            self._sum.add(self._table.take(at, axis=0, mode="clip").reshape(len(bits), -1), out)


class _Potential:
    """Leaves of more players: u of every pattern of a row, in single precision."""

    def __init__(self, members: Members) -> None:
        self._d = members.d
        self.row_bytes = len(members) * members.d * 8
        self.reached = np.empty(len(members))
        self._slots, self._offset = members.slots, np.arange(len(members)) << members.d
        self._sum = Sum(members)
        self._factor = members.factor
        self._others = ~(1 << np.arange(members.d))[:, None]
        table = np.empty((len(members), 1 << members.d), np.float32)
        for part, u, reached in _potentials(members):
            table[part] = (u * members.factor[part]).T
            self.reached[part] = reached
        self._table = table.reshape(-1)
        self.bytes, self.pairs = table.nbytes, 0

    @staticmethod
    def bytes_for(d: int) -> int:
        """Of the table of a leaf."""
        return 4 << d

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player."""
        p = patterns(bits, self._slots)
        at = p + self._offset
        given = self._table.take(at[:, None] & self._others, mode="clip")
        np.subtract(self._table.take(at, mode="clip")[:, None], given, out=given)
        rest = ((p == (1 << self._d) - 1) - self.reached) * self._factor - given.sum(axis=1)
        given += (rest / self._d).astype(np.float32)[:, None]
        self._sum.add(given.reshape(len(bits), -1), out)


def _potentials(members: Members) -> Iterator[tuple[slice, Array, Array]]:
    """Of some leaves after the other: u, (2^d, leaves), and the share of the background that reaches each."""
    d, size = members.d, 1 << members.d
    held = np.bitwise_count(np.arange(size)).astype(int)
    harmonic = np.cumsum([0, *(1 / i for i in range(d - 1, 0, -1)), 0])[held]
    # The factor of share(r) is the integral of t^(|r|-1) (1-t)^c from 0 to 1: so many points give
    # it exactly.
    points, weights = np.polynomial.legendre.leggauss(d // 2 + 1)
    for start, found in members.background.patterns(members.slots, size):
        count = found.shape[1]
        at = (found ^ (size - 1)).astype(np.intp) * count + np.arange(count)
        share = np.bincount(at.ravel(), minlength=count << d).reshape(size, count) / len(found)
        reached = share[0].copy()
        share[0] = 0
        u = harmonic[:, None] * reached
        for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
            within = share * (t**held)[:, None]
            for j in range(d):
                halves = within.reshape(-1, 2, 1 << j, count)
                halves[:, 1] += halves[:, 0]
            within *= (weight / t * (1 - t) ** np.maximum(d - 1 - held, 0))[:, None]
            u += within
        yield slice(start, start + count), u, reached


class _Pairs:
    """Leaves too deep for tables: each distinct background pattern of a leaf is kept with its share of the rows.

    Raises TooDeepError where there are more than `most`.
    """

    def __init__(self, members: Members, most: int) -> None:
        self._d, self._slots, self._factor = members.d, members.slots, members.factor
        self._sum = Sum(members)
        self._gain, self._loss = _weights(members.d)
        pattern, share = [], []
        for _, found in members.background.patterns(members.slots, 1):
            for column in found.T:
                distinct, counts = np.unique(column, return_counts=True)
                pattern.append(distinct)
                share.append(counts / len(found))
            self.pairs = sum(map(len, pattern))
            if self.pairs > most:
                raise TooDeepError(
                    f"its leaves meet more than {MOST_PAIRS:,} background patterns, in {members.d} "
                    "columns"
                )
        self._leaf = np.repeat(np.arange(len(pattern)), [len(found) for found in pattern])
        self._pattern, self._share = np.concatenate(pattern), np.concatenate(share)
        full = (1 << members.d) - 1
        self.reached = np.bincount(self._leaf, self._share * (self._pattern == full), len(pattern))
        self.bytes, self.row_bytes = 0, self.pairs * 8

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player."""
        full, count = (1 << self._d) - 1, self._slots.shape[1]
        held = patterns(bits, self._slots)
        for i in range(len(bits)):
            # Where one condition of a leaf holds for neither, nobody gets anything: nearly
            # everywhere.
            p = held[i].take(self._leaf)
            met = np.flatnonzero((p | self._pattern) == full)
            leaf = self._leaf.take(met)
            gained = p.take(met) & ~self._pattern.take(met)
            # Together p and q are all players, so B is what p lacks, whatever the q: one sum for
            # each leaf.
            lacked = ~held[i] & full
            a, b = np.bitwise_count(gained), np.bitwise_count(lacked).take(leaf)
            share = self._share.take(met)
            up, down = self._gain[a, b] * share, np.bincount(leaf, self._loss[a, b] * share, count)
            given = np.empty((self._d, count))
            for j in range(self._d):
                given[j] = (
                    np.bincount(leaf, ((gained >> j) & 1) * up, count) + ((lacked >> j) & 1) * down
                )
            given *= self._factor
            self._sum.add(given.reshape(1, -1), out[i : i + 1])


def _weights(d: int) -> tuple[Array, Array]:
    """What a player of A, and one of B, gets of a leaf's value, by the sizes of A and B."""
    gain, loss = np.zeros((2, d + 1, d + 1))
    for i in range(d + 1):
        for j in range(d + 1 - i):
            if i:
                gain[i, j] = factorial(i - 1) * factorial(j) / factorial(i + j)
            if j:
                loss[i, j] = -factorial(i) * factorial(j - 1) / factorial(i + j)
    return gain, loss

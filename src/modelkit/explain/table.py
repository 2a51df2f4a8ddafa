r"""Exact interventional Shapley values of a sum of leaves, from one table a leaf.

For a row x and a background row z, let p and q be the sets of players whose conditions x and z meet on the way to a
leaf of d players, A = p \ q and B = q \ p. Where p and q together are not all players, the leaf contributes nothing;
else a player of A gets v (|A|-1)! |B|! / (|A|+|B|)!, one of B gets -v |A|! (|B|-1)! / (|A|+|B|)!, all others nothing.
That is the Shapley value of the game "the leaf is reached by x on a coalition and z elsewhere". Summed over the
background in advance, what is left for a row is to look up its p: the cost does not depend on the background's size.
"""

from __future__ import annotations

from functools import cache
from math import factorial
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.explain.ensemble import Condition, Leaves

MOST_PLAYERS = 9
MOST_BITS = 62
MOST_PAIRS = 20_000_000
MOST_BYTES = 128 << 20
BLOCK_BYTES = 2 << 20  # of a gather at once: it stays in the cache, and other threads get the interpreter in between


class TooDeepError(Exception):
    """Tables that would be too large; its text says how large."""


class LeafTable:
    """Tables of an ensemble for one background.

    Args:
        leaves: the ensemble.
        players: the player of each column that the ensemble reads.
        background: (m, columns) rows as the ensemble reads them.

    Leaves of up to 9 players get tables, of at most 128 MB in all; deeper ones are compared with the distinct patterns
    of the background.

    Raises TooDeepError where that would be too many.
    """

    def __init__(self, leaves: Leaves, players: Array, background: Array) -> None:
        self._players = int(players.max(initial=-1)) + 1
        self._outputs = leaves.values.shape[1]
        self._tests = _Tests(leaves.paths, players, leaves.dtype)
        by_size: dict[int, list[int]] = {}
        for at, slots in enumerate(self._tests.slots):
            by_size.setdefault(len(slots), []).append(at)
        self.base = leaves.base.copy()
        bits = self._tests.run(background)
        self._groups: list[_Group | _Pairs] = []
        room = MOST_BYTES
        for d, members in sorted(by_size.items()):
            size = len(members) * (1 << d) * d * _table_type(d).itemsize
            kind = _Group if d <= MOST_PLAYERS and size <= room else _Pairs
            room -= size if kind is _Group else 0
            self._groups.append(kind(d, np.array(members), self._tests, leaves.values, bits))
        pairs = sum(group.pairs for group in self._groups if isinstance(group, _Pairs))
        deepest = max(by_size, default=0)
        if pairs > MOST_PAIRS or deepest > MOST_BITS:
            raise TooDeepError(
                f"its leaves have up to {deepest} columns (at most {MOST_BITS}) and meet {pairs:,} background patterns "
                f"(at most {MOST_PAIRS:,})"
            )
        self.base += sum((group.base for group in self._groups), np.zeros(self._outputs))

    def explain(self, rows: Array) -> Array:
        """(n, players, outputs) Shapley values of rows as the ensemble reads them."""
        out = np.zeros((len(rows), self._players, self._outputs))
        widest = max((group.row_bytes for group in self._groups), default=1)
        step = max(1, BLOCK_BYTES // max(widest, 1))
        for start in range(0, len(rows), step):
            bits = self._tests.run(rows[start : start + step])
            for group in self._groups:
                group.add(bits, out[start : start + step])
        return out


class _Tests:
    """Every distinct test of the paths, evaluated for all rows at once; `slots` are those of each leaf by player."""

    def __init__(self, paths: list[tuple[Condition, ...]], players: Array, dtype: object) -> None:
        conditions: dict[Condition, int] = {}
        tests: dict[tuple[int, ...], int] = {}
        self.slots: list[list[tuple[int, int]]] = []  # of each leaf: (player, test)
        for path in paths:
            by_player: dict[int, list[int]] = {}
            for condition in path:
                number = conditions.setdefault(condition, len(conditions))
                by_player.setdefault(int(players[condition.column]), []).append(number)
            self.slots.append(
                [
                    (player, tests.setdefault(tuple(sorted(needed)), len(tests)))
                    for player, needed in sorted(by_player.items())
                ]
            )
        found = list(conditions)
        if all(len(needed) == 1 for needed in tests):  # a test is a condition: put them in one order
            found = [found[needed[0]] for needed in tests]
        self._column = np.array([c.column for c in found], np.intp)
        self._low = np.array([c.low for c in found], dtype)  # type: ignore[call-overload]
        self._high = np.array([c.high for c in found], dtype)  # type: ignore[call-overload]
        self._missing = np.array([c.missing for c in found], bool)
        self._sets = [(i, c) for i, c in enumerate(found) if c.among is not None or c.apart]
        self._joined = [(i, list(needed)) for needed, i in tests.items() if len(needed) > 1]
        self._first = np.array([needed[0] for needed in tests], np.intp)

    def run(self, rows: Array) -> Array:
        """(n, tests) of 0 and 1."""
        values = rows.take(self._column, axis=1)
        met = values <= self._high
        met &= values > self._low
        if not np.isfinite(rows).all():  # an infinity is above an open bound, though not by "low < x"
            met |= np.isneginf(values) & np.isneginf(self._low)
        for i, condition in self._sets:
            if condition.among is not None:
                met[:, i] &= np.isin(values[:, i], condition.among)
            met[:, i] &= ~np.isin(values[:, i], condition.apart)
        if np.isnan(rows).any():
            met = np.where(np.isnan(values), self._missing, met)
        bits = met if not self._joined else met.take(self._first, axis=1)
        for i, needed in self._joined:
            bits[:, i] = met[:, needed].all(axis=1)
        packed: Array = bits.astype(np.int16)
        return packed


class _Group:
    """The leaves that have d players each."""

    def __init__(self, d: int, members: Array, tests: _Tests, values: Array, background: Array) -> None:
        self._d = d
        self._slots = np.array([[test for _, test in tests.slots[i]] for i in members], np.intp).reshape(
            len(members), d
        )
        players = np.array([[player for player, _ in tests.slots[i]] for i in members], np.intp).reshape(
            len(members), d
        )
        self._offset = np.arange(len(members)) << d
        values = values[members]
        pattern = _patterns(background, self._slots) + self._offset
        share = np.bincount(pattern.ravel(), minlength=len(members) << d).reshape(len(members), 1 << d) / len(
            background
        )
        self.base = share[:, -1] @ values
        kernel = _kernel(d)
        table = (share @ kernel.transpose(1, 0, 2).reshape(1 << d, -1)).reshape(-1, d) if d else np.zeros((0, 0))
        self._one = values.shape[1] == 1
        if self._one:
            table = table * np.repeat(values[:, 0], 1 << d)[:, None]
        self._table = np.ascontiguousarray(table, _table_type(d))
        self.row_bytes = len(members) * max(d, 1) * 8
        # Slots in the order of their players, so that a player's share is one contiguous sum.
        self._order = np.argsort(players.ravel(), kind="stable")
        ordered = players.ravel()[self._order]
        self._present, self._starts = np.unique(ordered, return_index=True)
        self._leaf_values = np.repeat(values, d, axis=0)[self._order] if not self._one else None

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player."""
        if not self._d:
            return
        at = _patterns(bits, self._slots) + self._offset
        # take, since an index in brackets is four times as slow here
        found = self._table.take(at, axis=0).reshape(len(bits), -1).take(self._order, axis=1)
        if self._one:
            out[:, self._present, 0] += np.add.reduceat(found, self._starts, axis=1, dtype=np.float64)
            return
        assert self._leaf_values is not None  # noqa: S101 - for the type checker
        for k in range(out.shape[2]):
            out[:, self._present, k] += np.add.reduceat(found * self._leaf_values[:, k], self._starts, axis=1)


class _Pairs:
    """Leaves too deep for tables: each distinct background pattern of a leaf is kept with its share of the rows."""

    def __init__(self, d: int, members: Array, tests: _Tests, values: Array, background: Array) -> None:
        self._d, self._values = d, values[members]
        self._slots = np.array([[test for _, test in tests.slots[i]] for i in members], np.intp)
        self._players = np.array([[player for player, _ in tests.slots[i]] for i in members], np.intp)
        patterns = _patterns(background, self._slots)
        full = (1 << d) - 1
        self.base = (patterns == full).mean(axis=0) @ self._values
        leaf, pattern, share = [], [], []
        for at in range(len(members)):
            found, counts = np.unique(patterns[:, at], return_counts=True)
            leaf.append(np.full(len(found), at))
            pattern.append(found)
            share.append(counts / len(background))
        self._leaf, self._pattern, self._share = map(np.concatenate, (leaf, pattern, share))
        self._counts = np.array([len(found) for found in pattern], np.intp)
        self._gain, self._loss = _weights(d)
        self.pairs = len(self._leaf)
        self.row_bytes = self.pairs * 8

    def add(self, bits: Array, out: Array) -> None:
        """Add what these leaves give to each player."""
        full = (1 << self._d) - 1
        patterns = _patterns(bits, self._slots)
        for i in range(len(bits)):
            # Where one condition of a leaf holds for neither, nobody gets anything: nearly everywhere.
            p = patterns[i].repeat(self._counts)
            met = np.flatnonzero((p | self._pattern) == full)
            leaf, count = self._leaf.take(met), len(self._slots)
            gained = p.take(met) & ~self._pattern.take(met)
            # Together p and q are all players, so B is what p lacks, whatever the q: one sum for each leaf.
            lacked = ~patterns[i] & full
            a, b = np.bitwise_count(gained), np.bitwise_count(lacked).take(leaf)
            share = self._share.take(met)
            up, down = self._gain[a, b] * share, np.bincount(leaf, self._loss[a, b] * share, count)
            for j in range(self._d):
                given = np.bincount(leaf, ((gained >> j) & 1) * up, count) + ((lacked >> j) & 1) * down
                for k in range(out.shape[2]):
                    out[i, :, k] += np.bincount(self._players[:, j], given * self._values[:, k], out.shape[1])


def _patterns(bits: Array, slots: Array) -> Array:
    """Of each row and leaf, the tests that hold, as the bits of a number."""
    d = slots.shape[1]
    kind = np.dtype(np.int16 if d < 15 else np.int32 if d < 31 else np.int64)
    out = np.zeros((len(bits), len(slots)), kind)
    for j in range(d):
        bit = bits.take(slots[:, j], axis=1).astype(kind, copy=False)
        out |= np.left_shift(bit, kind.type(j), out=bit)
    return out


def _table_type(d: int) -> np.dtype[Any]:
    """Large tables are of single precision, which the graph computes in as well."""
    return np.dtype(np.float64 if d < 7 else np.float32)


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


@cache
def _kernel(d: int) -> Array:
    """The weight of player j for patterns p and q, as (2^d, 2^d, d)."""
    patterns = np.arange(1 << d)
    p, q = patterns[:, None], patterns[None, :]
    a, b = np.bitwise_count(p & ~q), np.bitwise_count(q & ~p)
    full = (p | q) == (1 << d) - 1
    gain, loss = _weights(d)
    out = np.zeros((1 << d, 1 << d, d))
    for j in range(d):
        in_p, in_q = (p >> j) & 1, (q >> j) & 1
        out[:, :, j] = np.where(full & (in_p > in_q), gain[a, b], 0) + np.where(full & (in_q > in_p), loss[a, b], 0)
    return out

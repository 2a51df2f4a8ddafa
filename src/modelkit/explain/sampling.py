"""Shapley values of any function of rows: exact by enumeration, or sampled along random orders.

Everything here is a function of arrays. A player is a raw column. `ask(masks, rows)` answers for
coalitions of players: a mask says which players come from the explained row, and `rows` which
background row the others come from.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np

from modelkit._internal.arrays import Array

# From masks (m, players) of bool and background rows (m,) to answers (m, k).
AskCoalitions = Callable[[Array, Array], Array]


def only_player(at_background: Array, served: Array) -> tuple[Array, Array]:
    """Exact values (1, k) and base (k,) of a model of one column, from its answers alone."""
    base = at_background.mean(axis=0)
    return (served - base)[None], base


def enumerate_all(ask: AskCoalitions, players: int, background: int) -> tuple[Array, Array]:
    """Exact values (players, k) and base (k,), from all coalitions on all background rows."""
    coalitions = (np.arange(1 << players)[:, None] >> np.arange(players)) & 1 == 1
    masks = np.repeat(coalitions, background, axis=0)
    rows = np.tile(np.arange(background), len(coalitions))
    answers = ask(masks, rows).reshape(len(coalitions), background, -1)
    worth = answers.mean(axis=1)
    values = [_share_of(j, coalitions, worth) for j in range(players)]
    return np.array(values), worth[0]


def _share_of(player: int, coalitions: Array, worth: Array) -> Array:
    """The Shapley value (k,) of one player, from the worth (2^players, k) of all coalitions."""
    players = coalitions.shape[1]
    without = np.flatnonzero(~coalitions[:, player])
    sizes = coalitions[without].sum(axis=1)
    ways = np.array([comb(players - 1, size) for size in sizes])
    weight = 1 / (players * ways)
    gain = worth[without | (1 << player)] - worth[without]
    return np.asarray(weight @ gain)


def draw_orders(players: int, background: int, number: int, seed: int) -> tuple[Array, Array]:
    """Draw one pass over the background.

    Returns the ranks (background, players) of the players in a random order for each row, and the
    background rows in random order. A pass depends on its number and the seed alone, so a longer
    run begins with a shorter one.
    """
    rng = np.random.default_rng((seed, number))
    order = rng.permuted(np.tile(np.arange(players), (background, 1)), axis=1)
    return np.argsort(order, axis=1), rng.permutation(background)


def coalitions(ranks: Array) -> Array:
    """The masks of walks along orders, each forwards and then backwards.

    Args:
        ranks: (pairs, players) of the players in each order.

    Returns:
        (pairs * 2 * (players - 1), players) of bool.
    """
    players = ranks.shape[1]
    ranks = ranks.astype(np.int32)[:, None, :]
    steps = np.arange(1, players, dtype=np.int32)[None, :, None]
    forwards = ranks < steps
    backwards = ranks >= players - steps
    return np.stack([forwards, backwards], axis=1).reshape(-1, players)


def gains(inner: Array, ranks: Array, starts: Array, end: Array) -> Array:
    """What each player changes, as the mean of its step forwards and its step backwards.

    Args:
        inner: answers for `coalitions(ranks)`.
        ranks: (pairs, players) of the players in each order.
        starts: (pairs, k) answers for the background rows that the walks start from.
        end: (k,) the answer for the explained row, where they end.

    Returns:
        (pairs, players, k).

    Strumbelj and Kononenko (2014) with antithetic orders.
    """
    pairs, players = ranks.shape
    path = np.empty((pairs, 2, players + 1, len(end)))
    path[:, :, 0] = starts[:, None]
    path[:, :, -1] = end
    path[:, :, 1:-1] = inner.reshape(pairs, 2, players - 1, -1)
    steps = np.diff(path, axis=2).reshape(-1, len(end))
    # Forwards, the player of rank t makes step t; backwards, the one of rank players - 1 - t does.
    starts_at = np.arange(pairs) * 2 * players
    at = starts_at[:, None] + ranks
    forwards = steps.take(at, axis=0)
    at_backwards = at + 2 * (players - ranks) - 1
    backwards = steps.take(at_backwards, axis=0)
    return np.asarray((forwards + backwards) / 2)


class Estimates:
    """Sums of estimates (players, k), by the background row that each comes from."""

    def __init__(self, background: int, players: int, outputs: int) -> None:
        self._sums, self._squares = np.zeros((2, background, players, outputs))
        self.times = np.zeros(background, np.intp)

    def add(self, rows: Array, estimates: Array) -> None:
        """Add estimates (m, players, k) from m different background rows."""
        self._sums[rows] += estimates
        self._squares[rows] += estimates**2
        self.times[rows] += 1

    def result(self) -> tuple[Array, Array]:
        """The mean (players, k) and its standard error.

        After several whole passes only the orders are random, because every background row counts
        equally. The error is then the error of a stratified mean, from the variances within rows.
        Otherwise it comes from the variance between all estimates, which is larger, since rows
        differ.
        """
        pairs = int(self.times.sum())
        times = int(self.times.max())
        mean = self._sums.sum(axis=0) / pairs
        if times > 1 and times == self.times.min():
            squares = (self._squares - self._sums**2 / times).sum(axis=0)
            within = squares / (times - 1)
            spread = within / (pairs * len(self.times))
        else:
            squares = self._squares.sum(axis=0) - pairs * mean**2
            # One estimate says nothing of its error.
            spread = squares / ((pairs - 1) * pairs) if pairs > 1 else np.full_like(mean, np.inf)
        return mean, np.sqrt(np.maximum(spread, 0))

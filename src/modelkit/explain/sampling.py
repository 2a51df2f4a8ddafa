"""Shapley values of any function of rows: exact by enumeration, or sampled along antithetic permutations.

Everything here is a function of arrays: `ask(masks, rows)` answers for coalitions, where a mask says which players
come from the explained row and `rows` which background row the others come from.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np

from modelkit.cast import Array

Ask = Callable[[Array, Array], Array]  # ((m, players) of bool, (m,) background rows) -> (m, outputs)
MOST_ENUMERATED = 12


def enumerate_all(ask: Ask, players: int, background: int) -> tuple[Array, Array]:
    """Exact values (players, outputs) and base (outputs,), from every coalition on every background row."""
    coalitions = (np.arange(1 << players)[:, None] >> np.arange(players)) & 1 == 1
    masks = np.repeat(coalitions, background, axis=0)
    rows = np.tile(np.arange(background), len(coalitions))
    worth = ask(masks, rows).reshape(len(coalitions), background, -1).mean(axis=1)
    sizes = coalitions.sum(axis=1)
    values = []
    for j in range(players):
        without = np.flatnonzero(~coalitions[:, j])
        weight = 1 / (players * np.array([comb(players - 1, s) for s in sizes[without]]))
        values.append(weight @ (worth[without | (1 << j)] - worth[without]))
    return np.array(values), worth[0]


def draw(players: int, background: int, pairs: int, seed: int) -> tuple[Array, Array]:
    """Ranks (pairs, players) of random orders, and a background row for each: each row as often as the others."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(players), (pairs, 1)), axis=1)
    passes = [rng.permutation(background) for _ in range(-(-pairs // background))]
    return np.argsort(order, axis=1), np.concatenate(passes)[:pairs]


def sample(ask: Ask, ranks: Array, rows: Array, at_row: Array, at_background: Array) -> tuple[Array, Array, Array]:
    """Values and their standard errors (players, outputs), and the base (outputs,).

    Each pair walks one random order forwards and the same order backwards, from its background row to the explained
    one, and gives each player the mean of what it changes. `at_row` is f of the explained row, `at_background` (m,
    outputs) f of the background. Strumbelj and Kononenko (2014) with antithetic orders and a stratified background.
    """
    pairs, players = ranks.shape
    steps = np.arange(1, players)[None, :, None]
    forward = ranks[:, None, :] < steps
    backward = ranks[:, None, :] >= players - steps
    masks = np.stack([forward, backward], axis=1).reshape(-1, players)
    inner = ask(masks, np.repeat(rows, 2 * (players - 1))).reshape(pairs, 2, players - 1, -1)
    outputs = inner.shape[-1]
    ends = np.broadcast_to(at_row, (pairs, 2, 1, outputs))
    starts = np.broadcast_to(at_background[rows][:, None, None, :], (pairs, 2, 1, outputs))
    gains = np.diff(np.concatenate([starts, inner, ends], axis=2), axis=2)
    # Forwards, the player of rank t makes step t; backwards, the one of rank players - 1 - t does.
    index = np.broadcast_to(ranks[:, :, None], (pairs, players, outputs))
    estimates = (
        np.take_along_axis(gains[:, 0], index, axis=1) + np.take_along_axis(gains[:, 1], players - 1 - index, axis=1)
    ) / 2
    spread = estimates.std(axis=0, ddof=1) / np.sqrt(pairs) if pairs > 1 else np.full(estimates.shape[1:], np.inf)
    return estimates.mean(axis=0), spread, at_background[rows].mean(axis=0)

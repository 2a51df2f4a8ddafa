"""Wealth does not grow where nothing changed, in simulation."""

import numpy as np
from helpers.streams import rng

from modelkit.drift import limits
from modelkit.drift.cells import CELLS
from modelkit.drift.ranks import bets_on_rows, gains, rank_rows
from modelkit.stats.evidence import Evidence


def test_wealth_does_not_grow_where_nothing_changed():
    """E[wealth] is at most one, for both kinds of evidence, at a stop of one's choice; 4 standard errors allowed."""
    lanes, law = 3000, np.full(16, 1 / 16)
    draw = rng(7)
    counts = np.zeros((lanes, CELLS), np.int64)
    counts[:, :16] = draw.multinomial(200, law, lanes)
    changed = Evidence(lanes, bets_on_rows()[1])
    for _ in range(12):
        cells = draw.integers(16, size=(1, 32, lanes)).astype(np.uint8)
        slots, _ = rank_rows(counts, cells, draw.random(cells.shape))
        logs = gains(slots, bets_on_rows()[0])[0]
        changed.step(logs, np.exp(logs), np.array(32))
        stopped = np.where(changed.peak > 2, np.minimum(changed.peak, 50), changed.value)
        assert changed.value.mean() <= 1 + 4 * changed.value.std() / lanes**0.5
    assert (changed.peak >= 20).mean() <= 0.05 + 4 * (0.05 / lanes) ** 0.5
    assert stopped.min() > 0
    even = np.full(16, 1000)
    pays, weights = limits.band_bets(even, limits.band(even, 0.0, 0.01))
    material = Evidence(lanes, weights)
    for _ in range(12):
        logs = draw.multinomial(128, law, lanes) @ pays
        material.step(logs, np.exp(logs), np.array(128))
    assert material.value.mean() <= 1 + 4 * material.value.std() / lanes**0.5

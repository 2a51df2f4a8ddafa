"""How often bounds and intervals of losses hold, in simulation."""

import numpy as np
import pytest
from helpers.calibrated import peak_of
from scipy import stats

from modelkit.stats.betting import ConfidenceSequence
from modelkit.stats.intervals import mean_bound


@pytest.mark.parametrize("binary", [True, False])
def test_the_bound_is_rarely_too_low(binary):
    rng = np.random.default_rng(0)
    losses = rng.random((2000, 100)) < 0.1 if binary else rng.beta(1, 9, (2000, 100))
    bounds = [
        mean_bound(100, x.sum(), (x**2).sum(), 0.05, binary=binary) for x in losses.astype(float)
    ]
    below = int((np.array(bounds) < 0.1).sum())
    assert stats.binomtest(below, 2000, 0.05, alternative="greater").pvalue > 1e-3
    assert np.mean(bounds) < 0.25


def test_false_alarms_are_rarer_than_alpha_even_at_the_bound_itself():
    rng = np.random.default_rng(1)
    alarms = sum(peak_of(0.11, 0.11, rng, 2000) >= 10 for _ in range(300))
    assert stats.binomtest(alarms, 300, 0.1, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("kind", ["rare", "even", "beta", "none"])
def test_the_intervals_hold_the_mean_all_together(kind):
    rng = np.random.default_rng(3)
    mean = {"rare": 0.02, "even": 0.5, "beta": 0.2, "none": 0.0}[kind]
    missed = 0
    for _ in range(200):
        losses = rng.beta(1, 4, 500) if kind == "beta" else (rng.random(500) < mean).astype(float)
        sequence = ConfidenceSequence(0.1)
        for start in range(0, 500, 25):
            sequence.update(losses[start : start + 25])
            interval = sequence.interval()
            if interval is None or not interval[0] <= mean <= interval[1]:
                missed += 1
                break
    assert stats.binomtest(missed, 200, 0.1, alternative="greater").pvalue > 1e-3

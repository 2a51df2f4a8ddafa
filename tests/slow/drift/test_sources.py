"""How often bets on losses err, in simulation."""

import numpy as np
from helpers.calibrated import peak_of
from scipy import stats


def test_false_alarms_are_rarer_than_alpha_even_at_the_bound_itself():
    rng = np.random.default_rng(1)
    alarms = sum(peak_of(0.11, 0.11, rng, 2000) >= 10 for _ in range(300))
    assert stats.binomtest(alarms, 300, 0.1, alternative="greater").pvalue > 1e-3

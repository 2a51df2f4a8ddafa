"""How often a confidence sequence holds, in simulation."""

import numpy as np
import pytest
from scipy import stats

from modelkit.stats.betting import ConfidenceSequence


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

"""How often bounds hold, in simulation."""

import numpy as np
import pytest
from scipy import stats

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

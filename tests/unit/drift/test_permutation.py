"""The p-values of the units of one call are exact for all features together."""

import numpy as np
import pytest
from helpers.units import kept, some_units

from modelkit.drift.batch import permuted


@pytest.mark.parametrize("k", [1, 3])
def test_p_values_of_a_call_are_exact_for_all_features_together(k):
    rng = np.random.default_rng(k)
    smallest = []
    for seed in range(400):
        shares = some_units(rng, 19 + k, 4)
        used = np.ones(4, bool)
        p, _, _ = permuted(kept(shares[:19]), shares[19:], [0] * k, used, alpha=0.05, seed=seed)
        smallest.append(min(p))
    for level in (0.05, 0.2):
        found = np.mean(np.array(smallest) <= level)
        assert found <= level + 4 * np.sqrt(level / 400)
        assert found >= level / 2

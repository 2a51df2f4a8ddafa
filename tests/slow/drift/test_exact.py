"""How p-values and intervals of one batch are distributed, in simulation."""

import numpy as np
import pytest
from scipy import stats

from modelkit.drift.effects import ks, row_effects, tv
from modelkit.stats.exact import exact_test


def null_p(ordered, law, n, reference_n, runs, seed):
    rng = np.random.default_rng(seed)
    return np.array(
        [
            exact_test(
                rng.multinomial(n, law),
                rng.multinomial(reference_n, law),
                rng,
                199,
                ordered=ordered,
            )
            for _ in range(runs)
        ]
    )


def assert_superuniform(p):
    """No level is exceeded by more than chance allows: P(p <= a) <= a, at a binomial p-value of 1e-4."""
    for a in (0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9):
        assert (
            stats.binomtest(int((p <= a + 1e-12).sum()), len(p), a, alternative="greater").pvalue
            > 1e-4
        ), a


@pytest.mark.parametrize("ordered", [True, False])
def test_p_values_are_uniform_where_nothing_changed(ordered):
    p = null_p(ordered, np.full(40, 1 / 40), 100, 500, 2000, 1)
    assert_superuniform(p)
    assert stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    "law", [np.array([0.97, 0.02, 0.01]), 1 / np.arange(1, 51) / (1 / np.arange(1, 51)).sum()]
)
def test_ties_and_rare_cells_never_make_p_values_too_small(ordered, law):
    assert_superuniform(null_p(ordered, law, 60, 80, 2000, 2))


@pytest.mark.parametrize("n", [200, 5000])
@pytest.mark.parametrize("slope", [0, 0.3])
def test_intervals_hold_the_truth(n, slope):
    rng = np.random.default_rng(5)
    law = np.full(20, 1 / 20)
    changed = law * (1 + slope * np.linspace(-1.7, 1.7, 20))
    truth = {"ks": ks(changed, law), "tv": tv(changed, law)}
    inside = dict.fromkeys(truth, 0)
    for _ in range(200):
        sides = rng.multinomial(n, changed), rng.multinomial(5000, law)
        for effect in row_effects(*sides, ordered=True):
            inside[effect.name] += (
                effect.low <= truth[effect.name] + 1e-12 and truth[effect.name] <= effect.high
            )
    assert all(held >= 180 for held in inside.values()), inside

"""Tests of many at once, of rows that are right or wrong, and by resampling: scipy, and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from modelkit.stats.influence import mean_of, standard_error
from modelkit.stats.intervals import student
from modelkit.stats.tests import bootstrap, holm, mcnemar, tango, tango_interval

counts = st.integers(0, 60)


@settings(max_examples=examples(200))
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_adjusted_p_values_are_those_of_holms_procedure(p):
    """The least level at which a test is rejected: as long as those before it are, each at its own share."""
    p = np.array(p)
    expected = np.empty(len(p))
    level = 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        level = max(level, (len(p) - rank) * p[place])
        expected[place] = min(level, 1)
    np.testing.assert_array_equal(holm(p), expected)
    assert (holm(p) >= p).all()


@given(counts, counts)
def test_mcnemar_is_the_binomial_test(better, worse):
    expected = (
        stats.binomtest(better, better + worse, 0.5, "greater").pvalue if better + worse else 1.0
    )
    assert mcnemar(better, worse) == pytest.approx(expected, rel=1e-9)


@given(counts, counts, st.integers(1, 200))
def test_tango_at_no_difference_is_mcnemars_z(better, worse, same):
    z = float(tango(better, worse, better + worse + same, 0.0))
    expected = (better - worse) / np.sqrt(better + worse) if better + worse else 0.0
    assert z == pytest.approx(expected, abs=1e-9)


def score_of(better, worse, n, bound):
    """Tango's z from its definition: the likelihood is maximised numerically, given the difference."""

    def unlikely(q):
        gained = q + bound
        return -(
            special.xlogy(better, gained)
            + special.xlogy(worse, q)
            + special.xlogy(n - better - worse, 1 - gained - q)
        )

    low = max(0.0, -bound) + 1e-12
    high = (1 - bound) / 2 - 1e-12
    q = optimize.minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    return (better - worse - n * bound) / np.sqrt(n * (2 * q + bound * (1 - bound)))


@pytest.mark.parametrize(
    ("better", "worse", "n"), [(7, 1, 21), (12, 2, 50), (40, 38, 1000), (3, 0, 30), (0, 5, 44)]
)
@pytest.mark.parametrize("bound", [-0.2, -0.01, 0.01, 0.1])
def test_tango_is_the_score_of_the_constrained_likelihood(better, worse, n, bound):
    assert float(tango(better, worse, n, bound)) == pytest.approx(
        score_of(better, worse, n, bound), abs=2e-4
    )


def test_the_interval_of_tango_is_the_published_one():
    # Airway hyper-responsiveness, Fagerland, Lydersen and Laake (2014), table VII.
    low, high = tango_interval(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@given(counts, counts, st.integers(1, 200))
def test_exchanging_the_models_turns_the_interval(better, worse, same):
    n = better + worse + same
    low, high = tango_interval(better, worse, n)
    assert -1 <= low <= (better - worse) / n <= high <= 1
    assert tango_interval(worse, better, n) == pytest.approx((-high, -low), abs=1e-9)


def test_tango_takes_many_slices_at_once():
    better = np.array([3, 0, 7])
    n = np.array([50, 0, 90])
    many = tango(better, [1, 0, 9], n, -0.02)
    assert many[0] == pytest.approx(float(tango(3, 1, 50, -0.02)))
    assert many[1] == 0


def test_a_bootstrap_draws_clusters_whole():
    clusters = np.repeat(np.arange(6), 5)
    seen = []
    bootstrap(lambda times: seen.append(times) or 0.0, 30, 20, np.random.default_rng(0), clusters)
    for times in seen:
        assert all(len(set(times[clusters == each])) == 1 for each in range(6))
    assert all(times.sum() == 30 for times in seen)


def test_a_bootstrap_agrees_with_the_closed_form():
    rng = np.random.default_rng(3)
    values = rng.gamma(2, size=300)
    draws = bootstrap(lambda times: float(times @ values) / times.sum(), 300, 2000, rng)
    low, high = np.quantile(draws, (0.025, 0.975))
    part = mean_of(values, np.ones(300))
    assert (low, high) == pytest.approx(
        student(part.value, standard_error(part.influence), 300), rel=0.03
    )


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])
    assert len(holm(np.array([]))) == 0

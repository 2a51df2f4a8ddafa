"""The difference of two models: scipy, the definition, and exact bounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from scipy import special, stats

from modelkit.stats.influence import Clusters, Measured, mean_of, standard_error
from modelkit.stats.paired import (
    PairedDifference,
    RightCounts,
    difference_of,
    tail_of,
    times_needed,
)
from modelkit.stats.ranks import area_of


def slow_components(scores, positive):
    """DeLong's structural components, pair by pair."""
    ones, zeros = scores[positive], scores[~positive]
    wins = (ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)
    return wins.mean(1), wins.mean(0)


def test_delong_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    positive = rng.random(90) < 0.3
    scores = [np.round(rng.normal(positive * gain, 1), 1) for gain in (1.2, 0.8)]
    parts = [area_of(each, positive, np.ones(90)) for each in scores]
    found = difference_of(*parts)
    (a_ones, a_zeros), (b_ones, b_zeros) = (slow_components(each, positive) for each in scores)
    variance = (a_ones - b_ones).var(ddof=1) / positive.sum() + (a_zeros - b_zeros).var(ddof=1) / (
        ~positive
    ).sum()
    assert found.value == pytest.approx(a_ones.mean() - b_ones.mean(), abs=1e-12)
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_without_skewness_and_a_worst_row_it_is_the_t_test_of_scipy():
    rng = np.random.default_rng(1)
    losses = rng.gamma(2, size=(2, 40))
    ones = np.ones(40)
    found = difference_of(
        mean_of(losses[0], ones), mean_of(losses[1], ones), higher_is_better=False
    )
    added = (losses[1] - losses[0] - found.value) / 40
    assert found.third == pytest.approx(np.sum(added**3), rel=1e-9)
    found = replace(found, third=0.0)
    expected = stats.ttest_rel(losses[1], losses[0], alternative="greater")
    assert found.p_above(0.0) == pytest.approx(expected.pvalue, rel=1e-9)
    both = stats.ttest_rel(losses[1], losses[0]).confidence_interval(0.9)
    assert found.interval(0.9) == pytest.approx(tuple(both), rel=1e-7)
    assert found.exchanged().p_above(0.0) == pytest.approx(1 - found.p_above(0.0))


def test_where_nothing_can_be_told():
    one = Measured(0.3, np.zeros(1))
    alone = difference_of(one, one)
    assert alone.error is None
    assert alone.p_above(-0.1) == 1
    assert alone.interval() == (-np.inf, np.inf)
    assert standard_error(np.array([np.nan, 0.1])) is None
    assert standard_error(np.zeros(5), Clusters(np.zeros(5, int), np.array([5.0]))) is None
    same = PairedDifference(0.0, 0.0, 50)
    assert same.p_above(-0.01) == 1  # it was 2**-50
    assert same.interval() == (0.0, 0.0)
    assert replace(same, worst=np.inf).interval() == (-np.inf, np.inf)


@pytest.mark.parametrize(("worse", "n"), [(0, 200), (1, 300), (3, 1000), (12, 1000)])
def test_of_rows_that_are_right_or_wrong_it_is_nearly_the_exact_bound(worse, n):
    losses = np.repeat([1.0, 0.0], [worse, n - worse])
    ones = np.ones(n)
    found = difference_of(mean_of(losses, ones), mean_of(np.zeros(n), ones), higher_is_better=False)
    found = replace(found, units=np.inf, worst=1 / n)
    exact = special.betaincinv(worse + 1, n - worse, [0.9, 0.95, 0.99])
    p = [found.p_above(-each) for each in exact]
    assert p == pytest.approx([0.1, 0.05, 0.01], rel=0.12)


@pytest.mark.parametrize("worst", [0.0, 0.002, 0.02])
@pytest.mark.parametrize("skew", [-0.5, 0.0, 0.5])
def test_an_interval_holds_what_the_test_does_not_reject(worst, skew):
    error = 0.01
    found = PairedDifference(0.004, error, 300, skew * error**3, worst)
    low, high = found.interval(0.9)
    assert found.p_above(low) == pytest.approx(0.05, rel=1e-6)
    assert found.exchanged().p_above(-high) == pytest.approx(0.05, rel=1e-6)
    falling = [found.p_above(bound) for bound in np.linspace(-0.2, 0.1, 200)]
    assert (np.diff(falling) >= -1e-12).all()
    assert all(0 <= p <= 1 for p in falling)


def test_a_tail_is_extended_by_its_index():
    rng = np.random.default_rng(0)
    heavy = rng.pareto(1.5, 3000) + 1
    far, index = tail_of(heavy)
    assert index == pytest.approx(1.5, rel=0.25)
    assert far == pytest.approx(heavy.max() * index / (index - 1))
    far, index = tail_of(rng.normal(size=3000))
    assert index > 4
    assert tail_of(np.repeat([0.0, 1.0, -1.0], [900, 50, 50])) == (1.0, np.inf)
    assert tail_of(np.repeat([0.0, 1.0], [997, 3])) == (np.inf, 0.0)
    assert tail_of(rng.pareto(0.5, 3000))[0] == np.inf


@pytest.mark.parametrize("units", [2, 5, 2000, 1e6])
def test_units_that_are_all_alike_show_nothing(units):
    """It was 2**-units, though a row that was not drawn may be any other."""
    assert PairedDifference(1.0, 0.0, units).p_above(0.5) == 1.0
    assert PairedDifference(1.0, 0.0, units).p_above(1.0) == 1.0


def test_right_rows_take_as_many_as_the_normal_test():
    # Two-sided textbook case: sd 1, distance .1, level .05, power .8: (1.645 + .8416)^2 / .01.
    def needed(counts, distance):
        return ceil(counts.n * times_needed(counts, distance, alpha=0.05, power=0.8))

    assert needed(RightCounts(1, 0, 1), 0.1) == 619
    few = [needed(RightCounts(32, 32, 400), distance) for distance in (0.04, 0.02, 0.01)]
    assert all(a < b for a, b in pairwise(few))
    assert times_needed(RightCounts(32, 32, 400), 0.0, alpha=0.05, power=0.8) is None


def test_a_difference_of_right_rows_reaches_what_its_score_test_rejects():
    counts = RightCounts(60, 50, 2000)
    far = counts.reach(0.05)
    assert counts.p_above(counts.value - far) == pytest.approx(0.05, abs=0.003)
    assert counts.exchanged() == RightCounts(50, 60, 2000)
    assert counts.exchanged().value == -counts.value
    assert counts.p_above(-1.0) == 0.0
    assert counts.p_above(1.0) == 1.0

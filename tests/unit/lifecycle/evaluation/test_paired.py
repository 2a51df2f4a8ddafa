"""Intervals of shares and paired tests: published values, scipy, and brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from modelkit.lifecycle.evaluation.intervals import (
    Measured,
    clopper_pearson,
    corrected_error,
    effective_rows,
    standard_error,
    student,
    student_of_share,
    student_of_size,
    wilson,
)
from modelkit.lifecycle.evaluation.paired import (
    PairedDifference,
    bootstrap,
    difference_of,
    mcnemar,
    rows_needed,
    tail_of,
    tango,
    tango_interval,
)
from modelkit.lifecycle.evaluation.ranks import area_of
from modelkit.lifecycle.evaluation.sums import mean_of

Z = stats.norm.isf(0.05)
counts = st.integers(0, 60)


# Newcombe, Two-sided confidence intervals for the single proportion (1998), table I: methods 3 and 5.
@pytest.mark.parametrize(
    ("hits", "n", "by_wilson", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_intervals_of_a_share_are_the_published_ones(hits, n, by_wilson, exact):
    assert wilson(hits, n) == pytest.approx(by_wilson, abs=6e-5)
    assert clopper_pearson(hits, n) == pytest.approx(exact, abs=6e-5)


@given(counts, st.integers(1, 60), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_intervals_of_a_share_are_those_of_scipy(hits, more, level):
    n = hits + more
    test = stats.binomtest(hits, n)
    assert wilson(hits, n, level) == pytest.approx(
        tuple(test.proportion_ci(level, "wilson")), abs=1e-9
    )
    assert clopper_pearson(hits, n, level) == pytest.approx(
        tuple(test.proportion_ci(level, "exact")), abs=1e-9
    )


def test_an_interval_of_a_share_at_an_end_holds_it():
    for n in range(1, 300):
        assert wilson(0, n)[0] == 0
        assert wilson(n, n)[1] == 1


def test_a_share_of_no_rows_may_be_anything():
    assert wilson(0, 0) == (0.0, 1.0)


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


def test_rows_of_a_cluster_count_as_one():
    rng = np.random.default_rng(2)
    values = rng.normal(size=30)
    part = mean_of(values, np.ones(30))
    copied = mean_of(np.repeat(values, 4), np.ones(120))
    together = np.repeat(np.arange(30), 4)
    assert standard_error(copied.influence, together) == pytest.approx(
        standard_error(part.influence)
    )
    assert standard_error(copied.influence) < 0.6 * standard_error(part.influence)


def test_where_nothing_can_be_told():
    one = Measured(0.3, np.zeros(1))
    alone = difference_of(one, one)
    assert alone.error is None
    assert alone.p_above(-0.1) == 1
    assert alone.interval() == (-np.inf, np.inf)
    assert standard_error(np.array([np.nan, 0.1])) is None
    assert standard_error(np.zeros(5), np.zeros(5, int)) is None
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


def test_a_share_keeps_its_bounds():
    low, high = student_of_share(0.99, 0.02, 40)
    assert 0 < low < 0.99 < high < 1
    assert student_of_share(1.0, 0.0, 20) == pytest.approx(wilson(20, 20))
    low, high = student_of_size(0.1, 0.2, 40)
    assert 0 < low < 0.1 < high
    assert student_of_size(0.0, 0.0, 40) == (0.0, np.inf)
    assert student(0.0, 1.0, 11)[1] == pytest.approx(
        2.228, abs=1e-3
    )  # t table, 10 degrees of freedom


def test_rows_that_tell_as_much():
    hit = np.array([1.0, 0, 1, 1, 0, 0, 1, 0])
    assert effective_rows(hit, None, None) == 8
    assert effective_rows(hit, np.full(8, 3.0), None) == pytest.approx(8)
    assert effective_rows(hit, np.array([1.0, 1, 1, 1, 0, 0, 0, 0]), None) == pytest.approx(4)
    pairs = np.repeat(np.arange(4), 2)
    same = np.repeat([1.0, 0, 1, 0], 2)
    few = (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 3)) ** 2
    assert effective_rows(same, None, pairs) == pytest.approx(3 * few)  # 4 clusters, with G - 1
    assert effective_rows(np.ones(8), None, pairs) == 4
    assert effective_rows(hit, np.zeros(8), None) == 0


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


def test_folds_that_share_rows_are_corrected():
    values = np.array([0.8, 0.7, 0.9, 0.75, 0.85])
    expected = np.sqrt((1 / 5 + 20 / 80) * values.var(ddof=1))
    assert corrected_error(values, 20, 80) == pytest.approx(expected)
    assert corrected_error(values[:1], 20, 80) is None


def test_rows_needed_are_those_of_the_normal_test():
    # Two-sided textbook case: sd 1, distance .1, level .05, power .8: (1.645 + .8416)^2 / .01.
    assert rows_needed(1.0, 1, 0.1) == 619
    few = [rows_needed(0.02, 400, distance) for distance in (0.04, 0.02, 0.01)]
    assert all(a < b for a, b in pairwise(few))


@pytest.mark.parametrize("units", [2, 5, 2000, 1e6])
def test_units_that_are_all_alike_show_nothing(units):
    """It was 2**-units, though a row that was not drawn may be any other."""
    assert PairedDifference(1.0, 0.0, units).p_above(0.5) == 1.0
    assert PairedDifference(1.0, 0.0, units).p_above(1.0) == 1.0

"""Intervals of shares, of skew figures and of means: published values, and scipy."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelkit.stats.intervals import (
    clopper_pearson,
    corrected_error,
    effective_rows,
    exact_bounds,
    excess_interval,
    mean_bound,
    student,
    student_of_share,
    student_of_size,
    unskewed,
    wilson,
)

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


@pytest.mark.parametrize("error", [0.1, 1e-20, 1e-100, 1e-150, 1e-300])
@pytest.mark.parametrize("n", [5, 50, 300, 100_000])
def test_bounds_on_a_share_hold_it_however_small_the_error_is(n, error):
    hits = np.arange(min(n, 200) + 1)
    low, high = exact_bounds(hits, n, error)
    assert (low >= 0).all()
    assert (low <= hits / n).all()
    assert (hits / n <= high).all()
    assert (high <= 1).all()


def test_a_share_of_no_rows_may_be_anything():
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_share_keeps_its_bounds():
    low, high = student_of_share(0.99, 0.02, 40)
    assert 0 < low < 0.99 < high < 1
    assert student_of_share(1.0, 0.0, 20) == pytest.approx(wilson(20, 20))
    low, high = student_of_size(0.1, 0.2, 40)
    assert 0 < low < 0.1 < high
    assert student_of_size(0.0, 0.0, 40) == (0.0, np.inf)
    # The table of t has it, at 10 degrees of freedom.
    assert student(0.0, 1.0, 11)[1] == pytest.approx(2.228, abs=1e-3)


@pytest.mark.parametrize("skewness", [-0.8, -0.1, 0.0, 1e-9, 0.3, 1.5])
@pytest.mark.parametrize("quantile", [-2.5, -1.96, 1.96, 3.0])
def test_quantiles_of_skew_rows_are_those_of_hall(skewness, quantile):
    t = unskewed(quantile, skewness)
    back = t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6
    assert back == pytest.approx(quantile)


def test_rows_that_tell_as_much():
    hit = np.array([1.0, 0, 1, 1, 0, 0, 1, 0])
    assert effective_rows(hit, np.ones(8), None) == 8
    assert effective_rows(hit, np.full(8, 3.0), None) == pytest.approx(8)
    assert effective_rows(hit, np.array([1.0, 1, 1, 1, 0, 0, 0, 0]), None) == pytest.approx(4)
    pairs = np.repeat(np.arange(4), 2)
    same = np.repeat([1.0, 0, 1, 0], 2)
    few = (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 3)) ** 2
    assert effective_rows(same, np.ones(8), pairs) == pytest.approx(
        3 * few
    )  # 4 clusters, with G - 1
    assert effective_rows(np.ones(8), np.ones(8), pairs) == 4
    halves = np.repeat([0, 1], 6)  # both have one and the same share
    assert effective_rows(np.tile([1.0, 0.0], 6), np.ones(12), halves) == 2
    assert effective_rows(hit, np.zeros(8), None) == 0


def test_folds_that_share_rows_are_corrected():
    values = np.array([0.8, 0.7, 0.9, 0.75, 0.85])
    expected = np.sqrt((1 / 5 + 20 / 80) * values.var(ddof=1))
    assert corrected_error(values, 20, 80) == pytest.approx(expected)
    assert corrected_error(values[:1], 20, 80) is None


def test_the_bound_has_its_reference_value():
    assert mean_bound(5000, 500, 500, 0.005, binary=True) == pytest.approx(0.1114129, abs=1e-7)
    assert mean_bound(5000, 500, 500, 0.005, binary=True) == pytest.approx(
        stats.beta.isf(0.005, 501, 4500)
    )


def test_the_bernstein_bound_by_hand():
    losses = np.array([0.1, 0.4, 0.2, 0.9])
    expected = 0.4 + np.sqrt(2 * losses.var(ddof=1) * log(20) / 4) + 7 * log(20) / 9
    n = 1000  # the same, often enough for the bound to be below 1
    many = np.tile(losses, n)
    got = mean_bound(4 * n, many.sum(), (many**2).sum(), 0.1, binary=False)
    assert expected > 1
    assert mean_bound(4, losses.sum(), (losses**2).sum(), 0.1, binary=False) == 1
    wide = np.sqrt(2 * many.var(ddof=1) * log(20) / 4000) + 7 * log(20) / (3 * 3999)
    assert got == pytest.approx(0.4 + wide)


@pytest.mark.parametrize("binary", [True, False])
def test_no_losses_and_nothing_but_losses_bound_nothing(binary):
    assert mean_bound(0, 0, 0, 0.01, binary=binary) == 1
    assert mean_bound(9, 9, 9, 0.01, binary=binary) == 1


@given(st.floats(0, 1), st.floats(1, 1e6), st.floats(1, 1e6), st.floats(0.5, 0.999))
def test_the_interval_of_an_excess_holds_it_and_is_what_its_docstring_says(value, m, n, level):
    low, high = excess_interval(value, m, n, level)
    assert 0 <= low <= value <= high + 1e-12 <= 1 + 2e-12
    spread = 1 / m + 1 / n
    if low:
        assert 2 * np.exp(-2 * (value - low) ** 2 / spread) == pytest.approx(1 - level)
    if high < 1:
        error = np.sqrt(spread / 4 - high**2 / (m + n))
        assert (high - value) / error == pytest.approx(stats.norm.ppf((1 + level) / 2), rel=1e-4)


def test_the_lower_end_is_that_of_smirnovs_test_where_both_laws_are_equal():
    """So an excess is shown as often as a two-sided test of Kolmogorov and Smirnov at half the level."""
    value = 1.3581 * np.sqrt(1 / 500 + 1 / 400)
    low, _ = excess_interval(value, 500, 400)
    assert low == pytest.approx(0, abs=1e-4)

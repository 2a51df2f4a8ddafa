"""Tests from counts: p-values that are exact."""

from math import comb

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelkit.stats.exact import (
    MOST_CELLS,
    _score_of,
    exact_test,
    merged_cells,
    permutations_for,
    rate_test,
)
from modelkit.stats.tests import holm

pairs = st.integers(1, 50).flatmap(
    lambda k: st.tuples(*[st.lists(st.integers(0, 300), min_size=k, max_size=k).map(np.array)] * 2)
)
tables = st.tuples(
    *[st.tuples(st.integers(0, 80), st.integers(0, 80)).map(lambda t: (min(t), max(t)))] * 2
)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_change_gives_the_smallest_p_value_there_is(ordered):
    rng = np.random.default_rng(3)
    law = np.linspace(1, 3, 60) / np.linspace(1, 3, 60).sum()
    p = exact_test(
        rng.multinomial(2000, law), rng.multinomial(5000, law[::-1]), rng, 999, ordered=ordered
    )
    assert p == 1 / 1000


def test_p_values_agree_with_all_draws_there_are():
    batch, reference = np.array([1, 2, 5]), np.array([6, 3, 1])
    pooled = batch + reference
    n = batch.sum()
    draws = [(i, j, n - i - j) for i in range(8) for j in range(6) if 0 <= n - i - j <= 6]
    chance = stats.multivariate_hypergeom.pmf(draws, pooled, n)
    score = _score_of(pooled, n, ordered=True)
    exact = chance[score(np.array(draws)) >= score(batch[None])[0] * (1 - 1e-12)].sum()
    p = exact_test(batch, reference, np.random.default_rng(0), 20_000, ordered=True)
    assert p == pytest.approx(exact, abs=0.01)


def test_the_statistic_is_that_of_scipy():
    rng = np.random.default_rng(4)
    ours, theirs = [], []
    for shift in (0, 2, 4):
        x, y = rng.integers(0, 10, 40) + shift, rng.integers(0, 14, 70)
        batch, reference = np.bincount(x, minlength=14), np.bincount(y, minlength=14)
        kept = batch + reference > 0
        score = _score_of((batch + reference)[kept], 40, ordered=True)(batch[kept][None])[0]
        ours.append(score * 109 * (1 / 40 + 1 / 70))
        # With one draw it does not warn about its table of p-values.
        method = stats.PermutationMethod(n_resamples=1, rng=rng)
        theirs.append(stats.anderson_ksamp([x, y], variant="midrank", method=method).statistic)
    # scipy subtracts the mean, 1, and divides by a deviation that depends on the sizes of the
    # samples alone.
    deviation = (ours[0] - 1) / theirs[0]
    assert (np.array(ours) - 1) / deviation == pytest.approx(np.array(theirs))


@pytest.mark.parametrize("ordered", [True, False])
@given(pair=pairs)
@settings(max_examples=examples(30))
def test_a_p_value_is_above_0_and_at_most_1(ordered, pair):
    assert 0 < exact_test(*pair, np.random.default_rng(0), 99, ordered=ordered) <= 1


@given(pair=pairs)
@settings(max_examples=examples(30))
def test_the_order_of_unordered_cells_and_the_direction_of_ordered_ones_do_not_matter(pair):
    batch, reference = (counts[:MOST_CELLS] for counts in pair)
    kept = batch + reference > 0
    batch, reference = batch[kept], reference[kept]
    if len(batch) > 1 and batch.any():
        n, pooled = int(batch.sum()), batch + reference
        backwards = _score_of(pooled[::-1], n, ordered=True)(batch[None, ::-1])
        assert backwards == pytest.approx(
            _score_of(pooled, n, ordered=True)(batch[None]), rel=1e-9, abs=1e-9
        )


@given(pair=pairs)
def test_merging_keeps_rows_and_what_is_merged_depends_on_the_pooled_counts_alone(pair):
    batch, reference = pair
    merged_batch, merged_reference = merged_cells(batch, reference)
    assert len(merged_batch) <= MOST_CELLS
    assert (merged_batch.sum(), merged_reference.sum()) == (batch.sum(), reference.sum())
    assert (
        merged_batch + merged_reference
        == merged_cells(reference, batch)[0] + merged_cells(reference, batch)[1]
    ).all()
    assert (merged_cells(batch + reference, 0 * batch)[0] == merged_batch + merged_reference).all()


def test_a_rare_cell_at_the_end_is_not_merged():
    reference = np.array([1000] * 64 + [400])
    assert merged_cells(0 * reference, reference)[1][-1] == 400


def test_no_rows_and_one_cell_are_no_evidence():
    rng = np.random.default_rng(0)
    some, none = np.array([3, 4]), np.array([0, 0])
    for pair in ((some, none), (none, some), (none, none), (np.array([5, 0]), np.array([7, 0]))):
        assert exact_test(*pair, rng, 99, ordered=False) == 1


def test_more_rows_than_numpy_draws_from():
    rng = np.random.default_rng(0)
    reference = np.array([10**9, 10**9])
    assert exact_test(np.array([10**6, 10**6]), reference, rng, 99, ordered=False) > 0.01
    assert exact_test(np.array([10**6, 10**6 + 20_000]), reference, rng, 99, ordered=False) == 0.01


@given(st.integers(1, 500), st.sampled_from([0.001, 0.01, 0.05, 0.1]))
def test_enough_permutations_let_holm_reject(features, alpha):
    least = np.full(features, 1 / (permutations_for(features, alpha) + 1))
    assert holm(least).max() <= alpha * (1 + 1e-9)


def test_permutations_of_the_note():
    assert (
        permutations_for(20, 0.05),
        permutations_for(100, 0.05),
        permutations_for(100, 0.01),
    ) == (999, 2000, 9999)


@given(tables)
def test_the_rate_test_counts_all_tables_that_are_no_more_likely(table):
    (count, n), (other, total) = table
    marked = count + other
    ways = [comb(n, k) * comb(total, marked - k) for k in range(min(n, marked) + 1)]
    rare = [way for way in ways if way <= ways[count] * (1 + 1e-9)]
    assert rate_test(count, n, other, total) == pytest.approx(sum(rare) / sum(ways), rel=1e-9)


def test_fishers_reference_value_and_rates_worlds_apart():
    assert rate_test(8, 10, 1, 6) == pytest.approx(0.03496503, abs=1e-8)
    assert 0 < rate_test(10**6, 10**6, 0, 10**6) < 1e-300
    assert rate_test(0, 0, 3, 10) == 1

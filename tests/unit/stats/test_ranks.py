"""How well a score ranks rows, by the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelkit.stats.ranks import area_of, expected_area, largest_excess, midranks

ROWS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.4, 0.5, 0.9]), st.floats(0, 1)), min_size=1, max_size=12
)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_midranks_are_those_of_scipy(counts):
    rows = np.repeat(np.arange(len(counts)), counts)
    assert (midranks(np.array([counts, counts]))[1][rows] == stats.rankdata(rows) - 0.5).all()


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=20))
def test_the_largest_excess_is_smirnovs(rows):
    values, ours = map(np.array, zip(*rows, strict=True))
    if ours.any() and not ours.all():
        found = largest_excess(values, ours, np.ones(len(rows)))
        sides = values[ours], values[~ours]
        expected = stats.ks_2samp(*sides, "greater", method="asymp").statistic
        assert found == pytest.approx(max(expected, 0), abs=1e-12)


@given(ROWS)
def test_the_expected_area_is_that_of_all_pairs(rows):
    scores, share = map(np.array, zip(*rows, strict=True))
    wins = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    pairs = share[:, None] * (1 - share)
    if pairs.sum() > 1e-12:
        expected = (wins * pairs).sum() / pairs.sum()
        assert expected_area(scores, share) == pytest.approx(expected, abs=1e-9)


@given(ROWS)
def test_where_the_truth_is_known_the_expected_area_is_the_area(rows):
    scores, share = map(np.array, zip(*rows, strict=True))
    positive = share > 0.5
    found = expected_area(scores, positive.astype(float))
    if positive.all() or not positive.any():
        assert np.isnan(found)
    else:
        area = area_of(scores, positive, np.ones(len(scores))).value
        assert found == pytest.approx(area, abs=1e-12)

"""One batch against the reference: effect sizes whose intervals hold the truth."""

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelkit.drift.effects import ks, row_effects, tv

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.4, 0.3])

counts = st.lists(st.integers(0, 300), min_size=1, max_size=50).map(np.array)
pairs = st.integers(1, 50).flatmap(
    lambda k: st.tuples(*[st.lists(st.integers(0, 300), min_size=k, max_size=k).map(np.array)] * 2)
)


def test_distances_have_their_reference_values():
    assert ks(P, Q) == pytest.approx(0.2)
    assert tv(P, Q) == pytest.approx(0.2)


def test_ks_is_that_of_the_values_where_each_has_a_cell():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(200), rng.standard_normal(150) + 0.3
    edges = np.sort(np.concatenate([x, y]))
    p, q = (
        np.bincount(np.searchsorted(edges, values), minlength=350) / len(values)
        for values in (x, y)
    )
    assert ks(p, q) == pytest.approx(stats.ks_2samp(x, y).statistic)
    assert ks(p, q) == pytest.approx(0.0833333, abs=1e-7)


@given(pairs, st.booleans())
@settings(max_examples=examples(50))
def test_effects_are_symmetric_and_inside_their_intervals(pair, ordered):
    batch, reference = (counts + (counts.sum() == 0) for counts in pair)
    there = row_effects(batch, reference, ordered=ordered)
    back = row_effects(reference, batch, ordered=ordered)
    assert [effect.name for effect in there] == ["ks", "tv"][not ordered :]
    for one, other in zip(there, back, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-9)
        assert 0 <= one.low <= one.value <= one.high


@given(counts)
@settings(max_examples=examples(30))
def test_equal_counts_have_no_effect(same):
    same[0] += 1
    assert all(e.value == e.low == 0 for e in row_effects(same, same, ordered=True))

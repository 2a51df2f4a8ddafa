"""Bets on a band around the reference gain nothing within it."""

from math import log

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.drift import band
from modelkit.stats.evidence import Evidence


def test_the_band_has_its_reference_values():
    counts = np.full(4, 250)
    limits = band.band(counts, 0.02, 0.005)
    assert limits[:3] == pytest.approx([0.108574, 0.054287, 0.048632], abs=1e-6)
    assert [limits[3], limits[9]] == pytest.approx([0.068101, 0.064168], abs=1e-6)
    assert [limits[4], limits[10]] == pytest.approx([0.073169, 0.073169], abs=1e-6)
    pays, weights = band.band_bets(counts, limits)
    evidence, wealth = Evidence(1, weights), []
    for _ in range(3):
        logs = (np.array([5.0, 5, 10, 30]) @ pays)[None]
        evidence.step(logs, np.exp(logs), np.array([50]))
        wealth.append(log(evidence.value[0]))
    assert wealth == pytest.approx([3.057508, 10.657286, 18.539903], abs=1e-6)


@settings(max_examples=examples(40))
@given(
    st.lists(st.integers(0, 400), min_size=16, max_size=16), st.floats(0, 0.3), st.floats(1e-9, 0.5)
)
def test_bets_of_the_band_gain_nothing_at_the_reference_and_never_lose_all(
    counts, tolerance, delta
):
    counts = np.array(counts)
    pays, _ = band.band_bets(counts, band.band(counts, tolerance, delta))
    assert np.isfinite(pays).all()
    if counts.sum() >= 2:
        assert (np.exp(pays).T @ (counts / counts.sum()) <= 1 + 1e-9).all()


@given(st.lists(st.integers(1, 400), min_size=16, max_size=16), st.floats(0, 0.3))
def test_the_more_is_allowed_the_less_each_bet_pays_in_each_cell(counts, more):
    """So what an alarm has shown can only take evidence away from those after it."""
    counts = np.array(counts)
    limit = band.band(counts, 0.03, 0.01)
    assert (
        band.band_bets(counts, limit + more)[0] <= band.band_bets(counts, limit)[0] + 1e-12
    ).all()

"""Bets on a band around the reference, and on losses, gain nothing within their limits."""

from math import log

import numpy as np
import pytest
from helpers.calibrated import peak_of
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.drift import limits
from modelkit.drift.losses import LOSS_WEIGHTS, loss_bets, loss_increments
from modelkit.stats.evidence import Evidence

TEN = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1.0])


def test_the_band_has_its_reference_values():
    counts = np.full(4, 250)
    band = limits.band(counts, 0.02, 0.005)
    assert band[:3] == pytest.approx([0.108574, 0.054287, 0.048632], abs=1e-6)
    assert [band[3], band[9]] == pytest.approx([0.068101, 0.064168], abs=1e-6)
    assert [band[4], band[10]] == pytest.approx([0.073169, 0.073169], abs=1e-6)
    pays, weights = limits.band_bets(counts, band)
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
    pays, _ = limits.band_bets(counts, limits.band(counts, tolerance, delta))
    assert np.isfinite(pays).all()
    if counts.sum() >= 2:
        assert (np.exp(pays).T @ (counts / counts.sum()) <= 1 + 1e-9).all()


@given(st.lists(st.integers(1, 400), min_size=16, max_size=16), st.floats(0, 0.3))
def test_the_more_is_allowed_the_less_each_bet_pays_in_each_cell(counts, more):
    """So what an alarm has shown can only take evidence away from those after it."""
    counts = np.array(counts)
    limit = limits.band(counts, 0.03, 0.01)
    assert (
        limits.band_bets(counts, limit + more)[0] <= limits.band_bets(counts, limit)[0] + 1e-12
    ).all()


def test_the_wealth_of_the_bets_has_its_reference_values():
    evidence, wealth = Evidence(1, LOSS_WEIGHTS), []
    for _ in range(2):
        logs = loss_increments(TEN, 0.2)[None]
        evidence.step(logs, np.exp(logs), np.array(10))
        wealth.append(log(evidence.value[0]))
    assert wealth == pytest.approx([2.869007, 8.244507], abs=1e-6)


@given(st.floats(1e-6, 1.5), st.lists(st.floats(0, 1), min_size=1, max_size=20).map(np.array))
def test_a_bet_never_loses_all(u, losses):
    assert np.isfinite(loss_increments(losses, u)).all()
    assert (1 - loss_bets(u) * u >= 0.1 - 1e-12).all()


def test_a_worse_model_is_seen():
    rng = np.random.default_rng(2)
    assert all(peak_of(0.25, 0.11, rng, 1000) >= 100 for _ in range(20))

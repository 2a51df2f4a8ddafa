"""The bets on losses."""

from math import log

import numpy as np
import pytest
from helpers.calibrated import peak_of
from hypothesis import given
from hypothesis import strategies as st

from modelkit.drift.risk import LOSS_WEIGHTS, loss_bets, loss_increments
from modelkit.stats.evidence import Evidence

TEN = np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1.0])


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

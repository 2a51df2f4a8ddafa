"""Evidence on one arm alone: no bet pays on the wrong side of its floor, by enumeration."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelkit.lifecycle.rollout.alone import Above, Below, log_gains_alone, log_gains_shares
from modelkit.lifecycle.rollout.arms import BETTER, EVENLY, WORSE, log_mean


@given(st.floats(0.0005, 0.9), st.floats(0, 0.99))
def test_no_bet_on_one_arm_pays_on_its_wrong_side(floor, rate):
    for bets, wrong in ((WORSE, rate <= floor), (BETTER, rate >= floor)):
        if wrong:
            hit = np.exp(log_gains_alone(1, 1, floor, bets))
            miss = np.exp(log_gains_alone(1, 0, floor, bets))
            assert (rate * hit + (1 - rate) * miss <= 1 + 1e-9).all()
            # A key that is bad in part lies between: the gain is linear in its share.
            with np.errstate(divide="ignore"):
                between = np.log(rate * hit + (1 - rate) * miss)
            shares = log_gains_shares(np.array([rate]), floor, bets)
            np.testing.assert_allclose(shares, between, rtol=1e-6, atol=1e-9)


def test_one_arm_shows_a_rate_above_its_floor_and_one_below():
    above = Above(0.01)
    for _ in range(20):
        above.tick(100, 1)
    assert above.peak < 10
    for _ in range(20):
        above.tick(100, 4)
    assert above.peak > 100
    below = Below(0.01)
    below.take_calls(1000, 0)
    below.take_keys(np.zeros(1000))
    assert all(log_mean(part, EVENLY) > math.log(100) for part in below.parts)

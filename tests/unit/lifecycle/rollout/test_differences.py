"""Losses of both arms in pairs: no bet pays on the wrong side, by enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.lifecycle.rollout.differences import LossDifferences, Pairing


@given(st.floats(0, 0.9), st.floats(0, 1))
def test_no_bet_on_losses_pays_on_its_wrong_side(margin, spread):
    """d is margin +- spread with equal probability, as far as -1 and 1 allow."""
    spread = min(spread, 1 - margin)
    logs = []
    for difference in (margin + spread, margin - spread):
        one = LossDifferences(margin)
        one.update(np.array([difference]))
        logs.append((one._worse, one._within))
    for side in (0, 1):
        mean = (np.exp(logs[0][side]) + np.exp(logs[1][side])) / 2
        assert (mean <= 1 + 1e-12).all()


def test_losses_decide_on_both_sides():
    rng = np.random.default_rng(0)
    for mean, worse, within in ((0.05, True, False), (-0.01, False, True)):
        evidence = LossDifferences(0.01)
        for _ in range(40):
            evidence.update(np.clip(rng.normal(mean, 0.11, 100), -1, 1))
        assert (evidence.log_worse >= math.log(100)) is worse
        assert (evidence.log_within >= math.log(100)) is within
    with pytest.raises(ValueError, match="from 0 to 1"):
        LossDifferences(0.01).update(np.array([1.5]))
    with pytest.raises(ValueError, match="from 0 to 1"):
        LossDifferences(0.01).update(np.array([np.nan]))
    with pytest.raises(ValueError, match="margin"):
        LossDifferences(1.0)


def test_arms_are_paired_in_the_order_of_labels():
    pairing = Pairing()
    assert pairing.take(0.5, candidate=True) is None
    assert pairing.take(0.2, candidate=False) is None
    assert pairing.take(0.4, candidate=False) is None
    assert pairing.take(0.5, candidate=True) == pytest.approx(0.2)
    assert pairing.take(0.5, candidate=True) is None

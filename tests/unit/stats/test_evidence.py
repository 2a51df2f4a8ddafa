"""Wealth that may be looked at after every step, and p-values of many tests."""

import itertools

import numpy as np
import pytest

from modelkit.drift.codec import freeze, thaw
from modelkit.stats.evidence import CAP, Evidence, stake

STEPS = 6
GAINS = np.array([1.5, 0.5])  # of a fair bet, whose two ends are as likely


def every_order(guarantee):
    """A monitor for each order in which a fair bet may end, and the logarithms of its gains."""
    orders = np.array(list(itertools.product([0, 1], repeat=STEPS)))
    return Evidence(len(orders), np.ones(1), guarantee), np.log(GAINS)[orders]


def test_over_all_orders_the_wealth_of_fair_bets_is_one_on_average():
    evidence, logs = every_order("ever")
    for step in range(STEPS):
        gains = logs[:, step : step + 1]
        evidence.step(gains, np.exp(gains), np.ones(len(logs)))
        assert evidence.value.mean() == pytest.approx(1, abs=1e-12)
        assert evidence.most == evidence.value.max()
    assert (evidence.peak >= evidence.value).all()


def test_over_all_orders_the_wealth_of_shiryaev_and_roberts_is_the_number_of_rows():
    evidence, logs = every_order("arl")
    for step in range(STEPS):
        gains = logs[:, step : step + 1]
        evidence.step(gains, np.exp(gains), 7)
        assert evidence.value.mean() == pytest.approx(7 * (step + 1), abs=1e-9)


def test_the_stakes_of_all_steps_are_at_most_one():
    shares = stake(np.arange(1_000_000))
    assert 0.85 < shares.sum() < 1
    assert (np.diff(shares) < 0).all()


@pytest.mark.parametrize("guarantee", ["ever", "arl"])
def test_a_restored_state_goes_on_bit_for_bit(guarantee):
    rng = np.random.default_rng(0)
    weights = np.array([0.25, 0.75])
    straight, stopped = (Evidence(3, weights, guarantee) for _ in range(2))
    for step in range(20):
        logs = rng.normal(size=(3, 2)) / 4
        for evidence in (straight, stopped):
            evidence.step(logs, np.exp(logs), np.full(3, 5.0))
        if step == 9:
            straight.restart(straight.value == straight.value.max())
            stopped.restart(stopped.value == stopped.value.max())
            plain = freeze(stopped, arrays := {})
            stopped = thaw(Evidence(3, weights, guarantee), plain, arrays)
    for name in Evidence.changing:
        assert np.array_equal(getattr(straight, name), getattr(stopped, name)), name
    assert straight.began().tolist() == stopped.began().tolist()


def test_the_step_of_a_change_is_found():
    evidence = Evidence(2, np.ones(1))
    for step in range(60):
        logs = np.full((2, 1), -0.5)
        if step >= 40:
            logs[0] = 0.5
        evidence.step(logs, np.exp(logs), np.ones(2))
    assert evidence.began()[0] == 40
    assert evidence.peak[0] > 10 > evidence.peak[1]


def test_wealth_is_held_below_what_a_float_can_hold():
    evidence = Evidence(1, np.ones(1))
    gain = np.array([[340.0]])
    for _ in range(5):
        evidence.step(gain, np.exp(gain), np.ones(1))
    assert evidence.most <= CAP * (1 + 1e-9)
    assert np.isfinite(evidence._wealth).all()

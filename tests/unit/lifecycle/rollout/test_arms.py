"""The evidence of two arms, and of one alone: counts add up in any order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.lifecycle.rollout.arms import (
    Above,
    Below,
    Events,
    EventTimes,
    Worse,
    log_better,
    units_needed,
)

SHARES = st.floats(0.001, 0.999)
MARGINS = st.floats(0.2, 5)


def in_stages(*stages):
    return Events(*np.reshape(stages, (-1, 3)).T)


@given(st.lists(st.tuples(SHARES, st.integers(0, 30), st.integers(0, 30)), max_size=6), MARGINS)
def test_the_counts_of_workers_add_up_in_any_order(stages, margin):
    whole = log_better(in_stages(*stages), margin)
    parts = [(share, candidate, 0) for share, candidate, _ in stages]
    parts += [(share, 0, champion) for share, _, champion in stages]
    assert log_better(in_stages(*parts[::-1]), margin) == pytest.approx(whole, rel=1e-9, abs=1e-9)


def test_no_events_are_no_evidence():
    assert log_better(in_stages((0.05, 0, 0)), 1.5) == pytest.approx(0)
    worse = Worse(np.array([1.2]))
    for _ in range(1000):
        worse.tick(Events(0.05, 0, 0))
    assert worse.peak == pytest.approx(1)


def test_a_flood_of_events_overflows_nothing():
    worse = Worse(np.array([1.0]))
    for _ in range(5):
        worse.tick(Events(0.01, 10**7, 0))
    assert 1e100 < worse.peak[0] < math.inf
    assert log_better(in_stages((0.5, 0, 10**7)), 1.5) > 1e6
    assert log_better(in_stages((0.5, 10**7, 0)), 1.5) < -1e5


def test_the_plan_is_that_of_its_formula():
    assert units_needed(0.01, 0.05, 2, 1.0, 0.01) == pytest.approx(36_000, rel=0.03)
    assert units_needed(0.01, 0.05, 5, 1.0, 0.01) == pytest.approx(3_600, rel=0.03)
    assert units_needed(0.001, 0.05, 2, 1.0, 0.01) == pytest.approx(360_000, rel=0.03)
    assert units_needed(0.01, 0.05, 1.5, 1.5, 0.01) == math.inf


def test_counts_that_come_late_join_the_span_of_their_share():
    times = EventTimes(1.5)
    for share in (0.1, 0.1, 0.5, 0.1, 0.5, 0.1):
        times.add(share, 1, 2)
    assert times._spans == [(0.1, 1, 2, 1), (0.1, 3, 6, 3), (0.5, 1, 2, 1), (0.5, 1, 2, 1)]


def test_one_arm_shows_a_rate_above_its_floor_and_one_below():
    above = Above(np.array([0.01]))
    for _ in range(20):
        above.tick(100, 1)
    assert above.peak < 10
    for _ in range(20):
        above.tick(100, 4)
    assert above.peak > 100
    below = Below(np.array([0.01]))
    below.take_calls(1000, 0)
    below.take_keys(np.zeros((1, 1000)), np.array([True]))
    assert below.log_of_calls > math.log(100)
    assert below.log_of_keys > math.log(100)

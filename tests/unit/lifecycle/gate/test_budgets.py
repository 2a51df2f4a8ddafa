"""Time and size are compared with their budgets."""

from __future__ import annotations

import numpy as np
import pytest

from modelkit.lifecycle.gate.budgets import Measurements, median_check, plain_check, tail_check
from modelkit.lifecycle.gate.claims import Levels
from modelkit.lifecycle.gate.latency import TurnTimes

ALPHA = 0.05


LEVELS = Levels(ALPHA, ALPHA, ALPHA)


def timed(ours, theirs, tail=0.0):
    rng = np.random.default_rng(7)
    times = [scale * np.exp(0.02 * rng.normal(size=(40, 20))) for scale in (ours, theirs)]
    times[0][:, :1] += tail
    return TurnTimes(*times)


def test_time_is_compared_by_its_ratio():
    outcomes = [
        median_check("p50_ratio", 1.2, timed(scale, 1e-4), LEVELS).outcome
        for scale in (1e-4, 1.2e-4, 1.5e-4)
    ]
    assert outcomes == ["pass", "unclear", "fail"]
    check = median_check("p50_ratio", 1.2, timed(1.1e-4, 1e-4), LEVELS)
    assert check.estimate == pytest.approx(1.1, rel=0.01)
    assert check.low < check.estimate < check.high
    assert median_check("p50_seconds", 2e-4, timed(1e-4, 1e-4), LEVELS).outcome == "pass"
    assert median_check("p50_seconds", 0.5e-4, timed(1e-4, 1e-4), LEVELS).outcome == "fail"


def test_the_slowest_calls_can_fail_and_are_not_required():
    slow = tail_check("p99_ratio", 2, timed(1e-4, 1e-4, tail=9e-4), LEVELS, 0)
    assert (slow.outcome, slow.required) == ("fail", False)
    assert tail_check("p99_ratio", 2, timed(1e-4, 1e-4), LEVELS, 0).outcome == "pass"


def test_sizes_are_compared_as_they_are():
    found = Measurements(300.0, 200.0)
    for name, limit, expected in (
        ("size_ratio", 1.5, "pass"),
        ("size_ratio", 1.4, "fail"),
        ("size_bytes", 300, "pass"),
        ("memory_bytes", 299, "fail"),
    ):
        assert plain_check(name, limit, found, "bytes").outcome == expected

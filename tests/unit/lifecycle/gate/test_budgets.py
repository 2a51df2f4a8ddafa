"""Time and size are compared with their budgets."""

from __future__ import annotations

import numpy as np
import pytest

import modelkit as mk
from modelkit.lifecycle.gate.budgets import TurnTimes, median_check, size_check, timed_turns
from modelkit.lifecycle.gate.claims import Levels

ALPHA = 0.05


LEVELS = Levels(ALPHA, ALPHA, ALPHA)


def timed(ours, theirs):
    rng = np.random.default_rng(7)
    times = [scale * np.exp(0.02 * rng.normal(size=(40, 20))) for scale in (ours, theirs)]
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


def test_sizes_are_compared_as_they_are():
    for name, limit, expected in (
        ("size_ratio", 1.5, "pass"),
        ("size_ratio", 1.4, "fail"),
        ("size_bytes", 300, "pass"),
        ("size_bytes", 299, "fail"),
    ):
        assert size_check(name, limit, 300.0, 200.0).outcome == expected


def test_turns_are_timed_by_the_clock_that_is_given(boosting_mk, breast_cancer):
    with mk.load(boosting_mk) as model:
        feeds = model.signature.coerce(breast_cancer[0].head(3))
        ticks = iter(range(10_000_000))
        found = timed_turns((model, feeds), (model, feeds), lambda: next(ticks) * 1e-3)
    assert found.candidate.shape == found.champion.shape
    assert np.allclose(found.candidate, 1e-3)

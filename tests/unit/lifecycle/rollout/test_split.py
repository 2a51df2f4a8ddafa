"""Whether the calls are split between the arms as they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelkit.lifecycle.rollout.arms import Events
from modelkit.lifecycle.rollout.split import log_split


def test_a_split_that_is_broken_is_found():
    rng = np.random.default_rng(0)
    sound = [rng.binomial(100_000, 0.05) for _ in range(200)]
    alarms = [log_split([Events(0.05, k, 100_000 - k)]) >= math.log(100) for k in sound]
    assert sum(alarms) <= 2
    # The candidate loses a tenth of its calls before they are counted.
    assert log_split([Events(0.05, 4500, 95_000)]) >= math.log(100)
    both = [Events(0.05, 480, 9500), Events(0.5, 4800, 5000)]
    assert log_split(both) == pytest.approx(sum(log_split([each]) for each in both))
    assert log_split([Events(1.0, 100, 0)]) == 0

"""Floors that so few rows cannot show."""

from __future__ import annotations

import numpy as np

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.claims import Levels, floor_check
from modelkit.lifecycle.gate.policy import read_floor

ALPHA = 0.05


LEVELS = Levels(ALPHA, ALPHA, ALPHA)


def test_no_figure_is_told_that_cannot_be():
    """.97 of 100 rows, and a floor of .96: as many would show "one of 1.002"."""
    y = np.repeat([0, 1], 50)
    answered = Answered("binary", y, np.where(np.arange(100) < 3, 1 - y, y), classes=(0, 1))
    check = floor_check(
        read_floor("accuracy >= 0.96"), METRICS["binary"]["accuracy"], answered, LEVELS
    )
    assert check.outcome == "unclear"
    assert check.text == "not shown by 100 rows, which are too few for a floor so near to 1"

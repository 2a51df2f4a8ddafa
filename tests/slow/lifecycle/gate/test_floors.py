"""How often floors are shown that do not hold, in simulation."""

from __future__ import annotations

import numpy as np
import pytest

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.claims import Levels, floor_check
from modelkit.lifecycle.gate.policy import read_floor

ALPHA = 0.05


LEVELS = Levels(ALPHA, ALPHA, ALPHA)


def test_a_floor_says_which_figure_as_many_rows_would_show():
    floor = read_floor("accuracy >= 0.8")
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 400)

    def of(share, rng=rng):
        right = rng.random(400) < share
        answered = Answered("binary", y, np.where(right, y, 1 - y), classes=(0, 1))
        return floor_check(floor, METRICS["binary"]["accuracy"], answered, LEVELS)

    check = of(0.81)
    assert (check.outcome, check.rows_needed) == ("unclear", None)
    told = float(check.text.partition("show one of ")[2].split()[0])
    power = np.mean([of(told).outcome == "pass" for _ in range(300)])
    assert 0.7 < power < 0.95  # exact intervals are wider, and high shares vary less


@pytest.mark.parametrize(("positives", "share"), [(2, 0.3), (3, 0.5), (5, 0.6), (20, 0.5)])
def test_a_floor_of_a_rare_class_is_shown_as_seldom_as_stated(positives, share):
    rng = np.random.default_rng(0)
    y = np.repeat([1, 0], [positives, 60])
    floor = read_floor(f"recall >= {share}")
    shown = []
    for _ in range(400):
        told = np.where(y == 1, rng.random(len(y)) < share, 0).astype(np.int64)
        answered = Answered("binary", y, told, classes=(0, 1))
        check = floor_check(floor, METRICS["binary"]["recall"], answered, Levels(0.05, 0.05, 0.05))
        shown.append(check.outcome == "pass")
    assert np.mean(shown) <= 0.083  # .05 and three standard errors; it was up to .15

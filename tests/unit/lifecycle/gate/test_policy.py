"""What a gate is asked: floors in texts, metrics of one's own, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.judged import drawn_rows

import modelkit as mk
from modelkit.errors import UsageError
from modelkit.lifecycle.gate.policy import read_floor


def test_floors_are_read_from_texts():
    floor = read_floor("recall>=.6")
    assert (floor.metric, floor.at_least, floor.bound) == ("recall", True, 0.6)
    assert str(read_floor(" log_loss <= 4e-1 ")) == "log_loss <= 0.4"
    assert read_floor("recall") is None


@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (0, np.inf), (0, np.nan), (0, 1, 2)])
def test_bounds_of_a_metric_are_two_numbers(bounds):
    with pytest.raises(UsageError, match="the least and the most that one row counts"):
        mk.GateMetric("own", lambda y, outputs: 0.0, bounds=bounds)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"margin": True}, "margin of accuracy is a number"),
        ({"margin": "0.01"}, "margin of accuracy is a number"),
        ({"margin": 0.01, "alpha": "0.05"}, "alpha is above 0"),
        ({"margin": 0.01, "alpha": None}, "alpha is above 0"),
        ({"margin": 0.01, "budgets": {"size_ratio": True}}, "budget size_ratio is a number"),
        ({"margin": 0.01, "seed": "1"}, "seed is an integer of at least 0"),
        ({"margin": 0.01, "seed": -1}, "seed is an integer of at least 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(judged_pair, asked, match):
    rows, y = drawn_rows(np.random.default_rng(0), 50)
    with pytest.raises(UsageError, match=match):
        mk.gate(*judged_pair, rows, y, **asked)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"budgets": ["size_ratio"]}, "budgets is a dict"),
        ({"registry": "models"}, "registry is a mk.Registry"),
        ({"require": "accuracy"}, "require is a list"),
        ({"checks": ["mine"]}, "checks is a list of mk.types.GateCheck"),
        ({"checks": mk.types.GateCheck("mine", "?", "pass")}, "checks is a list of mk.types.GateC"),
    ],
)
def test_an_argument_of_another_type_raises_type_error(judged_pair, asked, match):
    rows, y = drawn_rows(np.random.default_rng(0), 50)
    with pytest.raises(TypeError, match=match):
        mk.gate(*judged_pair, rows, y, margin=0.01, **asked)

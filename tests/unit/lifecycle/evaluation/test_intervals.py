"""Intervals of figures: quantiles of skew rows, bounds, few rows and unequal weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.evaluated import binary

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.stats.influence import Undefined, standard_error
from modelkit.stats.intervals import wilson


@pytest.mark.parametrize("name", ["mae", "rmse", "r2", "mean_error"])
def test_intervals_of_rows_that_are_alike_are_about_those_of_t(name):
    rng = np.random.default_rng(0)
    told = rng.normal(size=(400, 1))
    rows = Answered("regression", told + rng.normal(size=(400, 1)), told)
    each = METRICS["regression"][name]
    measured = each.measure(rows)
    low, high = each.interval(measured, rows)
    assert 1 <= (high - low) / (2 * 1.966 * standard_error(measured.influence)) < 1.3


def test_a_figure_at_its_bound_has_an_interval_all_the_same():
    told = np.linspace(0.1, 0.9, 24)
    apart = Answered(
        "binary",
        np.repeat([0, 1], 12),
        (told > 0.5).astype(int),
        np.column_stack([1 - told, told]),
        told,
        (0, 1),
    )
    each = METRICS["binary"]["roc_auc"]
    low, high = each.interval(each.measure(apart), apart)
    assert (low, high) == pytest.approx(wilson(12, 12))


def test_few_positive_rows_tell_little_however_many_are_negative():
    scores = np.linspace(1, 0, 1000)
    each = METRICS["binary"]["roc_auc"]

    def interval(positives):
        truth = (np.arange(1000) < positives).astype(int)
        rows = Answered("binary", truth, scores=scores, classes=(0, 1))
        assert each.measure(rows).value > 0.99
        return each.interval(each.measure(rows), rows)

    assert interval(10)[0] < 0.75
    with pytest.raises(Undefined, match="rests on 9 independent rows"):
        interval(9)
    with pytest.raises(Undefined, match="one row of a kind"):
        interval(1)


def test_unequal_weights_tell_less_than_as_many_rows():
    equal = binary(200, weighted=False)
    weights = np.where(np.arange(200) % 10, 0.01, 10.0)
    few = replace(equal, weights=weights)
    for name in ("accuracy", "f1", "log_loss", "roc_auc"):
        each = METRICS["binary"][name]
        widths = []
        for rows in (equal, few):
            low, high = each.interval(each.measure(rows), rows)
            widths.append(high - low)
        assert widths[1] > 1.5 * widths[0], name

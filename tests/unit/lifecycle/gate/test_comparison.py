"""Two sides on the same rows: estimates, exact counts, and rows that tell nothing."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.gate.worlds import answers, figure_check, scored
from helpers.judged import predicted
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.claims import Levels
from modelkit.lifecycle.gate.comparison import compare_by
from modelkit.stats.paired import RightCounts

ALPHA = 0.05


LEVELS = Levels(ALPHA, ALPHA, ALPHA)


def test_estimates_are_the_differences_of_scikit_learns_figures():
    X, y = scored(np.random.default_rng(5), 3000)
    sides = (answers(X["b"], y), answers(X["a"], y))
    told = [side.answered.scores for side in sides]
    auc = roc_auc_score(y, told[0]) - roc_auc_score(y, told[1])
    loss = log_loss(y, told[1]) - log_loss(y, told[0])
    for metric, expected in (("roc_auc", auc), ("log_loss", loss)):
        check = figure_check(metric, *sides, 0.01, LEVELS)
        assert check.estimate == pytest.approx(expected, abs=1e-9)
        assert check.low < expected < check.high


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 500), st.integers(0, 500))
def test_rows_that_both_answer_alike_do_not_change_who_is_better(better, worse, some, more):
    def p(others):
        return RightCounts(better, worse, better + worse + others).p_above(0)

    assert p(some) == p(more)


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_two_rows_that_differ_by_as_much_show_nothing(metric):
    sides = predicted(np.array([1.0, 1.0])), predicted(np.array([2.0, 2.0]))
    compared = compare_by(METRICS["regression"][metric], *sides, seed=0)
    assert compared.difference.error == 0
    assert compared.difference.p_above(0) == 1.0
    assert compared.difference.exchanged().p_above(0) == 1.0

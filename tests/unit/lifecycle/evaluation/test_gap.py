"""The gap between training rows and others."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evaluated import saved
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.gap import TrainingGap, verdict_on_fit


def test_a_gap_has_an_interval_and_a_sentence(evaluation):
    gaps = {gap.name: gap for gap in evaluation.gaps}
    gap = gaps["roc_auc"]
    assert gap.gap == pytest.approx(gap.train - gap.held_out)
    assert gap.low < gap.gap < gap.high
    assert gaps["log_loss"].gap == pytest.approx(gaps["log_loss"].held_out - gaps["log_loss"].train)
    assert "held-out ones" in evaluation.fit


def test_a_tree_that_learned_its_rows_by_heart_looks_overfitted(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = (X[:, 0] + rng.normal(0, 1.5, 600) > 0).astype(int)
    with saved(DecisionTreeClassifier(random_state=0).fit(X[:300], y[:300]), X, tmp_path) as model:
        deep = mk.evaluate(model, X[300:], y[300:], train=(X[:300], y[:300]))
    assert deep.fit.startswith("It looks overfitted: roc_auc 1 on training rows")
    with saved(LogisticRegression().fit(X[:300], y[:300]), X, tmp_path) as model:
        plain = mk.evaluate(model, X[300:], y[300:], train=(X[:300], y[:300]))
    assert plain.fit.startswith("It does not look overfitted")
    noise = rng.integers(2, size=600)
    with saved(LogisticRegression().fit(X[:300], noise[:300]), X, tmp_path) as model:
        none = mk.evaluate(model, X[300:], noise[300:], train=(X[:300], noise[:300]))
    assert none.fit.startswith("It looks underfitted")


@pytest.mark.parametrize(
    ("held_out", "looks"), [(0.98, "does not look"), (0.9, "looks a little"), (0.7, "looks")]
)
def test_a_gap_that_is_sure_and_small_is_not_called_overfitting(held_out, looks):
    """0.985 on training rows and 0.98 on others "looked a little overfitted"."""
    gap = 0.985 - held_out
    found = TrainingGap("r2", 0.985, held_out, gap, 0.9 * gap, 1.1 * gap)
    values = np.zeros(9)
    answered = Answered("regression", values[:, None], values[:, None])
    assert verdict_on_fit((found,), answered).startswith(f"It {looks} overfitted: r2 0.985 on")

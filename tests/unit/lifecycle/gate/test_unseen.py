"""What rows that were not drawn may hold: the worst one, and how many it takes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.judged import classified

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.claims import Levels, no_worse
from modelkit.lifecycle.gate.comparison import compare_by
from modelkit.lifecycle.gate.unseen import worst_unit

ALPHA = 0.05


LEVELS = Levels(ALPHA, ALPHA, ALPHA)


def test_a_margin_that_one_row_could_take_away_is_unclear_and_the_rows_are_told():
    """A row of log loss may cost 13.8: 41 / margin rows are the least that can show it."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 2000)
    likely = np.clip(0.5 + 0.3 * (2 * y - 1) * rng.random(2000), 0.05, 0.95)
    other = np.clip(likely + 0.02 * rng.normal(size=2000), 0.05, 0.95)
    sides = classified(y, other), classified(y, likely)

    def asked(n, margin):
        rows = np.arange(n)
        return no_worse(
            "log_loss",
            lambda: compare_by(
                METRICS["binary"]["log_loss"], *(each.at(rows) for each in sides), seed=0
            ),
            margin,
            LEVELS,
        )

    few = asked(500, 0.05)
    assert few.outcome == "unclear"
    assert 41 / 0.05 < few.rows_needed < 1.3 * 41 / 0.05
    assert asked(2000, 0.05).outcome == "pass"
    assert asked(100, 0.5).outcome == "pass"


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "ranking"])
def test_the_worst_row_is_about_what_one_more_takes_away(kind):
    rng = np.random.default_rng(6)
    n = 300
    if kind == "multiclass":
        y = rng.integers(0, 4, n)
        right = np.eye(4)[y]
        answered = Answered(kind, y, y, right, right, (0, 1, 2, 3))
        expected = {"accuracy": 1 / n, "brier": 2 / n, "log_loss": np.log(1e6) / n}
        expected["balanced_accuracy"] = 1 / 4 / np.bincount(y).min()
    elif kind == "multilabel":
        y = rng.integers(0, 2, (n, 3)).astype(float)
        answered = Answered(kind, y, y, y, y, ("a", "b", "c"))
        expected = {"hamming_loss": 1 / n, "brier": 1 / n}
    else:
        which = np.repeat(np.arange(30), 10)
        answered = Answered(
            kind, rng.integers(0, 3, n), scores=rng.normal(size=n), queries=which, clusters=which
        )
        expected = {"ndcg@10": 1 / 30, "mean_average_precision": 1 / 30}
    for name, worst in expected.items():
        found = worst_unit(METRICS[kind][name], answered, answered, np.zeros(n))
        assert found.worst == pytest.approx(worst, rel=0.03), name

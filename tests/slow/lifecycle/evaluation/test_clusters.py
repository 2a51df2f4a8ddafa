"""How often unequal clusters err, in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evaluated import clusters

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.comparison import JudgedAnswers, compare_by
from modelkit.stats.influence import Measured, Undefined
from modelkit.stats.paired import difference_of

ALPHA = 0.05


def wrong(sizes, *, runs=2000):
    """How often a difference of 0 is shown to be above it, of clusters whose rows are all alike."""
    rng = np.random.default_rng(0)
    which = clusters(sizes)
    n = len(which.codes)
    zero = Measured(0.0, np.zeros(n))
    found = []
    for _ in range(runs):
        values = rng.normal(size=len(sizes))[which.codes]
        measured = Measured(float(values.mean()), (values - values.mean()) / n)
        found.append(difference_of(measured, zero, which).p_above(0.0) <= ALPHA)
    return np.mean(found)


@pytest.mark.parametrize("sizes", [[9] * 10, [13] + [1] * 19, [66] + [1] * 99, [5, 5, 1, 1, 1, 1]])
def test_unequal_clusters_promote_as_seldom_as_stated(sizes):
    """It was .05, .14, .18 and .11; and .15 of two clusters, of which one has 9 rows of 10."""
    assert wrong(sizes) <= 0.05 + 0.015


def ranked(rng, which, positive):
    """The AUC of two equal models, of clusters that either ranks higher or lower by chance."""
    y = (rng.random(len(which)) < positive[which]).astype(int)
    base = y + rng.normal(size=len(which))
    sides = []
    for _ in range(2):
        scores = base + 0.7 * rng.normal(size=len(positive))[which]
        answered = Answered("binary", y, scores=scores, classes=(0, 1), clusters=which)
        sides.append(JudgedAnswers(answered, y, {}))
    return compare_by(METRICS["binary"]["roc_auc"], *sides, seed=0).difference.p_above(0.0)


def test_an_area_of_which_few_clusters_have_the_positive_rows_shows_nothing():
    """It was .28 of .05 where one of 20 clusters has 2 of 3 positive rows, though all have one size."""
    rng = np.random.default_rng(0)
    which = np.repeat(np.arange(20), 40)
    with pytest.raises(Undefined, match="such as those of a class, are in few clusters"):
        ranked(rng, which, np.array([0.9] + [0.02] * 19))
    which = np.repeat(np.arange(50), 20)
    few = np.array([0.9] * 8 + [0.01] * 42)
    assert np.mean([ranked(rng, which, few) <= ALPHA for _ in range(500)]) <= 0.05 + 0.03

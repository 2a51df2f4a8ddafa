"""Clusters are as many observations as clusters of one size would be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.evaluated import binary, clusters

from modelkit.lifecycle.evaluation.answered import Answered, clusters_of
from modelkit.lifecycle.evaluation.figures import class_figures, figure_of
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.stats.influence import standard_error


def test_clusters_of_one_size_are_tested_as_before():
    rng = np.random.default_rng(0)
    influence = rng.normal(size=120)
    which = clusters([10] * 12)
    assert which.alike == pytest.approx(12)
    sums = influence.reshape(12, 10).sum(axis=1)
    assert standard_error(influence, which) == pytest.approx(standard_error(sums))
    assert standard_error(np.zeros(12), clusters([12])) is None
    assert standard_error(np.full(120, np.nan), which) is None


def test_queries_are_counted_in_clusters_of_queries():
    ranking = Answered("ranking", np.zeros(12), queries=np.repeat(np.arange(6), [7, 1, 1, 1, 1, 1]))
    found = clusters_of(replace(ranking, clusters=ranking.queries))
    assert found.sizes.tolist() == [1] * 6


def test_an_average_over_classes_rests_on_the_clusters_that_have_them():
    """A class that one cluster has tells as much as one row would."""
    y = np.repeat([0, 1, 2], [300, 290, 10])
    told = np.where(np.arange(600) % 5, y, 0)
    answered = Answered("multiclass", y, told, classes=(0, 1, 2), clusters=np.arange(600) // 10)
    recall = METRICS["multiclass"]["balanced_accuracy"].measure(answered)
    alone = METRICS["multiclass"]["balanced_accuracy"].measure(replace(answered, clusters=None))
    assert recall.value == alone.value
    assert alone.units > 9
    assert recall.units < 2


@pytest.mark.parametrize("positive", [0, 1])
def test_the_figures_of_a_class_are_those_of_a_task_in_which_it_is_positive(positive):
    """Its area rested on all clusters, while the same area of the task rested on those of the class."""
    rows = binary(300, weighted=False)
    which = np.where(rows.truth == 1, np.arange(300) % 12, 12 + np.arange(300) % 40)
    rows = replace(rows, clusters=which, positive=positive)
    if not positive:
        rows = replace(rows, scores=-rows.scores)
    for figure in class_figures(rows, 0.95)[positive].figures:
        assert figure == figure_of(METRICS["binary"][figure.name], rows, 0.95)

"""What each row adds to a figure."""

from __future__ import annotations

import numpy as np
import pytest

from modelkit.stats.influence import Clusters, mean_of, standard_error


def test_rows_of_a_cluster_count_as_one():
    rng = np.random.default_rng(2)
    values = rng.normal(size=30)
    part = mean_of(values, np.ones(30))
    copied = mean_of(np.repeat(values, 4), np.ones(120))
    together = Clusters(np.repeat(np.arange(30), 4), np.full(30, 4.0))
    assert standard_error(copied.influence, together) == pytest.approx(
        standard_error(part.influence)
    )
    assert standard_error(copied.influence) < 0.6 * standard_error(part.influence)


def test_clusters_of_any_size_are_left_out_one_by_one():
    rng = np.random.default_rng(3)
    sizes = np.array([40, 3, 5, 2, 8])
    codes = np.repeat(np.arange(5), sizes)
    values = rng.normal(size=5)[codes] + rng.normal(size=58)
    moved = [values.mean() - values[codes != code].mean() for code in range(5)]
    error = standard_error(
        mean_of(values, np.ones(58)).influence, Clusters(codes, sizes.astype(float))
    )
    assert error == pytest.approx(np.sqrt(4 / 5 * np.sum(np.square(moved))))

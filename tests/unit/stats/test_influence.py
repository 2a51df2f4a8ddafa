"""What each row adds to a figure."""

from __future__ import annotations

import numpy as np
import pytest

from modelkit.stats.influence import mean_of, standard_error


def test_rows_of_a_cluster_count_as_one():
    rng = np.random.default_rng(2)
    values = rng.normal(size=30)
    part = mean_of(values, np.ones(30))
    copied = mean_of(np.repeat(values, 4), np.ones(120))
    together = np.repeat(np.arange(30), 4)
    assert standard_error(copied.influence, together) == pytest.approx(
        standard_error(part.influence)
    )
    assert standard_error(copied.influence) < 0.6 * standard_error(part.influence)

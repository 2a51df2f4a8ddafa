"""The bins of a column, from which LIME draws."""

import numpy as np
import pytest

from modelkit.explain.bins import QuartileBins, ValueBins

# Those of shap, lime and what they import.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::SyntaxWarning"
)


def test_bins_are_quartiles_with_one_for_missing_values():
    values = np.array([0, 0, 0, 0, 1, 2, 3, np.nan, np.inf, 10], np.float32)
    column = QuartileBins.of(values)
    rng = np.random.default_rng(0)
    assert column.share.sum() == pytest.approx(1)
    assert column.find(np.array([np.nan])) == [len(column.share) - 1]
    drawn = column.fill(np.repeat(np.flatnonzero(column.share), 500).astype(np.int32), rng)
    assert np.array_equal(np.unique(np.isnan(drawn)), [False, True])
    assert np.nanmin(drawn) == 0
    assert np.nanmax(drawn) <= 10
    assert np.array_equal(
        column.find(drawn)[~np.isnan(drawn)],
        np.repeat(np.flatnonzero(column.share), 500)[~np.isnan(drawn)],
    )
    whole = QuartileBins.of(np.array([1, 1, 2, 3, 5, 8, 13, 21]))
    bins = np.repeat(np.arange(4), 200).astype(np.int32)
    drawn = whole.fill(bins, rng)
    assert np.array_equal(drawn, np.rint(drawn))
    assert np.array_equal(whole.find(drawn), bins)
    assert np.isnan(QuartileBins.of(np.full(3, np.nan)).fill(np.ones(2, np.int32), rng)).all()
    fives = QuartileBins.of(np.full(4, 5.0))
    assert np.array_equal(fives.fill(np.zeros(2, np.int32), rng), [5, 5])
    assert list(
        ValueBins.of(np.array(["a", "b", "a"], object)).find(np.array(["b", "c", "a"], object))
    ) == [1, -1, 0]

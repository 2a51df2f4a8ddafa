"""SplineTransformer: gaps, infinities, and what it refuses."""

import numpy as np
import pytest
from helpers.answers import check
from helpers.packages import opened
from helpers.transformers import FRESH, TRAIN, assert_serves
from sklearn.preprocessing import SplineTransformer

from modelkit.errors import ConversionError

SPLINES = [
    {"extrapolation": extrapolation, "degree": degree, "knots": knots, "include_bias": bias}
    for extrapolation in ("constant", "linear", "continue", "periodic")
    for degree, knots, bias in ((3, "uniform", True), (1, "quantile", False), (2, "quantile", True))
]


@pytest.mark.parametrize(
    "options", SPLINES, ids=lambda options: "-".join(map(str, options.values()))
)
def test_splines(options, tmp_path):
    model = SplineTransformer(n_knots=6, **options).fit(TRAIN[:, :4])
    fresh = np.concatenate([FRESH[:, :4], TRAIN[:, :4], 3 * FRESH[:9, :4], -FRESH[:9, :4]])
    assert_serves(model, tmp_path, TRAIN[:, :4], fresh)


@pytest.mark.parametrize("extrapolation", ["constant", "linear", "periodic"])
def test_splines_of_gaps_are_zeros(extrapolation, tmp_path):
    gaps = TRAIN[:, :3].copy()
    gaps[::6, 1] = np.nan
    model = SplineTransformer(extrapolation=extrapolation, handle_missing="zeros").fit(gaps)
    fresh = FRESH[:, :3].copy()
    fresh[::3, 0] = np.nan
    assert_serves(model, tmp_path, gaps, fresh)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("extrapolation", ["constant", "linear", "periodic", "continue"])
def test_splines_of_a_single_value(extrapolation, tmp_path):
    train = np.column_stack([TRAIN[:, 0], np.full(len(TRAIN), 3.0)])
    model = SplineTransformer(extrapolation=extrapolation).fit(train)
    fresh = np.column_stack([FRESH[:40, 0], np.full(40, 3.0)])
    fresh[::3, 1] = 2.0
    fresh[1::3, 1] = 4.0
    # Beyond the knots, scikit-learn adds slopes that scipy reads from memory of something else.
    if extrapolation == "linear" or not np.isfinite(model.transform(fresh)).all():
        fresh[:, 1] = 3.0
    assert_serves(model, tmp_path, train, fresh)


def test_splines_that_refuse_numbers_are_refused(tmp_path):
    model = SplineTransformer(extrapolation="error").fit(TRAIN)
    with pytest.raises(ConversionError, match="extrapolation='constant'"):
        opened(model, TRAIN, tmp_path)


def test_splines_that_stay_level_do_so_to_infinity(rows, fresh, tmp_path):
    splines = SplineTransformer(handle_missing="zeros").fit(rows)
    strange = fresh.copy()
    strange[::3, 0] = np.inf
    strange[1::3, 1] = -np.inf
    strange[2::3, 2] = np.nan
    check(splines, rows, strange, tmp_path / "a.mk")

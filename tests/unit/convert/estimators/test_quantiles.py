"""QuantileTransformer: linear between the quantiles of training."""

import numpy as np
import pytest
from helpers.packages import opened
from helpers.transformers import FRESH, TRAIN
from sklearn.preprocessing import QuantileTransformer

SEED = {"random_state": 0}
QUANTILES = [
    {},
    {"output_distribution": "normal"},
    {"n_quantiles": 20},
    {"n_quantiles": 20, "output_distribution": "normal"},
]


@pytest.mark.parametrize("options", QUANTILES, ids=str)
def test_quantiles(options, tmp_path):
    """Rounded to whole numbers, many quantiles are equal, and rows stand on them."""
    train = np.concatenate([TRAIN, np.rint(TRAIN), np.full((len(TRAIN), 1), 3.0)], axis=1)
    train[::9, 0] = np.nan
    fresh = np.concatenate([FRESH, np.rint(FRESH), np.full((len(FRESH), 1), 3.0)], axis=1)
    fresh[::5, -1] = 2.5
    fresh[1::5, -1] = 3.5
    fresh[::4, 1] = np.nan
    with np.errstate(all="ignore"):
        model = QuantileTransformer(**{"n_quantiles": 100, **options, **SEED}).fit(train)
    package = opened(model, train, tmp_path)
    for rows in (fresh, train, fresh[:1]):
        np.testing.assert_allclose(
            package.predict(rows), model.transform(rows), rtol=2e-13, atol=2e-14
        )

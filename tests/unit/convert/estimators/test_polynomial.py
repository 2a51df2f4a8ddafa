"""PolynomialFeatures: products in the order of the source."""

import numpy as np
import pytest
from helpers.packages import opened
from helpers.rows import tenths
from helpers.transformers import FRESH, TRAIN, assert_serves
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    SplineTransformer,
)

SEED = {"random_state": 0}


@pytest.mark.parametrize("options", [{}, {"degree": 3, "include_bias": False}, {"degree": (2, 3)}])
def test_products_are_those_of_the_source_in_double(options, tmp_path):
    X, y = tenths(300, 3)
    rows = np.round(np.random.default_rng(1).normal(0, 3, (5000, 3)), 1)
    steps = PolynomialFeatures(**options), HistGradientBoostingClassifier(max_iter=10)
    fitted = make_pipeline(*steps).fit(X, y)
    with opened(fitted, X, tmp_path) as model:
        np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), 1e-6)


CHAINS = {
    "products over norms": (PolynomialFeatures(2), Normalizer()),
    "factors over norms": (MinMaxScaler(clip=True), TruncatedSVD(2, **SEED), Normalizer()),
    "splines of one value": (Binarizer(threshold=1000.0), SplineTransformer(3), Normalizer("max")),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_divided_is_known_to_be_no_integer(name, tmp_path):
    """A division whose sides might be integers is refused when a package is loaded."""
    assert_serves(
        make_pipeline(*CHAINS[name]).fit(TRAIN[:, :4]), tmp_path, TRAIN[:, :4], FRESH[:, :4]
    )

"""Scalers and norms: numbers of each dtype, gaps, and rows of zeros."""

import numpy as np
import pytest
from helpers.examples import some
from helpers.kinds import wine
from helpers.packages import saved
from helpers.rows import shops
from helpers.transformers import FRESH, LABELS, TRAIN, assert_serves
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

SCALERS = {
    "standard": StandardScaler(),
    "standard, no mean": StandardScaler(with_mean=False),
    "standard, no deviation": StandardScaler(with_std=False),
    "standard, neither": StandardScaler(with_mean=False, with_std=False),
    "range": MinMaxScaler(),
    "range, cut off": MinMaxScaler((-1, 2), clip=True),
    "largest": MaxAbsScaler(),
    "robust": RobustScaler(),
    "robust, no centre": RobustScaler(with_centering=False, quantile_range=(10, 80), unit_variance=True),
    "robust, no scale": RobustScaler(with_scaling=False),
    "binary": Binarizer(threshold=15.0),
    "rows, l1": Normalizer("l1"),
    "rows, l2": Normalizer("l2"),
    "rows, max": Normalizer("max"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALERS)
def test_scalers(name, tmp_path):
    assert_serves(SCALERS[name].fit(TRAIN), tmp_path)


@pytest.mark.parametrize("name", [name for name in SCALERS if not name.startswith(("rows", "bin"))])
def test_scalers_pass_gaps_on(name, tmp_path):
    gaps = TRAIN.copy()
    gaps[::7, 2] = np.nan
    fresh = FRESH.copy()
    fresh[::5, 1:3] = np.nan
    assert_serves(SCALERS[name].fit(gaps), tmp_path, gaps, fresh)


@some("seed", range(6), 2)
def test_any_chain_of_steps(seed, tmp_path):
    """Seeded: three steps of any kind, one after the other or side by side."""
    rng = np.random.default_rng(seed)
    pool = [
        *SCALERS.values(),
        PCA(3),
        SelectKBest(k=3),
        SplineTransformer(3, degree=2),
        PowerTransformer(),
    ]
    pool += [
        QuantileTransformer(n_quantiles=30),
        FunctionTransformer(np.arcsinh),
        PolynomialFeatures(2),
    ]
    steps = [clone(pool[at]) for at in rng.choice(len(pool), 4, replace=False)]
    model = make_pipeline(steps[0], make_union(steps[1], steps[2]), steps[3])
    assert_serves(model.fit(TRAIN, LABELS), tmp_path)


@pytest.mark.parametrize(
    "before", [OneHotEncoder(dtype=int, handle_unknown="ignore"), OrdinalEncoder(dtype=np.int64)]
)
def test_a_norm_of_integers(before, tmp_path):
    X, y = shops()
    pipeline = make_pipeline(before, Normalizer(), LogisticRegression()).fit(X[["shop"]], y)
    _, model = saved(pipeline, X[["shop"]], tmp_path)
    np.testing.assert_allclose(
        model.predict_proba(X[["shop"]]), pipeline.predict_proba(X[["shop"]]), atol=1e-6
    )


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_a_row_of_zeros_has_no_norm(norm, tmp_path):
    X, y = wine()
    pipeline = make_pipeline(Normalizer(norm), LogisticRegression()).fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    for rows in (0 * X[:3], np.full_like(X[:3], 1e-30), np.full_like(X[:3], 1e-14), -X[:9]):
        np.testing.assert_allclose(
            model.predict_proba(rows), pipeline.predict_proba(rows), atol=1e-9
        )

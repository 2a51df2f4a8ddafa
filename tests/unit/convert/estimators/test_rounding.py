"""Columns that libraries round otherwise, in front of thresholds."""

import numpy as np
import pandas as pd
import pytest
from helpers.answers import check
from helpers.examples import some
from helpers.packages import opened, saved
from helpers.transformers import FRESH, LABELS, TRAIN
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from xgboost import XGBClassifier

SEED = {"random_state": 0}
STANDARD = StandardScaler()
BOOSTED = HistGradientBoostingClassifier(max_iter=10)
BINNED = KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf", encode="onehot-dense")


def as_array(rows):
    return rows.astype(np.float32)


def as_frame(rows):
    """Numbers as a memory saver leaves them."""
    frame = pd.DataFrame(rows, columns=[f"c{i}" for i in range(rows.shape[1])])
    return frame.assign(c3=rows[:, 3] // 40).astype("float32").astype({"c3": "int8"})


def as_mixed(rows):
    return as_frame(rows).astype({"c1": "float64", "c3": "int64"})


def with_gaps(rows):
    frame = as_frame(rows)
    frame.loc[::3, "c0"] = np.nan
    return frame


def beside_kinds(step):
    """A step over numbers, beside a column of codes, and one that passes."""
    kinds = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (step, ["c0", "c1", "c2"]), (kinds, ["c3"]), ("passthrough", ["c4"])
    )


def ratios(rows):
    return np.column_stack([rows[:, 0] / rows[:, 1], rows[:, 2] - rows[:, 3], np.sqrt(rows[:, 4])])


JUMPING = {
    "standard": (StandardScaler(), BOOSTED, as_array),
    "range, cut off": (MinMaxScaler((-1, 1), clip=True), XGBClassifier(n_estimators=10), as_frame),
    "largest": (MaxAbsScaler(), BOOSTED, as_frame),
    "robust": (RobustScaler(), RandomForestClassifier(10, **SEED), as_array),
    "rows, max": (Normalizer("max"), BOOSTED, as_array),
    "products": (make_pipeline(StandardScaler(), PolynomialFeatures(3)), BOOSTED, as_frame),
    "bins": (make_pipeline(StandardScaler(), BINNED, StandardScaler()), BOOSTED, as_array),
    "bins and scores": (make_union(StandardScaler(), BINNED), BOOSTED, as_array),
    "binary": (make_pipeline(StandardScaler(), Binarizer(threshold=0.1)), BOOSTED, as_frame),
    "imputed": (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), BOOSTED, with_gaps),
    "missing": (make_pipeline(make_union(SimpleImputer(), MissingIndicator()), StandardScaler()), BOOSTED, with_gaps),
    "beside kinds": (beside_kinds(StandardScaler()), BOOSTED, as_frame),
    "beside kinds, all scaled": (make_pipeline(beside_kinds(MinMaxScaler()), StandardScaler()), BOOSTED, as_frame),
    "small ones alone": (make_column_transformer((STANDARD, ["c3"]), (MinMaxScaler(), ["c0"])), BOOSTED, as_frame),
    "weight": (FeatureUnion([("a", STANDARD), ("b", MaxAbsScaler())], transformer_weights={"a": 3}), BOOSTED, as_frame),
    "selected": (make_pipeline(VarianceThreshold(), SelectKBest(k=3), StandardScaler()), BOOSTED, as_frame),
    "roots": (make_pipeline(FunctionTransformer(np.sqrt), StandardScaler()), BOOSTED, as_array),
    "roots of some": (FunctionTransformer(np.sqrt), BOOSTED, as_mixed),
    "ratios": (FunctionTransformer(ratios), BOOSTED, as_array),
    "quantiles": (QuantileTransformer(n_quantiles=40), BOOSTED, as_array),
    "splines": (SplineTransformer(), BOOSTED, as_array),
    "mixed": (StandardScaler(), BOOSTED, as_mixed),
    "mixed, beside kinds": (beside_kinds(RobustScaler()), BOOSTED, as_mixed),
}  # fmt: skip


@some("name", JUMPING, 7)
def test_steps_of_float32_before_thresholds_are_equal_to_the_bit(name, tmp_path):
    """Thresholds are values of training: one bit more, and a row goes to the other side."""
    step, last, shape = JUMPING[name]
    train, fresh = shape(TRAIN), shape(FRESH)
    model = make_pipeline(clone(step), clone(last)).fit(train, LABELS)
    manifest, package = saved(model, train, tmp_path)
    assert manifest.parity.label_flips == 0
    for rows in (train, fresh):
        answer = package.run(rows)
        np.testing.assert_array_equal(answer["label"], model.predict(rows))
        np.testing.assert_allclose(answer["probabilities"], model.predict_proba(rows), rtol=1e-6)


def test_numbers_of_float64_for_a_column_of_float32_are_rounded(tmp_path):
    train = as_mixed(TRAIN)
    model = make_pipeline(StandardScaler(), BOOSTED).fit(train, LABELS)
    package = opened(model, train, tmp_path)
    wide = train.assign(c0=train["c0"].astype("float64") * 1.0000000001)
    np.testing.assert_array_equal(package.predict_proba(wide), package.predict_proba(train))


def light(kind="Regressor", **options):
    lightgbm = pytest.importorskip("lightgbm")
    return getattr(lightgbm, f"LGBM{kind}")(
        **{"n_estimators": 20, "n_jobs": 1, "verbose": -1} | options
    )


def whole_hours(rows):
    """A day's circle, and beside it a number."""
    turn = 2 * np.pi * rows[:, :1] / 24
    return np.hstack([np.sin(turn), np.cos(turn), rows[:, 1:]])


ROUNDED = {
    "hours": FunctionTransformer(whole_hours),
    "mean": FunctionTransformer(lambda rows: rows.mean(axis=1, keepdims=True)),
    "sum": FunctionTransformer(lambda rows: np.sum(rows / 7, axis=1, keepdims=True)),
    "norm": Normalizer(),
    "norm, l1": Normalizer("l1"),
    "logarithm": FunctionTransformer(np.log1p),
    "bearing": FunctionTransformer(lambda rows: np.arctan2(rows[:, 1:2] + 0.318, rows[:, 2:])),
    "angle": FunctionTransformer(lambda rows: np.arcsin(rows / 500)),
    "length": FunctionTransformer(lambda rows: np.hypot(rows[:, 1:2] / 7, rows[:, 2:])),
    "power": PowerTransformer(),
    "splines": SplineTransformer(n_knots=4, degree=2, knots="quantile"),
    "normal": QuantileTransformer(n_quantiles=50, output_distribution="normal"),
}
LASTS = {
    "histogram": lambda: HistGradientBoostingRegressor(max_iter=10, **SEED),
    "bins": lambda: make_pipeline(KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf"), Ridge()),
    "forest": lambda: RandomForestRegressor(5, **SEED),
    "light": lambda: light(n_estimators=5),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Bins whose width are too small")
@pytest.mark.parametrize("jump", LASTS)
@some("name", ROUNDED, 2)
def test_rows_at_a_threshold_behind_what_libraries_round_otherwise(name, jump, tmp_path):
    """Many rows have the value of a threshold, and fresh rows those of training."""
    rng = np.random.default_rng(0)
    X = np.c_[rng.integers(0, 24, 4000), np.round(rng.gamma(2, 9, 4000), 1), rng.poisson(9, 4000)]
    X = X + np.array([0, 1, 1])
    y = np.where(X[:, 0] % 12 > 5, X[:, 1], X[:, 2]) + rng.normal(size=4000)
    model = make_pipeline(clone(ROUNDED[name]), LASTS[jump]()).fit(X[:2000], y[:2000])
    _, packed = saved(model, X[:300], tmp_path)
    np.testing.assert_allclose(packed.predict(X), model.predict(X), rtol=1e-9)


def test_the_hour_of_a_frame_is_a_circle(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.integers(0, 24, 2000), "far": rng.normal(size=2000)})
    y = (frame["hour"] % 12 > 5) + frame["far"] > 1
    circle = FunctionTransformer(
        lambda X: np.column_stack(
            [np.sin(2 * np.pi * X["hour"] / 24), np.cos(2 * np.pi * X["hour"] / 24)]
        )
    )
    columns = make_column_transformer((circle, ["hour"]), remainder="passthrough")
    model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10, **SEED))
    manifest, packed = saved(model.fit(frame, y), frame[:300], tmp_path)
    assert manifest.parity.label_flips == 0
    np.testing.assert_allclose(packed.predict_proba(frame), model.predict_proba(frame), rtol=1e-13)


@pytest.mark.parametrize(
    "estimator",
    [
        GaussianNB(),
        BernoulliRBM(4, random_state=0),
        PowerTransformer(),
        PowerTransformer(standardize=False),
    ],
)
def test_what_was_fitted_on_float32_is_rounded_where_the_source_rounds(
    rows, target, fresh, tmp_path, estimator
):
    single = np.expm1(rows).astype(np.float32)
    check(estimator.fit(single, target > 0), single, fresh.astype(np.float32), tmp_path / "a.mk")

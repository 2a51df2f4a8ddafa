"""Boosted trees of all libraries: categories of every dtype, objectives, linear leaves, and any nesting of them."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from helpers.packages import opened
from helpers.rows import tenths
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError

catboost = pytest.importorskip("catboost")
pytestmark = pytest.mark.filterwarnings("ignore")
LIGHT = {"n_estimators": 10, "verbose": -1, "n_jobs": 1, "min_child_samples": 5}
HEAVY = {"n_estimators": 10, "n_jobs": 1, "max_depth": 4}
BY_SETS = HEAVY | {"enable_categorical": True, "max_cat_to_onehot": 2}
CATS = {"iterations": 10, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


def saved(model, X, tmp_path):
    mk.save(model, tmp_path / "m.mk", example=X[:300], name="m", version="1")
    return mk.load(tmp_path / "m.mk")


def agree(packed, model, rows, rtol=1e-12):
    """In float64, unless the source is XGBoost, whose own numbers are float32."""
    if not is_classifier(model):
        np.testing.assert_allclose(packed.predict(rows), model.predict(rows), rtol=rtol)
        return
    np.testing.assert_array_equal(packed.predict(rows), model.predict(rows))
    np.testing.assert_allclose(
        packed.predict_proba(rows), model.predict_proba(rows), rtol=rtol, atol=1e-15
    )


def with_gaps(frame, seed=0):
    rng = np.random.default_rng(seed)
    changed = {}
    for name, column in frame.items():
        gone = rng.random(len(frame)) < 0.1
        changed[name] = column if column.dtype == bool else column.mask(gone)
    return pd.DataFrame(changed)


def shops(n=600, seed=0):
    """A frame of every kind of category and column, and a number, two and three classes of it."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "x": rng.normal(size=n).round(1),
            "size": pd.Categorical(rng.choice([10, 20, 35, 70, 900], n)),
            "shop": pd.Categorical(rng.choice(["ä", "b", "c", "d", "e", "f"], n)),
            "level": pd.Categorical(
                rng.choice(["low", "mid", "high"], n), ["low", "mid", "high"], ordered=True
            ),
            "open": rng.random(n) < 0.5,
            "count": pd.array(rng.integers(0, 9, n), dtype="Int64"),
            "z": rng.normal(size=n).round(2),
        }
    )
    said = X["size"].cat.codes + X["shop"].cat.codes % 3 + X["level"].cat.codes * X["open"]
    y = (said + X["x"]).to_numpy(float) + 0.1 * rng.normal(size=n)
    return X, y, (y > np.median(y)).astype(int), np.digitize(y, np.quantile(y, [0.3, 0.7]))


def unseen(X):
    """The same rows with values in the columns of categories that no fit has seen."""
    changed = X.copy()
    changed["size"] = pd.Categorical(np.resize([10, 11, 900, 1000], len(X)))
    changed["shop"] = pd.Categorical(np.resize(["b", "Z", "ä", ""], len(X)))
    changed["level"] = pd.Categorical(np.resize(["high", "none"], len(X)))
    return changed


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    "kind", [lightgbm.LGBMRegressor, lightgbm.LGBMClassifier, "hist regressor", "hist classifier"]
)
def test_categories_of_every_dtype(kind, gaps, tmp_path):
    """Of strings, whole numbers and booleans, ordered too; what fit did not see is missing."""
    X, y, two, three = shops()
    X["both"] = pd.Categorical(X["z"] > 0)
    X = with_gaps(X) if gaps else X
    if isinstance(kind, str):
        made = HistGradientBoostingClassifier if "class" in kind else HistGradientBoostingRegressor
        model = made(max_iter=10).fit(X, three if "class" in kind else y)
    else:
        model = kind(**LIGHT).fit(X, two if "Class" in kind.__name__ else y)
    packed = saved(model, X, tmp_path)
    assert all(column.categories is None for s in packed.signature.inputs for column in s.columns)
    for rows in (X, with_gaps(X, 1), unseen(X)):
        agree(packed, model, rows)


@pytest.mark.parametrize("most", [2, 50])
@pytest.mark.parametrize("target", ["number", "two", "three"])
def test_categories_of_xgboost(most, target, tmp_path):
    """What the library refuses, the package refuses; the order of the categories does not matter."""
    X, y, two, three = shops()
    X["shop"] = X["shop"].cat.rename_categories({"ä": "a"})  # of others it finds not even its own
    options = BY_SETS | {"max_cat_to_onehot": most}
    kind = xgboost.XGBRegressor if target == "number" else xgboost.XGBClassifier
    model = kind(**options).fit(with_gaps(X), {"number": y, "two": two, "three": three}[target])
    packed = saved(model, with_gaps(X), tmp_path)
    other = X.assign(shop=pd.Categorical(X["shop"], list("fedcba")))
    for rows in (X, with_gaps(X, 1), other):
        agree(packed, model, rows, rtol=3e-7)
    with pytest.raises(SignatureError, match="unknown category 'Z' in rows 1, 5"):
        packed.predict(unseen(X)[["x", "size", "shop", "level", "open", "count", "z"]])


@pytest.mark.parametrize("library", ["lightgbm", "xgboost", "hist"])
def test_hundreds_of_categories(library, tmp_path):
    X, y, _, _ = shops(900)
    rng = np.random.default_rng(1)
    X["shop"] = pd.Categorical(rng.choice([f"s{i}" for i in range(200)], len(X)))
    y = y + X["shop"].cat.codes.to_numpy() % 5
    model = {
        "lightgbm": lightgbm.LGBMRegressor(**LIGHT, min_data_per_group=2, max_cat_threshold=90),
        "xgboost": xgboost.XGBRegressor(**BY_SETS),
        "hist": HistGradientBoostingRegressor(max_iter=10),
    }[library].fit(X, y)
    agree(saved(model, X, tmp_path), model, with_gaps(X), 3e-7 if library == "xgboost" else 1e-12)


def test_a_booster_takes_its_categories(tmp_path):
    X, y, _, _ = shops()
    data = lightgbm.Dataset(X, y)
    booster = lightgbm.train({"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}, data, 8)
    np.testing.assert_allclose(
        saved(booster, X, tmp_path).predict(unseen(X)), booster.predict(unseen(X)), rtol=1e-12
    )


def test_an_example_of_other_dtypes_is_refused(tmp_path):
    X, y, _, _ = shops()
    booster = lightgbm.LGBMRegressor(**LIGHT).fit(X, y).booster_
    with pytest.raises(ConversionError, match="of the same columns, dtypes") as caught:
        saved(booster, X.assign(size=X["size"].astype(int)), tmp_path)
    assert "categorical_feature do not match" in str(caught.value.__cause__)


@pytest.fixture(scope="module")
def numbers():
    """Numbers with one decimal and gaps, and rows at, beside and far from every threshold."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 5)).round(1)
    X[:, 3] = rng.integers(0, 5, 500)
    y = X[:, 0] * 2 + X[:, 1] + (X[:, 3] == 2) + 0.2 * rng.normal(size=500)
    X[::11, 2] = np.nan
    values = (np.nan, 0.0, -0.0, 24.3, 1e6, -1e6)
    strange = [np.where(np.arange(5) == i, value, X[::9]) for i in range(5) for value in values]
    beside = [np.nextafter(X, np.inf), np.nextafter(np.float32(X), np.float32(-np.inf))]
    return X, y, np.concatenate([X, *beside, *strange])


OF_LIGHTGBM = {
    "regression_l1": lambda y: y,
    "huber": lambda y: y,
    "fair": lambda y: y,
    "poisson": lambda y: np.rint(np.abs(y)),
    "quantile": lambda y: y,
    "mape": lambda y: np.abs(y) + 1,
    "gamma": lambda y: np.abs(y) + 1,
    "tweedie": np.abs,
    "cross_entropy": lambda y: 1 / (1 + np.exp(-y)),
    "cross_entropy_lambda": lambda y: 1 / (1 + np.exp(-y)),
}


@pytest.mark.parametrize("objective", OF_LIGHTGBM)
def test_every_objective_of_lightgbm(objective, numbers, tmp_path):
    X, y, rows = numbers
    model = lightgbm.LGBMRegressor(objective=objective, **LIGHT)
    model.fit(X, OF_LIGHTGBM[objective](y))
    packed = saved(model, X, tmp_path)
    agree(packed, model, rows)
    np.testing.assert_allclose(
        packed.predict(rows.astype(np.float32)), model.predict(rows.astype(np.float32)), rtol=1e-12
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"boosting_type": "dart"},
        {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
        {"linear_tree": True},
        {"is_unbalance": True},
    ],
    ids=lambda options: next(iter(options.items()))[1],
)
def test_every_booster_of_lightgbm(options, classes, numbers, tmp_path):
    X, y, rows = numbers
    model = lightgbm.LGBMClassifier(**LIGHT, **options)
    model.fit(X, np.digitize(y, [0] if classes == 2 else [-1, 1]))
    agree(saved(model, X, tmp_path), model, rows)


def test_linear_trees_whose_columns_are_missing(numbers, tmp_path):
    X, y, rows = numbers
    model = lightgbm.LGBMRegressor(linear_tree=True, **LIGHT).fit(X, y)
    agree(saved(model, X, tmp_path), model, rows)


OF_CATBOOST = {
    "LogLinQuantile": np.abs,
    "MultiQuantile:alpha=0.1,0.9": lambda y: y,
    "Expectile:alpha=0.3": lambda y: y,
    "Cox": lambda y: np.abs(y) + 1,
    "LogCosh": lambda y: y,
    "MultiRMSEWithMissingValues": lambda y: np.c_[y, -y],
}


@pytest.mark.parametrize("loss", OF_CATBOOST)
def test_further_losses_of_catboost(loss, numbers, tmp_path):
    X, y, rows = numbers
    model = catboost.CatBoostRegressor(loss_function=loss, **CATS).fit(X, OF_CATBOOST[loss](y))
    agree(saved(model, X, tmp_path), model, rows)


@pytest.mark.parametrize(
    "loss", ["squared_error", "absolute_error", "gamma", "poisson", "quantile"]
)
def test_every_loss_of_histograms(loss, numbers, tmp_path):
    X, y, rows = numbers
    options = {"quantile": 0.3} if loss == "quantile" else {}
    monotonic = [1, 0, 0, 0, -1]
    model = HistGradientBoostingRegressor(
        loss=loss, max_iter=10, monotonic_cst=monotonic, early_stopping=True, **options
    )
    model.fit(X, np.abs(y) + 1)
    agree(saved(model, X, tmp_path), model, rows)


def light(kind="Classifier"):
    return getattr(lightgbm, f"LGBM{kind}")(**LIGHT)


def heavy(kind="Classifier"):
    return getattr(xgboost, f"XGB{kind}")(**HEAVY)


def cats(kind="Classifier"):
    return getattr(catboost, f"CatBoost{kind}")(**CATS)


NESTED = {
    "voting": lambda: VotingClassifier(
        [("l", light()), ("x", heavy()), ("c", cats())], voting="soft"
    ),
    "hard votes": lambda: VotingClassifier([("l", light()), ("x", heavy())]),
    "stacking": lambda: StackingClassifier(
        [("x", heavy()), ("c", cats()), ("l", light())],
        LogisticRegression(max_iter=2000),
        cv=2,
        passthrough=False,
    ),
    "on top": lambda: StackingClassifier(
        [("x", heavy()), ("c", cats())], heavy(), cv=2, passthrough=True
    ),
    "sigmoid": lambda: CalibratedClassifierCV(cats(), cv=2),
    "isotonic": lambda: CalibratedClassifierCV(heavy(), method="isotonic", cv=2),
    "bagging": lambda: BaggingClassifier(heavy(), n_estimators=3, random_state=0),
    "scaled": lambda: make_pipeline(StandardScaler(), heavy()),
}


@pytest.mark.parametrize("name", NESTED)
def test_any_nesting_of_classifiers(name, numbers, tmp_path):
    X, y, rows = numbers
    given = np.nan_to_num(X)
    rows = np.nan_to_num(rows[:1500])
    model = NESTED[name]().fit(given, np.digitize(y, [-1, 1]))
    packed = saved(model, given, tmp_path)
    if name == "hard votes":
        np.testing.assert_array_equal(packed.predict(rows), model.predict(rows))
        return
    agree(packed, model, rows, rtol=1e-12 if name == "sigmoid" else 1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: MultiOutputRegressor(heavy("Regressor")),
        lambda: MultiOutputRegressor(light("Regressor")),
        lambda: MultiOutputRegressor(cats("Regressor")),
    ],
)
def test_several_targets_of_boosted_trees(build, numbers, tmp_path):
    X, y, rows = numbers
    model = build().fit(X, np.c_[y, -2 * y])
    agree(saved(model, X, tmp_path), model, rows, rtol=1e-6)


def test_a_transformed_target_over_a_frame_of_categories(tmp_path):
    X, y, *_ = shops()
    inner = xgboost.XGBRegressor(**BY_SETS)
    model = TransformedTargetRegressor(inner, func=np.log1p, inverse_func=np.expm1)
    model.fit(X, np.abs(y))
    agree(saved(model, X, tmp_path), model, X, rtol=1e-5)


def test_votes_over_a_frame_of_categories(tmp_path):
    X, y, _, three = shops()
    parts = [("l", light()), ("h", HistGradientBoostingClassifier(max_iter=10))]
    model = VotingClassifier(parts, voting="soft").fit(with_gaps(X), three)
    agree(saved(model, with_gaps(X), tmp_path), model, unseen(with_gaps(X, 1)))
    parts = [("x", xgboost.XGBRegressor(**BY_SETS)), ("l", light("Regressor"))]
    X = X.drop(columns="shop")
    regressor = VotingRegressor(parts).fit(X, y)
    agree(saved(regressor, X, tmp_path), regressor, with_gaps(X), rtol=3e-7)


@pytest.mark.parametrize("build", [light, heavy, cats])
def test_behind_an_encoder(build, tmp_path):
    X, _, two, _ = shops()
    X = X.assign(shop=X["shop"].astype(str)).drop(columns=["level", "size", "count"])
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["shop"]),
        remainder="passthrough",
    )
    model = make_pipeline(columns, build()).fit(X, two)
    packed = saved(model, X, tmp_path)
    rows = X.assign(shop=np.resize(["ä", "b", "new"], len(X)), x=X["x"].where(X["x"] > -1))
    agree(packed, model, rows, rtol=5e-7 if build is heavy else 1e-12)


@pytest.mark.parametrize("build", [light, heavy, cats])
def test_dummies_and_nullable_numbers(build, tmp_path):
    X, _, two, _ = shops()
    frame = pd.get_dummies(X[["x", "shop", "count"]])
    rows = frame.assign(count=frame["count"].mask(frame["x"] > 1))
    if build is cats:  # which refuses a gap in a nullable column itself
        frame["count"] = frame["count"].astype(int)
        rows = frame
    model = build().fit(frame, two)
    agree(saved(model, frame, tmp_path), model, rows, rtol=5e-7 if build is heavy else 1e-12)


def test_the_columns_of_an_example_are_those_of_fit(tmp_path):
    X, _, two, _ = shops()
    frame = X[["x", "z"]]
    for build in (light, heavy, cats):
        model = build().fit(frame, two)
        with pytest.raises(
            ConversionError,
            match=r"example (lacks columns that|has its columns in another order than) fit",
        ):
            saved(model, frame.rename(columns={"x": "y"}), tmp_path)


@pytest.mark.parametrize("name", ["part", "part one", "part.one", "größe-1", "x1", "X"])
@pytest.mark.parametrize("model", [
    catboost.CatBoostRegressor(**CATS, cat_features=[1]),
    xgboost.XGBRegressor(**BY_SETS),
    lightgbm.LGBMRegressor(**LIGHT),
], ids=["catboost", "xgboost", "lightgbm"])  # fmt: skip
def test_a_column_of_categories_has_any_name(model, name, tmp_path):
    rng = np.random.default_rng(0)
    kinds = pd.Categorical(rng.choice(["Mitte", "Süd", "x"], 400))
    rows = pd.DataFrame({"a b": rng.normal(size=400), name: kinds})
    model.fit(rows, rows["a b"] + kinds.codes)
    agree(saved(model, rows, tmp_path), model, rows)


@pytest.mark.parametrize("library", ["xgboost", "catboost"])
def test_thresholds_on_scores_of_other_libraries(library, tmp_path):
    found = pytest.importorskip(library)
    X, y = tenths(200, 2)
    inner = (
        found.XGBClassifier(n_estimators=3, max_depth=2)
        if library == "xgboost"
        else found.CatBoostClassifier(iterations=3, depth=2, verbose=0, allow_writing_files=False)
    )
    score = float(np.median(inner.fit(X, y).predict_proba(X)[:, 1]))
    # A number of Python is compared in the dtype of the scores, one of numpy in its own.
    for threshold in (score, np.float64(score), 0.3):
        fitted = FixedThresholdClassifier(inner, threshold=threshold).fit(X, y)
        with opened(fitted, X, tmp_path) as model:
            assert (model.predict(X) == fitted.predict(X)).all()

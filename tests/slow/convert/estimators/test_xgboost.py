"""XGBoost models of every objective, and Boosters: a package answers what `predict` of the very object answers."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.kinds import cancer, diabetes, wine, wine_holes
from helpers.packages import opened
from helpers.strangers import raw_objective
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError

xgboost = pytest.importorskip("xgboost")
lightgbm = pytest.importorskip("lightgbm")
FEW = {"n_estimators": 8, "max_depth": 3, "n_jobs": 1}
QUIET = {"verbose": -1, "num_threads": 1}
PROBABILITIES = ("binary:logistic", "multi:softprob")
STACKED = [("first", xgboost.XGBClassifier(missing=-1.0, **FEW))]
ODD = [0.0, -0.0, 1e-46, -1e-46, 5e-324, 1e-310, 1e-40, 1e-300, -1.0, 1.0, -999.0, np.nan]


@pytest.fixture(scope="module")
def numbers():
    """Numbers with one decimal, a target, and every other row for training."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5)).round(1)
    X[:, 3] = rng.integers(0, 6, 600)
    return X, X[:, 0] + X[:, 1] * X[:, 3] / 3 + 0.3 * rng.normal(size=600)


def strange(X):
    """Rows as they are, with one column after the other missing, whole, negative and large."""
    changed = [X]
    for i in range(X.shape[1]):
        for value in (np.nan, 0.0, -0.5, 3.5, -999.0, 1e6):
            rows = X[::7].astype(float)
            rows[:, i] = value
            changed.append(rows)
    return np.concatenate(changed)


OBJECTIVES = {
    "reg:squarederror": lambda y: y,
    "reg:squaredlogerror": np.abs,
    "reg:pseudohubererror": lambda y: y,
    "reg:absoluteerror": lambda y: y,
    "reg:logistic": lambda y: 1 / (1 + np.exp(-y)),
    "reg:gamma": lambda y: np.abs(y) + 0.1,
    "reg:tweedie": np.abs,
    "count:poisson": lambda y: np.rint(np.abs(y)),
    "survival:cox": lambda y: np.abs(y) + 0.1,
    "binary:logistic": lambda y: y > 0,
    "binary:logitraw": lambda y: y > 0,
    "binary:hinge": lambda y: y > 0,
    "multi:softprob": lambda y: np.digitize(y, [-0.8, 0.8]),
    "multi:softmax": lambda y: np.digitize(y, [-0.8, 0.8]),
    "rank:pairwise": lambda y: np.digitize(y, [-0.8, 0.8]),
    "rank:ndcg": lambda y: np.digitize(y, [-0.8, 0.8]),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_booster_of_xgboost_answers_as_its_predict(objective, numbers, tmp_path):
    X, y = numbers
    data = xgboost.DMatrix(X[::2], OBJECTIVES[objective](y)[::2])
    if objective.startswith("rank"):
        data.set_group([30] * 10)
    classes = {"num_class": 3} if objective.startswith("multi") else {}
    booster = xgboost.train(
        {"objective": objective, "max_depth": 3, "nthread": 1} | classes, data, 8
    )
    model = opened(booster, X[::2], tmp_path)
    (output,) = model.signature.outputs
    assert output.name == ("probability" if objective in PROBABILITIES else "prediction")
    assert model.signature.classes is None
    rows = strange(X[1::2])
    expected = booster.predict(xgboost.DMatrix(rows))
    got = model.predict(rows)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(got, expected, rtol=5e-7)


def boosters(classes):
    X, y = wine() if classes == 3 else cancer()
    X = X[:200, :4]
    y = y[:200]
    multi = {"num_class": 3} if classes == 3 else {}
    heavy = {"objective": "multi:softprob" if multi else "binary:logistic", "nthread": 1}
    light = QUIET | {"objective": "multiclass" if multi else "binary"}
    first = xgboost.train(heavy | multi, xgboost.DMatrix(X, y), 5)
    second = lightgbm.train(light | multi, lightgbm.Dataset(X, y), 5)
    return X, {
        "xgboost": (first, first.predict(xgboost.DMatrix(X))),
        "lightgbm": (second, second.predict(X)),
    }


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_probabilities_of_a_booster_are_explained(library, classes, tmp_path):
    X, found = boosters(classes)
    booster, expected = found[library]
    model = opened(booster, X, tmp_path)
    explanation = mk.Explainer(model, background=X[:50]).explain(X[:5])
    assert explanation.method == "trees"
    assert explanation.output_space == "raw_score"
    margin = explanation.base_values + explanation.values.sum(axis=1)
    shares = (
        np.exp(margin) / np.exp(margin).sum(axis=1, keepdims=True)
        if classes == 3
        else 1 / (1 + np.exp(-margin))
    )
    np.testing.assert_allclose(np.squeeze(shares), expected[:5], rtol=2e-6)
    sampled = mk.Explainer(
        model, background=X[:20], method="sampling", output="probability", budget=500
    )
    assert sampled.explain(X[:2]).output_space == "probability"


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_booster_is_the_same_in_a_joblib_package(library, classes, tmp_path):
    X, found = boosters(classes)
    booster, expected = found[library]
    model = opened(booster, X, tmp_path, format="joblib")
    assert model.signature.output_names == ("probability",)
    np.testing.assert_array_equal(model.predict(X), expected)


def early(X, y, trees=200):
    held = [(X[1::2], y[1::2])]
    estimator = xgboost.XGBClassifier(
        n_estimators=trees, num_parallel_tree=2, subsample=0.7, early_stopping_rounds=2
    )
    return estimator.fit(X[::2], y[::2], eval_set=held, verbose=False)


def test_an_estimator_stops_at_its_best_iteration_and_a_booster_does_not(tmp_path):
    X, y = wine()
    estimator = early(X, y)
    booster = estimator.get_booster()
    assert estimator.best_iteration + 1 < booster.num_boosted_rounds()
    np.testing.assert_allclose(
        opened(estimator, X, tmp_path).predict_proba(X), estimator.predict_proba(X), atol=1e-6
    )
    whole = booster.predict(xgboost.DMatrix(X))
    assert np.abs(whole - estimator.predict_proba(X)).max() > 1e-3
    np.testing.assert_allclose(opened(booster, X, tmp_path).predict(X), whole, rtol=2e-6)
    assert booster.best_iteration == estimator.best_iteration


def booleans(form):
    rng = np.random.default_rng(0)
    frame = pd.get_dummies(
        pd.DataFrame({"fare": rng.gamma(2, 10, 400).round(1), "sex": rng.choice(["m", "f"], 400)})
    )
    y = ((frame["sex_m"] & (frame["fare"] > 15)) ^ (rng.random(400) < 0.1)).astype(int)
    return (frame if form == "frame" else frame[["sex_m", "sex_f"]].to_numpy()), y


@pytest.mark.parametrize("form", ["frame", "array"])
def test_xgboost_on_booleans(form, tmp_path):
    X, y = booleans(form)
    estimator = xgboost.XGBClassifier(**FEW).fit(X, y)
    model = opened(estimator, X, tmp_path)
    assert {column.dtype for column in model.signature.inputs[0].columns} <= {"bool", "float64"}
    np.testing.assert_allclose(model.predict_proba(X), estimator.predict_proba(X), rtol=2e-6)
    assert mk.Explainer(model, background=X[:50]).explain(X[:3]).method == "trees"


@pytest.mark.parametrize("types", ["i", "int", "q", "c"])
def test_a_booster_whose_columns_have_types(types, tmp_path):
    """The library writes the condition of an indicator nowhere but in its own model."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2 if types == "i" else 12, (400, 3)).astype(float)
    y = (X[:, 0] % 3 + X[:, 1] > 1).astype(int)
    data = {"feature_types": [types] * 3, "enable_categorical": True}
    options = {"objective": "binary:logistic", "max_cat_to_onehot": 1, "nthread": 1}
    booster = xgboost.train(options, xgboost.DMatrix(X, y, **data), 8)
    rows = strange(X)
    got = opened(booster, X, tmp_path).predict(rows)
    np.testing.assert_allclose(got, booster.predict(xgboost.DMatrix(rows, **data)), rtol=2e-6)


@pytest.mark.parametrize("missing", [-999.0, 0.0, 2.5])
def test_a_number_that_stands_for_a_missing_value(missing, numbers, tmp_path):
    """NaN is missing as well, whatever else is."""
    X, y = numbers
    holed = np.where(np.random.default_rng(0).random(X.shape) < 0.2, missing, X)
    estimator = xgboost.XGBRegressor(**FEW, missing=missing).fit(holed[::2], y[::2])
    rows = strange(holed[1::2])
    model = opened(estimator, holed[::2], tmp_path)
    np.testing.assert_allclose(model.predict(rows), estimator.predict(rows), rtol=2e-6)


@pytest.mark.parametrize(
    ("kind", "options", "target"),
    [
        ("XGBRegressor", {}, "two numbers"),
        ("XGBRegressor", {"multi_strategy": "multi_output_tree"}, "two numbers"),
        (
            "XGBRegressor",
            {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
            "number",
        ),
        ("XGBRegressor", {"base_score": 7.5}, "number"),
        ("XGBRegressor", {"booster": "dart", "rate_drop": 0.5}, "number"),
        ("XGBRegressor", {"booster": "gblinear"}, "number"),
        ("XGBClassifier", {}, "two labels"),
        ("XGBClassifier", {"base_score": 0.05}, "label"),
        ("XGBClassifier", {"objective": "binary:hinge"}, "label"),
        ("XGBClassifier", {"booster": "dart", "rate_drop": 0.5}, "class"),
        ("XGBClassifier", {"booster": "gblinear"}, "class"),
        ("XGBClassifier", {"objective": "multi:softmax"}, "class"),
        ("XGBClassifier", {"num_parallel_tree": 3, "subsample": 0.7}, "class"),
        ("XGBRFRegressor", {}, "number"),
    ],
)
# Two kinds of booster are deprecated.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_kind_of_xgboost(kind, options, target, numbers, tmp_path):
    X, y = numbers
    targets = {
        "number": y,
        "two numbers": np.c_[y, 2 * X[:, 2] - y],
        "label": (y > 0).astype(int),
        "two labels": np.c_[y > 0, X[:, 2] > 0].astype(int),
        "class": np.digitize(y, [-0.8, 0.8]),
    }
    estimator = getattr(xgboost, kind)(**FEW, **options).fit(X[::2], targets[target][::2])
    model = opened(estimator, X[::2], tmp_path)
    rows = strange(X[1::2])
    if target in ("number", "two numbers"):
        np.testing.assert_allclose(
            model.predict(rows), estimator.predict(rows), rtol=2e-6, atol=1e-6
        )
        return
    np.testing.assert_array_equal(model.predict(rows), estimator.predict(rows))
    np.testing.assert_allclose(
        model.run(rows)["probabilities"], estimator.predict_proba(rows), atol=1e-5
    )


def test_a_ranker_of_xgboost_gives_its_scores(numbers, tmp_path):
    X, y = numbers
    ranker = xgboost.XGBRanker(**FEW).fit(X, np.digitize(y, [0]), qid=np.arange(600) // 20)
    np.testing.assert_allclose(
        opened(ranker, X, tmp_path).predict(X), ranker.predict(X), rtol=1e-5, atol=1e-6
    )


def test_many_categories_of_xgboost(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 90, 900)
    X = pd.DataFrame(
        {"shop": pd.Categorical([f"s{code:02}" for code in codes]), "x": rng.normal(size=900)}
    )
    y = (codes % 7 > 3) ^ (X["x"] > 1)
    estimator = xgboost.XGBClassifier(**FEW, enable_categorical=True, max_cat_to_onehot=1).fit(X, y)
    model = opened(estimator, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(X), estimator.predict_proba(X), rtol=2e-6)
    gone = X.assign(shop=pd.Categorical([None] * 900, X["shop"].cat.categories))
    np.testing.assert_allclose(model.predict_proba(gone), estimator.predict_proba(gone), rtol=2e-6)


def test_a_column_may_have_the_name_of_the_output(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "probability": rng.normal(size=300),
            "shop": pd.Categorical(rng.choice(["a", "b", "c"], 300)),
        }
    )
    data = xgboost.DMatrix(X, X["probability"] > 0, enable_categorical=True)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 4)
    np.testing.assert_allclose(
        opened(booster, X, tmp_path).predict(X), booster.predict(data), atol=1e-6
    )


def test_an_objective_that_is_not_known_is_refused(monkeypatch, tmp_path):
    from modelkit.convert.estimators import xgboost as converter

    monkeypatch.delitem(converter.LINKS, "reg:gamma")
    X, y = diabetes()
    estimator = xgboost.XGBRegressor(**FEW, objective="reg:gamma").fit(X, y)
    with pytest.raises(
        ConversionError,
        match="objective='reg:gamma' cannot be converted, for its link is not known",
    ):
        opened(estimator, X, tmp_path)


def test_other_libraries_are_not_asked_for(tmp_path):
    """Of both libraries, neither needs another one to be converted."""
    code = """
import sys
sys.modules["onnxmltools"] = None
import lightgbm, numpy as np, xgboost, modelkit as mk
from sklearn.linear_model import LogisticRegression
from sklearn.ensemble import VotingClassifier
X = np.random.default_rng(0).normal(size=(60, 3))
y = (X[:, 0] > 0).astype(int)
trees = xgboost.XGBClassifier(n_estimators=3, n_jobs=1)
both = VotingClassifier([("a", LogisticRegression()), ("b", trees)], voting="soft")
for model in (LogisticRegression(), trees, both):
    mk.save(model.fit(X, y), sys.argv[1], example=X, name="m", version="1")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.mk")], check=True)


def test_a_ranker_is_converted_with_its_scores(tmp_path):
    X, y = wine_holes()
    ranker = lightgbm.LGBMRanker(n_estimators=3, **QUIET).fit(X, y, group=[len(X)])
    np.testing.assert_allclose(
        opened(ranker, X, tmp_path).predict(X), ranker.predict(X), rtol=1e-13
    )


def test_an_xgboost_model_of_no_round_is_refused(tmp_path):
    booster = xgboost.train({}, xgboost.DMatrix(*diabetes()), 0)
    with pytest.raises(ConversionError, match="it lacks trees; train it for at least one round"):
        opened(booster, diabetes()[0], tmp_path)


def test_a_booster_takes_its_columns_by_name(tmp_path):
    X, y = booleans("frame")
    booster = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(X, y), 5
    )
    model = opened(booster, X, tmp_path)
    np.testing.assert_allclose(
        model.predict(X[X.columns[::-1]]), booster.predict(xgboost.DMatrix(X)), atol=1e-6
    )
    with pytest.raises(SignatureError, match="missing column 'fare'"):
        model.predict(X.drop(columns="fare"))


def shops(n=400):
    """Numbers with zeros among them, and so many shops that their one-hot columns are sparse."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"x": rng.integers(-2, 3, n), "shop": rng.choice([f"s{i}" for i in range(12)], n)}
    )
    return X, (X["shop"].str[1:].astype(int) % 3 + X["x"] > 1).astype(int)


def one_hot(*steps):
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["shop"]), remainder="passthrough"
    )
    return make_pipeline(columns, *steps)


@pytest.mark.parametrize(
    "wrap", [one_hot, lambda last: GridSearchCV(one_hot(last), {}, cv=2)], ids=["alone", "grid"]
)
def test_xgboost_takes_zeros_of_sparse_rows_for_missing_values(wrap, tmp_path):
    X, y = shops()
    pipeline = wrap(xgboost.XGBClassifier(**FEW)).fit(X, y)
    model = opened(pipeline, X, tmp_path)
    for rows in (X, X.assign(x=0), X.assign(shop="unseen")):
        np.testing.assert_allclose(
            model.predict_proba(rows), pipeline.predict_proba(rows), atol=1e-6
        )
    assert mk.Explainer(model, background=X[:50]).explain(X[:3]).method == "trees"
    assert (
        model.manifest.parity.against.split()[1]
        == type(getattr(pipeline, "steps", [(0, pipeline)])[-1][1]).__name__
    )


SPARSE = {
    "a marker": one_hot(xgboost.XGBClassifier(missing=-999.0, **FEW)),
    "scaled": one_hot(MaxAbsScaler(), xgboost.XGBClassifier(missing=1.0, **FEW)),
    "over a norm": one_hot(Normalizer("max"), xgboost.XGBClassifier(**FEW)),
    "products": one_hot(PolynomialFeatures(interaction_only=True), xgboost.XGBClassifier(**FEW)),
    "filled with zeros": one_hot(
        SimpleImputer(strategy="constant", fill_value=0), xgboost.XGBClassifier(**FEW)
    ),
    "a stacking": one_hot(
        StackingClassifier(STACKED, xgboost.XGBClassifier(**FEW), cv=2, passthrough=True)
    ),
    "scaled for LightGBM": one_hot(
        StandardScaler(with_mean=False),
        lightgbm.LGBMClassifier(n_estimators=8, zero_as_missing=True, **QUIET),
    ),
}


@pytest.mark.parametrize("name", SPARSE)
def test_what_a_sparse_row_does_not_store_is_missing_and_a_zero_that_it_stores_is_not(
    name, tmp_path
):
    """The example is of rows without gap and marker: the parity check sees nothing of them."""
    X, y = shops()
    X = X.assign(x=X["x"] + 0.5, z=np.where(X.index % 7, X["x"].astype(float), -999.0))
    pipeline = SPARSE[name].fit(X, y)
    model = opened(pipeline, X[X["z"] > 0][:8], tmp_path)
    rows = pd.concat([X[:8].assign(**{at: odd}) for odd in ODD for at in ("x", "z")])
    if name in ("over a norm", "products"):
        rows = rows.dropna()
    np.testing.assert_allclose(
        model.predict_proba(rows), pipeline.predict_proba(rows), rtol=2e-5, atol=2e-6
    )


@pytest.mark.parametrize("names", [["Zürich", "Genève", "Basel"], ["北京", "上海", "广州"]])
def test_xgboost_takes_no_others_beside_categories_beyond_ascii(names, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"city": pd.Categorical(rng.choice(names, 300)), "x": rng.normal(size=300)})
    y = ((X["city"] == names[0]) ^ (X["x"] > 0)).astype(int)
    estimator = xgboost.XGBClassifier(enable_categorical=True, **FEW).fit(X, y)
    model = opened(estimator, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(X), estimator.predict_proba(X), atol=1e-6)
    with pytest.raises(SignatureError, match="Nowhere"):
        model.predict(X[:1].assign(city="Nowhere"))


def test_the_booster_of_a_classifier_with_an_objective_of_its_own_gives_raw_scores(tmp_path):
    X, y = cancer()
    estimator = lightgbm.LGBMClassifier(n_estimators=5, objective=raw_objective, **QUIET)
    estimator.fit(X, y)
    model = opened(estimator.booster_, X, tmp_path)
    with pytest.warns(UserWarning, match="raw scores"):
        expected = estimator.predict(X)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-12)


def test_xgboost_over_words(tmp_path):
    rng = np.random.default_rng(0)
    words = ["good", "bad", "film", "plot", "actor", "music"]
    texts = [" ".join(rng.choice(words, rng.integers(2, 6))) for _ in range(300)]
    y = np.array(["good" in text and "bad" not in text for text in texts]).astype(int)
    pipeline = make_pipeline(TfidfVectorizer(), xgboost.XGBClassifier(**FEW)).fit(texts, y)
    model = opened(pipeline, texts, tmp_path)
    np.testing.assert_allclose(
        model.predict_proba({"text": texts}), pipeline.predict_proba(texts), atol=1e-6
    )


def _categories(rows):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "letter": rng.choice(list("abcdefgh"), rows),
            "number": np.where(rng.random(rows) < 0.5, 0, np.round(rng.normal(0, 1, rows), 1)),
        }
    )
    y = frame.letter.isin(list("abc")) ^ (frame.number > 0) ^ (rng.random(rows) < 0.1)
    return frame, y.astype(int)


def _boosted():
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=8)


@pytest.mark.parametrize(
    "around",
    [
        lambda x: VotingClassifier([("a", x), ("b", LogisticRegression())], voting="soft"),
        lambda x: StackingClassifier([("a", x)], final_estimator=LogisticRegression(), cv=2),
        lambda x: StackingClassifier([("b", LogisticRegression())], x, cv=2, passthrough=True),
        lambda x: BaggingClassifier(x, n_estimators=2, max_features=0.8, random_state=0),
        lambda x: CalibratedClassifierCV(x, cv=2),
        lambda x: GridSearchCV(x, {}, cv=2),
        OneVsRestClassifier,
        lambda x: FixedThresholdClassifier(x, threshold=0.4),
        lambda x: VotingClassifier([("a", make_pipeline(StandardScaler(with_mean=False), x))]),
    ],
)
def test_zeros_of_sparse_rows_are_missing_to_xgboost_inside_anything(around, tmp_path):
    frame, y = _categories(400)
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["letter"]),
        remainder="passthrough",
        sparse_threshold=1.0,
    )
    fitted = make_pipeline(encoder, around(_boosted())).fit(frame, y)
    with opened(fitted, frame, tmp_path) as model:
        assert (model.predict(frame) == fitted.predict(frame)).all()


def test_xgboost_behind_several_steps_rounds_its_rows_as_the_library_does(tmp_path):
    """Behind an encoder the converter takes numbers of float64 for float32, and left out the cast."""
    xgboost = pytest.importorskip("xgboost")
    frame, _ = _categories(300)
    frame["wide"] = np.random.default_rng(1).normal(size=300)
    y = frame.wide * 3 + frame.number
    encoder = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["letter"]), remainder="passthrough"
    )
    inner = make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=40))
    fitted = make_pipeline(encoder, inner).fit(frame, y)
    scale = inner[0].scale_[-1]
    mean = inner[0].mean_[-1]
    texts = inner[-1].get_booster().trees_to_dataframe()
    splits = texts.Split[texts.Feature == "f9"].to_numpy(np.float64)
    near = np.concatenate([splits + side * np.spacing(np.float32(1)) / 5 for side in (-1, 0, 1)])
    rows = pd.concat([frame.iloc[[0]]] * len(near), ignore_index=True)
    rows["wide"] = near * scale + mean
    with opened(fitted, frame, tmp_path) as model:
        assert model.signature.inputs[-1].dtype == "float64"
        np.testing.assert_allclose(model.predict(rows), fitted.predict(rows), 1e-4, 1e-5)

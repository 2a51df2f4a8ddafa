"""CatBoost models of every loss and form of tree: a package answers as the model does."""

import numpy as np
import pandas as pd
import pytest
from helpers.kinds import cancer, coded, diabetes, wine, wine_holes
from helpers.packages import opened
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import ConversionError

catboost = pytest.importorskip("catboost")
FEW = {"iterations": 8, "depth": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
OF_CATEGORIES = ["stall", "town", "open", "row"]


def agree(model, estimator, rows):
    expected, got = estimator.predict(rows), model.predict(rows)
    if got.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    else:
        np.testing.assert_array_equal(got, expected.reshape(got.shape))
        np.testing.assert_allclose(
            model.run(rows)["probabilities"], estimator.predict_proba(rows), rtol=1e-12
        )


LABELS = {
    "booleans": lambda y: y == 1,
    "strings": lambda y: np.array(["no", "yes", "maybe"])[y],
    "integers": lambda y: y + 7,
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("classes", [2, 3])
def test_labels_of_every_kind(labels, classes, tmp_path):
    X, y = wine_holes() if classes == 3 else cancer()
    estimator = catboost.CatBoostClassifier(**FEW).fit(X, LABELS[labels](y))
    model = opened(estimator, X, tmp_path)
    assert model.classes_.tolist() == estimator.classes_.tolist()
    assert model.predict(X).dtype.kind == {"booleans": "b", "strings": "O", "integers": "i"}[labels]
    agree(model, estimator, X)
    agree(model, estimator, np.where(np.arange(X.size).reshape(X.shape) % 5, X * 1.5, np.nan))


@pytest.mark.parametrize("policy", ["SymmetricTree", "Depthwise", "Lossguide"])
@pytest.mark.parametrize(
    "loss", ["Logloss", "MultiClass", "MultiClassOneVsAll", "MultiLogloss", "CrossEntropy"]
)
@pytest.mark.parametrize("gaps", ["Min", "Max"])
def test_every_loss_of_a_classifier(loss, policy, gaps, tmp_path):
    X, y = wine_holes()
    y = {
        "MultiLogloss": np.c_[y > 0, y > 1].astype(int),
        "Logloss": y > 0,
        "CrossEntropy": y > 0,
    }.get(loss, y)
    estimator = catboost.CatBoostClassifier(
        **FEW, loss_function=loss, grow_policy=policy, nan_mode=gaps
    ).fit(X, y)
    model = opened(estimator, X, tmp_path)
    agree(model, estimator, X)
    agree(model, estimator, wine()[0])


@pytest.mark.parametrize(
    "loss",
    [
        "RMSE",
        "MAE",
        "Quantile:alpha=0.8",
        "Poisson",
        "Tweedie:variance_power=1.5",
        "MultiRMSE",
        "Huber:delta=1",
    ],
)
def test_every_loss_of_a_regressor(loss, tmp_path):
    X, y = diabetes()
    y = np.c_[y, -y] if loss == "MultiRMSE" else y / 100
    estimator = catboost.CatBoostRegressor(**FEW, loss_function=loss).fit(X, y)
    model = opened(estimator, X, tmp_path)
    agree(model, estimator, np.concatenate([X, -X, 3 * X]))
    assert mk.Explainer(model, background=X[:40]).explain(X[:3]).method == "trees"


def test_a_threshold_of_ones_own(tmp_path):
    X, y = cancer()
    estimator = catboost.CatBoostClassifier(**FEW).fit(X, y)
    before = estimator.predict(X)
    estimator.set_probability_threshold(0.8)
    assert (estimator.predict(X) != before).any()
    agree(opened(estimator, X, tmp_path), estimator, X)


def scaled(last):
    return make_pipeline(StandardScaler(), last)


def voting(last):
    parts = [("trees", scaled(last)), ("linear", scaled(LogisticRegression()))]
    return VotingClassifier(parts, voting="soft")


@pytest.mark.parametrize("build", [scaled, voting])
def test_in_a_pipeline(build, tmp_path):
    X, y = wine()
    pipeline = build(catboost.CatBoostClassifier(**FEW)).fit(X[:, :4], y)
    agree(opened(pipeline, X[:, :4], tmp_path), pipeline, X[:, :4] * 1.1)


def test_booleans_among_the_columns(tmp_path):
    X, y = coded()
    frame = pd.DataFrame({"even": X[:, 0] % 2 == 0, "x": X[:, 1], "k": X[:, 0].astype(int)})
    estimator = catboost.CatBoostClassifier(**FEW).fit(frame, y)
    agree(opened(estimator, frame, tmp_path), estimator, frame)


def stalls(n=1200, more=(), seed=0):
    """Categories of strings and whole numbers beside numbers with gaps, and a target of them."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "stall": rng.choice([*"abcdefg", "ä", *more], n),
            "town": rng.choice([*"uvwxyz", *more], n),
            "open": rng.choice(["no", "yes"], n),
            "x": rng.normal(size=n).round(1),
            "row": rng.integers(0, 13 if more else 9, n),
        }
    )
    X.loc[::13, "x"] = np.nan
    said = X["stall"].map(lambda text: sum(map(ord, text)))
    said = said * X["town"].map(lambda text: sum(map(ord, text))) % 5
    y = said + (X["row"] % 2) * (X["x"] > 0) * 2 + (X["open"] == "yes")
    return X, y.to_numpy(float)


STATISTICS = {
    "statistics": {},
    "combinations": {"max_ctr_complexity": 4},
    "counters": {"max_ctr_complexity": 2, "combinations_ctr": ["Counter", "Borders"]},
    "ones of each": {"one_hot_max_size": 50},
    "nested trees": {"grow_policy": "Lossguide", "max_ctr_complexity": 3},
    "gaps above": {"nan_mode": "Max", "max_ctr_complexity": 3},
    "ordered": {"boosting_type": "Ordered", "max_ctr_complexity": 2},
}


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_categories(name, classes, tmp_path):
    """Statistics of the target by category or combination; what fit has not seen has a prior."""
    X, y = stalls()
    options = FEW | {"iterations": 25, "depth": 5, "cat_features": OF_CATEGORIES} | STATISTICS[name]
    if classes:
        model = catboost.CatBoostClassifier(**options)
        model.fit(X, np.digitize(y, [3] if classes == 2 else [1, 4]))
    else:
        model = catboost.CatBoostRegressor(**options).fit(X, y)
    rows = pd.concat([X, stalls(900, ["new", "", "7"], seed=1)[0]], ignore_index=True)
    agree(opened(model, X, tmp_path), model, rows)


@pytest.mark.parametrize("kind", ["Buckets", "BinarizedTargetMeanValue"])
def test_other_statistics(kind, tmp_path):
    X, y = stalls()
    options = {"simple_ctr": [kind], "combinations_ctr": [kind], "max_ctr_complexity": 2}
    model = catboost.CatBoostRegressor(**FEW, **options, cat_features=OF_CATEGORIES).fit(X, y)
    agree(opened(model, X, tmp_path), model, stalls(600, ["new"], seed=1)[0])


@pytest.mark.parametrize("most", [2, 20])
def test_categories_of_every_dtype(most, tmp_path):
    X, y = stalls()
    frame = pd.DataFrame(
        {
            "open": X["open"] == "yes",
            "row": pd.array(X["row"], dtype="Int64"),
            "below": -X["row"],
            "stall": X["stall"].astype("string"),
            "town": X["town"].astype("category"),
            "coded": pd.Categorical(X["row"] * 10),
        }
    )
    options = FEW | {"cat_features": list(frame), "one_hot_max_size": most}
    model = catboost.CatBoostClassifier(**options).fit(frame, y > 3)
    agree(opened(model, frame, tmp_path), model, frame.assign(below=np.resize([-77, -1, 5], 1200)))


def test_categories_below_a_calibration(tmp_path):
    X, y = stalls()
    X["stall"] = X["stall"].astype("category")
    inner = catboost.CatBoostClassifier(**FEW, cat_features=OF_CATEGORIES).fit(X, y > 3)
    model = CalibratedClassifierCV(FrozenEstimator(inner)).fit(X, y > 3)
    agree(opened(model, X, tmp_path), model, stalls(600, ["new"], seed=1)[0])


@pytest.mark.parametrize("most", [2, 50])
def test_an_example_without_a_category_is_refused(most, tmp_path):
    X, y = stalls()
    options = FEW | {"cat_features": OF_CATEGORIES, "one_hot_max_size": most}
    model = catboost.CatBoostRegressor(**options).fit(X, y)
    with pytest.raises(
        ConversionError,
        match=r"has seen \d categories of 'stall' in fit that the example lacks.*such as all rows",
    ):
        opened(model, X[X["stall"] > "d"], tmp_path)


def test_what_is_not_known_is_refused(tmp_path):
    X, y = stalls()
    X["said"] = X["stall"] + " in " + X["town"]
    model = catboost.CatBoostClassifier(**FEW, text_features=["said"])
    model.fit(X[["x", "said"]], y > 3)
    with pytest.raises(ConversionError, match="text_features or embedding_features cannot be"):
        opened(model, X[["x", "said"]], tmp_path)
    model = make_pipeline(
        make_column_transformer(
            (OrdinalEncoder(dtype=int), ["town"]),
            ("passthrough", ["row"]),
            verbose_feature_names_out=False,
        ),
        FunctionTransformer(),
        catboost.CatBoostClassifier(**FEW, cat_features=[0]),
    )
    model.set_output(transform="pandas")
    model.fit(X, y > 3)
    with pytest.raises(
        ConversionError, match="reads categories in 'town', which is not a column of"
    ):
        opened(model, X, tmp_path)


def test_a_deviation_beside_a_mean(tmp_path):
    X, y = coded()
    estimator = catboost.CatBoostRegressor(**FEW, loss_function="RMSEWithUncertainty").fit(X, y)
    np.testing.assert_allclose(
        opened(estimator, X, tmp_path).predict(X * 1.1), estimator.predict(X * 1.1), rtol=1e-12
    )


def test_a_model_of_no_task_answers_with_the_sum_of_its_leaves(tmp_path):
    X, y = coded()
    estimator = catboost.CatBoost(FEW | {"loss_function": "Logloss"}).fit(X, y)
    np.testing.assert_allclose(
        opened(estimator, X, tmp_path).predict(X * 1.1), estimator.predict(X * 1.1), rtol=1e-12
    )

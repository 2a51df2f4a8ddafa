"""LightGBM models: objectives, categories as codes, zeros and gaps, linear leaves, and Boosters."""

import numpy as np
import pandas as pd
import pytest
from helpers.answers import check
from helpers.kinds import cancer, diabetes
from helpers.packages import opened, saved

import modelkit as mk

lightgbm = pytest.importorskip("lightgbm")
QUIET = {"verbose": -1, "num_threads": 1}


def test_codes_that_lightgbm_takes_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    X = np.stack([rng.integers(0, 6, 300), rng.integers(0, 99, 300)], axis=1)
    model = lightgbm.LGBMClassifier(n_estimators=9, min_data_per_group=1, verbose=-1)
    model.fit(X, np.isin(X[:, 0], (1, 4)), categorical_feature=[0])
    _, packed = saved(model, X, tmp_path)
    np.testing.assert_allclose(packed.predict_proba(X), model.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("trees", [4, 20])
def test_lightgbm_forests_are_averaged_by_their_number_of_trees(trees, tmp_path):
    forest = lightgbm.LGBMRegressor(
        n_estimators=trees, boosting_type="rf", bagging_freq=1, bagging_fraction=0.7, verbose=-1
    ).fit(*diabetes())
    _, model = saved(forest, diabetes()[0], tmp_path)
    np.testing.assert_allclose(
        model.predict(diabetes()[0]), forest.predict(diabetes()[0]), rtol=1e-5
    )


def test_categories_of_lightgbm_are_open_as_its_own_are(tmp_path):
    from helpers.kinds import penguin_categories

    X, y = penguin_categories()
    model = lightgbm.LGBMClassifier(n_estimators=20, min_data_per_group=1, verbose=-1).fit(X, y)
    _, packed = saved(model, X, tmp_path)
    rows = X.to_dict("records")
    plain = [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in rows
    ]
    np.testing.assert_allclose(packed.predict_proba(plain), model.predict_proba(X), rtol=1e-13)
    unseen = X.assign(island=pd.Categorical(["Atlantis"] * len(X)))
    plain = [row | {"island": "Atlantis"} for row in plain]
    np.testing.assert_allclose(packed.predict_proba(plain), model.predict_proba(unseen), rtol=1e-13)


def light(kind="Regressor", **options):
    return getattr(lightgbm, f"LGBM{kind}")(
        **{"n_estimators": 20, "n_jobs": 1, "verbose": -1} | options
    )


@pytest.mark.parametrize(
    "options", [{"zero_as_missing": True}, {"use_missing": False}, {}], ids=str
)
def test_zeros_and_gaps_as_lightgbm_was_told(options, tmp_path):
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(400, 4)), 1)
    X[rng.random(X.shape) < 0.3] = 0.0
    X[rng.random(X.shape) < 0.2] = np.nan
    y = np.nan_to_num(X[:, 0]) * (X[:, 1] == 0) + np.isnan(X[:, 2])
    model = light(**options).fit(X, y)
    _, packed = saved(model, X, tmp_path)
    edges = np.array(
        [0.0, -0.0, 1e-35, -1e-35, 2e-35, -2e-35, 1e-300, np.nan, np.inf, -np.inf, 1.0, -1.0]
    )
    rows = rng.choice(edges, (400, 4))
    for asked in (X, rows):
        np.testing.assert_allclose(
            packed.run(asked)["prediction"], model.predict(asked), rtol=1e-13
        )


def test_codes_of_lightgbm_are_cut_off_as_it_does(tmp_path):
    """Sets of hundreds of codes; 3.5 is 3, -0.5 is 0, and below, missing or beyond is no code."""
    rng = np.random.default_rng(0)
    X = np.c_[rng.integers(0, 200, 3000), rng.integers(0, 5, 3000), rng.normal(size=3000)].astype(
        float
    )
    y = np.sin(X[:, 0]) + (X[:, 1] == 3) + X[:, 2]
    model = light(min_data_per_group=1, max_cat_threshold=64).fit(X, y, categorical_feature=[0, 1])
    _, packed = saved(model, X, tmp_path)
    asked = rng.choice(
        [-2.0, -1.0, -0.5, 0.0, 0.5, 3.0, 3.5, 4.999, 199.0, 200.0, 1e6, np.nan], (500, 3)
    )
    for rows in (X, asked):
        np.testing.assert_allclose(packed.run(rows)["prediction"], model.predict(rows), rtol=1e-13)
    values = mk.Explainer(packed, background=X[:40]).explain(X[:3])
    assert values.method == "trees"


def test_linear_leaves_of_lightgbm_answer_infinite_rows(tmp_path):
    rows = np.random.default_rng(0).normal(size=(120, 3))
    target = rows @ [1.0, 2.0, 3.0]
    gaps = rows.copy()
    gaps[::7, 0] = np.nan
    infinite = rows.copy()
    infinite[::3, 1] = np.inf
    infinite[1::3, 1] = -np.inf
    model = lightgbm.LGBMClassifier(
        n_estimators=3, min_child_samples=1, linear_tree=True, verbose=-1
    )
    check(model.fit(gaps, target > 0), gaps, infinite, tmp_path / "a.mk")


@pytest.fixture(scope="module")
def numbers():
    """Numbers with one decimal, a target, and every other row for training."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5)).round(1)
    X[:, 3] = rng.integers(0, 6, 600)
    return X, X[:, 0] + X[:, 1] * X[:, 3] / 3 + 0.3 * rng.normal(size=600)


LIGHT = {
    "regression": lambda y: y,
    "poisson": lambda y: np.rint(np.abs(y)),
    "binary": lambda y: y > 0,
    "multiclass": lambda y: np.digitize(y, [-0.8, 0.8]),
    "lambdarank": lambda y: np.digitize(y, [-0.8, 0.8]),
}


@pytest.mark.parametrize("objective", LIGHT)
def test_a_booster_of_lightgbm_answers_as_its_predict(objective, numbers, tmp_path):
    X, y = numbers
    group = [30] * 10 if objective == "lambdarank" else None
    data = lightgbm.Dataset(X[::2], LIGHT[objective](y)[::2], group=group)
    classes = {"num_class": 3} if objective == "multiclass" else {}
    booster = lightgbm.train(QUIET | classes | {"objective": objective}, data, 8)
    model = opened(booster, X[::2], tmp_path)
    (output,) = model.signature.outputs
    assert output.name == ("probability" if objective in ("binary", "multiclass") else "prediction")
    assert model.signature.classes is None
    if output.name == "probability":
        assert not hasattr(model, "score")
    got, expected = model.predict(X[1::2]), booster.predict(X[1::2])
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=5e-7)


def test_a_booster_of_lightgbm_stops_at_its_best_iteration(tmp_path):
    X, y = cancer()
    train, held = lightgbm.Dataset(X[::2], y[::2]), lightgbm.Dataset(X[1::2], y[1::2])
    stop = lightgbm.early_stopping(3, verbose=False)
    options = QUIET | {"objective": "binary"}
    booster = lightgbm.train(
        options, train, 200, valid_sets=[held], callbacks=[stop], keep_training_booster=True
    )
    assert 0 < booster.best_iteration < booster.current_iteration()
    np.testing.assert_allclose(
        opened(booster, X, tmp_path).predict(X), booster.predict(X), atol=1e-6
    )

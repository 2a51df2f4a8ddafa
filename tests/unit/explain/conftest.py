"""Models that several files explain, and what they are explained with."""

import os
import warnings

import numpy as np
import pytest
from helpers.coalitions import SEED, models_by_method, penguin_pipeline, saved
from helpers.kinds import penguins
from sklearn import ensemble

import modelkit as mk

# What shap would have compiled, for six seconds, takes a moment without.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return models_by_method(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    X, y = penguins()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = penguin_pipeline(
            ensemble.GradientBoostingClassifier(n_estimators=5, **SEED)
        ).fit(X, y)
        model = saved(estimator, tmp_path_factory.mktemp("mixed"), X, background=X.iloc[::7])
        return model, X, mk.Explainer(model, background=X.iloc[::7]).explain(X.iloc[:9])


@pytest.fixture(scope="session")
def cancer(breast_cancer):
    return breast_cancer[0].to_numpy()


@pytest.fixture(scope="session")
def model(boosting_mk):
    with mk.load(boosting_mk) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = ["good", "fine", "bad", "poor", "the", "film", "was"]
    rng = np.random.default_rng(0)
    rows = [" ".join(rng.choice(words, 6)) for _ in range(300)]
    labels = [
        int(t.count("good") + t.count("fine") > t.count("bad") + t.count("poor")) for t in rows
    ]
    path = tmp_path_factory.mktemp("packages") / "texts.mk"
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(rows, labels)
    mk.save(fitted, path, example=rows, name="texts", version="1")
    with mk.load(path) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def small():
    """Three columns with an interaction, and two outputs."""

    def run(feeds):
        x = feeds["X"]
        first = 2 * x[:, 0] + x[:, 0] * x[:, 1] - np.abs(x[:, 2])
        return {"prediction": np.stack([first, x[:, 1] ** 2], axis=1)}

    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 3)),),
        (mk.TensorSpec("prediction", "float64", ("batch", 2)),),
    )
    return mk.FunctionModel(run, signature)


@pytest.fixture(scope="session")
def background():
    return np.random.default_rng(0).normal(size=(150, 3))

"""Linear models: labels, and numbers of float32."""

import warnings

import numpy as np
import pytest
from helpers.answers import diabetes, names, wine
from sklearn import datasets, linear_model, naive_bayes
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

SEED = {"random_state": 0}


@pytest.mark.parametrize(
    "estimator",
    [
        SGDClassifier(loss="log_loss", **SEED),
        make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", **SEED)),
        OneVsRestClassifier(LogisticRegression(max_iter=3000)),
        make_pipeline(
            StandardScaler(), OneVsRestClassifier(LogisticRegression(C=1e6, max_iter=3000))
        ),
    ],
    ids=["sgd", "scaled sgd", "one against rest", "scaled one against rest"],
)
def test_labels_hold_where_probabilities_of_several_classes_come_to_one(estimator, tmp_path):
    X, y = datasets.load_wine(return_X_y=True)
    estimator.fit(X, datasets.load_wine().target_names[y])
    mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        for scale in (1, 1.5, 2, 5, 100):
            np.testing.assert_array_equal(model.predict(X * scale), estimator.predict(X * scale))


@pytest.mark.parametrize(
    ("estimator", "data"),
    [
        (linear_model.Ridge(), diabetes),
        (LinearDiscriminantAnalysis(), names),
        (naive_bayes.GaussianNB(), wine),
        (MLPRegressor(max_iter=20, **SEED), diabetes),
    ],
)
def test_models_that_were_fitted_on_float32_compute_so_and_are_judged_so(estimator, data, tmp_path):
    X, y = data()
    rows = X.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(rows[::2], y[::2])
        mk.save(estimator, tmp_path / "m.mk", example=rows[::2], name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        got = model.predict(rows)
    if got.dtype.kind == "f":
        np.testing.assert_allclose(got, estimator.predict(rows), rtol=1e-5)
    else:
        np.testing.assert_array_equal(got, estimator.predict(rows))

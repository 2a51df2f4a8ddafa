"""Calibration over classifiers of every kind."""

import warnings

import numpy as np
import pytest
from helpers.answers import NAMES, cancer, differences, names, wine
from helpers.examples import some
from sklearn import linear_model, naive_bayes, svm
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

SEED = {"random_state": 0}
Logistic = linear_model.LogisticRegression


def frozen():
    X, y = cancer()
    return FrozenEstimator(make_pipeline(StandardScaler(), Logistic()).fit(X[::3], y[::3]))


CALIBRATED = {
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=3),
    "frozen": frozen,
    "gaussian": naive_bayes.GaussianNB,
    "pipeline": lambda: make_pipeline(StandardScaler(), svm.LinearSVC(**SEED)),
}


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
@some("inner", CALIBRATED, 1)
def test_calibration_over_anything(method, inner, tmp_path):
    """Isotonic over GaussianNB was off by 0.0085: the rounding of probabilities next to 1 decides."""
    for data in (cancer,) if inner == "frozen" else (cancer, names):
        for ensemble in (True, False):
            if inner == "frozen" and ensemble:
                continue
            kept = "auto" if inner == "frozen" else ensemble
            estimator = CalibratedClassifierCV(
                CALIBRATED[inner](), method=method, ensemble=kept, cv=2
            )
            for output, gap in differences(estimator, data, tmp_path / "m.mk").items():
                assert gap < 1e-8, output


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_fold_that_lacks_a_class(method, tmp_path):
    X, y = wine()
    order = np.argsort(y == 2, kind="stable")
    X, y = X[order], NAMES[y[order]]
    first, last = np.arange(90), np.arange(90, len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = CalibratedClassifierCV(
            Logistic(), method=method, cv=[(first, last), (last, first)]
        ).fit(X, y)
        mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")
    got = mk.load(tmp_path / "m.mk").predict_proba(X)
    np.testing.assert_allclose(got, estimator.predict_proba(X), rtol=0, atol=1e-14)

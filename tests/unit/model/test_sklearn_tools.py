"""scikit-learn's scorers, displays and evaluation take a loaded Model."""

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.base import is_outlier_detector
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay, get_scorer
from sklearn.model_selection import cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import modelkit as mk

mpl.use("Agg")


@pytest.fixture(scope="module")
def model(boosting_mk):
    with mk.load(boosting_mk) as model:
        yield model


@pytest.mark.parametrize(
    "name",
    [
        "accuracy",
        "balanced_accuracy",
        "f1",
        "roc_auc",
        "average_precision",
        "neg_log_loss",
        "neg_brier_score",
    ],
)
def test_scorers_score_a_model_as_its_source(model, boosting, breast_cancer, name):
    scorer = get_scorer(name)
    assert scorer(model, *breast_cancer) == pytest.approx(
        scorer(boosting, *breast_cancer), abs=1e-5
    )


def test_scorers_score_a_regressor(tmp_path):
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    X, y = load_diabetes(return_X_y=True)
    ridge = Ridge().fit(X, y)
    mk.save(ridge, tmp_path / "m.mk", example=X, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        for name in ("r2", "neg_root_mean_squared_error"):
            assert get_scorer(name)(model, X, y) == pytest.approx(get_scorer(name)(ridge, X, y))


def test_multiclass_strings_are_scored(penguins_mk, pipeline, penguins):
    with mk.load(penguins_mk) as model:
        for name in ("accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss"):
            scorer = get_scorer(name)
            assert scorer(model, *penguins) == pytest.approx(scorer(pipeline, *penguins), abs=1e-9)


def test_displays_draw_a_model(model, breast_cancer):
    X, y = breast_cancer
    assert len(CalibrationDisplay.from_estimator(model, X, y, n_bins=5).prob_true) > 1
    matrix = ConfusionMatrixDisplay.from_estimator(model, X, y).confusion_matrix
    assert matrix.sum() == len(y)
    curve = RocCurveDisplay.from_estimator(model, X, y)
    assert curve.fpr[-1] == curve.tpr[-1] == 1


def test_cross_validation_scores_a_frozen_model(model, breast_cancer):
    X, y = breast_cancer
    scores = cross_val_score(FrozenEstimator(model), X, y, cv=4)
    assert scores.shape == (4,)
    assert scores.min() > 0.9
    assert set(
        cross_validate(FrozenEstimator(model), X, y, cv=3, scoring=["roc_auc", "accuracy"])
    ) >= {"test_roc_auc"}


def test_tools_that_only_predict_take_a_model(model, breast_cancer):
    X, y = breast_cancer
    importances = permutation_importance(
        model, X[:200], y[:200], n_repeats=2, random_state=0
    ).importances_mean
    assert importances.shape == (30,)


def test_tools_that_fit_are_refused_with_the_way_out(model, breast_cancer):
    with pytest.raises(TypeError, match=r"already trained.*FrozenEstimator"):
        model.fit(*breast_cancer)
    with pytest.raises(TypeError):
        cross_val_score(model, *breast_cancer, error_score="raise")


@pytest.mark.parametrize("two", [True, False])
def test_scorers_rank_by_the_scores_of_a_classifier_without_probabilities(tmp_path, two):
    X, y = load_breast_cancer(return_X_y=True) if two else load_wine(return_X_y=True)
    source = make_pipeline(StandardScaler(), SVC()).fit(X, y)
    mk.save(source, tmp_path / "m.mk", example=X, name="m", version="1")
    names = ("roc_auc", "average_precision", "f1") if two else ("accuracy", "f1_macro")
    with mk.load(tmp_path / "m.mk") as model:
        np.testing.assert_allclose(model.decision_function(X), source.decision_function(X), 1e-9)
        for name in names:
            scorer = get_scorer(name)
            assert scorer(model, X, y) == pytest.approx(scorer(source, X, y), abs=1e-12)


def test_scorers_rank_by_the_scores_of_an_outlier_detector(tmp_path):
    X, y = load_breast_cancer(return_X_y=True)
    source = IsolationForest(n_estimators=20, random_state=0).fit(X)
    mk.save(source, tmp_path / "m.mk", example=X, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        assert is_outlier_detector(model)
        scorer = get_scorer("roc_auc")
        assert scorer(model, X, y) == pytest.approx(scorer(source, X, y), abs=1e-12)


def test_a_model_with_probabilities_has_no_decision_function(model):
    assert not hasattr(model, "decision_function")

"""What scikit-learn's tools find on a Model: its score, its tags, and what they may do with it."""

import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from helpers.flowers import FLOWER, LABELS, ROWS, Recorder, flower, regression
from skl2onnx import to_onnx
from sklearn.base import is_outlier_detector
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.cluster import KMeans
from sklearn.datasets import (
    load_breast_cancer,
    load_iris,
    load_wine,
    make_multilabel_classification,
    make_regression,
)
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay, get_scorer
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score, cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import modelkit as mk
from modelkit import Column, FunctionModel, Signature, TensorSpec
from modelkit.errors import MissingExtraError

IRIS, KINDS = load_iris(return_X_y=True)
IRIS = IRIS.astype(np.float32)
WEIGHTS = np.random.default_rng(0).random(len(KINDS))
NAMES = {"integers": KINDS, "strings": np.array(["a", "b", "c"])[KINDS], "booleans": KINDS > 0}


@pytest.fixture
def kept(tmp_path):
    """Save a model and open it again."""

    def keep(model, example=None, **more):
        manifest = mk.save(model, tmp_path / "m.mk", example=example, name="m", version="1", **more)
        allow = {"allow": {"joblib"}, "digest": manifest.digest} if more else {}
        return mk.load(tmp_path / "m.mk", device="cpu", **allow)

    return keep


def exported(estimator):
    """What skl2onnx makes of it, without a map of the probabilities."""
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    return to_onnx(estimator, IRIS[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3})


def test_of_several_labels_all_must_be_right(kept):
    X, Y = make_multilabel_classification(300, 10, n_classes=4, random_state=0)
    weights = np.random.default_rng(1).random(len(X))
    forest = RandomForestClassifier(5, random_state=0).fit(X, Y)
    model = kept(forest, X)
    assert 0.3 < model.score(X, Y) < 1
    assert model.score(X, Y) == pytest.approx(forest.score(X, Y))
    assert model.score(X, Y, weights) == pytest.approx(forest.score(X, Y, weights))


def test_of_several_targets_it_is_the_mean_of_their_r2(kept):
    X, Y = make_regression(200, 5, n_targets=3, noise=50, random_state=0)
    estimator = Ridge().fit(X, Y)
    assert kept(estimator, X).score(X, Y) == pytest.approx(estimator.score(X, Y))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize(
    "estimator", [LogisticRegression(max_iter=500), GaussianNB(), KNeighborsClassifier(3)]
)
def test_a_classifier_that_came_as_a_graph_has_classes(kept, estimator, kind):
    estimator.fit(IRIS, NAMES[kind])
    model = kept(exported(estimator))
    assert model.score(IRIS, NAMES[kind], WEIGHTS) == pytest.approx(
        estimator.score(IRIS, NAMES[kind], WEIGHTS)
    )
    assert model.classes_.tolist() == [
        int(c) if kind == "booleans" else c for c in estimator.classes_.tolist()
    ]
    np.testing.assert_allclose(model.predict_proba(IRIS), estimator.predict_proba(IRIS), atol=1e-5)


def test_scores_that_a_graph_calls_probabilities_make_no_classifier(kept):
    model = kept(exported(Perceptron().fit(IRIS, KINDS)))
    with pytest.raises(AttributeError, match="needs classes"):
        model.predict_proba(IRIS)
    assert not hasattr(model, "score")


@pytest.mark.parametrize(
    "estimator",
    [
        KMeans(3, n_init=1),
        GaussianMixture(3, random_state=0),
        IsolationForest(n_estimators=5, random_state=0),
    ],
)
def test_labels_that_are_no_classes_have_no_score(kept, estimator):
    estimator.fit(IRIS)
    for model in (kept(exported(estimator)), kept(estimator, IRIS)):
        with pytest.raises(AttributeError, match=r"gives 'label'.*mk\.evaluate"):
            model.score(IRIS, KINDS)


def test_an_output_of_no_known_meaning_has_no_score(kept):
    model = kept(exported(LinearRegression().fit(IRIS, KINDS)))
    assert not hasattr(model, "score")


mpl.use("Agg")


@pytest.fixture(scope="module")
def boosted(boosting_mk):
    with mk.load(boosting_mk) as boosted:
        yield boosted


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
def test_scorers_score_a_model_as_its_source(boosted, boosting, breast_cancer, name):
    scorer = get_scorer(name)
    assert scorer(boosted, *breast_cancer) == pytest.approx(
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


def test_displays_draw_a_model(boosted, breast_cancer):
    X, y = breast_cancer
    assert len(CalibrationDisplay.from_estimator(boosted, X, y, n_bins=5).prob_true) > 1
    matrix = ConfusionMatrixDisplay.from_estimator(boosted, X, y).confusion_matrix
    assert matrix.sum() == len(y)
    curve = RocCurveDisplay.from_estimator(boosted, X, y)
    assert curve.fpr[-1] == curve.tpr[-1] == 1


def test_cross_validation_scores_a_frozen_model(boosted, breast_cancer):
    X, y = breast_cancer
    scores = cross_val_score(FrozenEstimator(boosted), X, y, cv=4)
    assert scores.shape == (4,)
    assert scores.min() > 0.9
    assert set(
        cross_validate(FrozenEstimator(boosted), X, y, cv=3, scoring=["roc_auc", "accuracy"])
    ) >= {"test_roc_auc"}


def test_tools_that_only_predict_take_a_model(boosted, breast_cancer):
    X, y = breast_cancer
    importances = permutation_importance(
        boosted, X[:200], y[:200], n_repeats=2, random_state=0
    ).importances_mean
    assert importances.shape == (30,)


def test_tools_that_fit_are_refused_with_the_way_out(boosted, breast_cancer):
    with pytest.raises(TypeError, match=r"already trained.*FrozenEstimator"):
        boosted.fit(*breast_cancer)
    with pytest.raises(TypeError):
        cross_val_score(boosted, *breast_cancer, error_score="raise")


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
        calibrated = CalibratedClassifierCV(FrozenEstimator(model)).fit(X, y)
        assert calibrated.predict_proba(X).shape == (len(X), len(model.classes_))
        if two:
            assert RocCurveDisplay.from_estimator(model, X, y).tpr[-1] == 1


def test_scorers_rank_by_the_scores_of_an_outlier_detector(tmp_path):
    X, y = load_breast_cancer(return_X_y=True)
    source = IsolationForest(n_estimators=20, random_state=0).fit(X)
    mk.save(source, tmp_path / "m.mk", example=X, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        assert is_outlier_detector(model)
        scorer = get_scorer("roc_auc")
        assert scorer(model, X, y) == pytest.approx(scorer(source, X, y), abs=1e-12)


def test_a_model_with_probabilities_has_no_decision_function(boosted):
    assert not hasattr(boosted, "decision_function")


# What scikit-learn asks of an estimator.


def test_a_classifier_has_classes_and_others_do_not(model):
    assert model.classes_.tolist() == ["iris", "rose"]
    assert not hasattr(regression(), "classes_")


def test_a_model_shows_what_it_has_and_nothing_else(model, boosted, penguins_mk):
    likely = {"predict_proba", "apredict_proba"}
    optional = {"classes_", "decision_function", "score"} | likely
    with mk.load(penguins_mk) as loaded:
        for each in (model, regression(), boosted, loaded, Recorder(loaded)):
            shown = {name for name in dir(each) if not name.startswith("__")}
            assert {name for name in shown if not hasattr(each, name)} == set()
            assert {name for name in optional - shown if hasattr(each, name)} == set()
        assert optional & set(dir(regression())) == {"score"}
        assert optional & set(dir(loaded)) == {"classes_", "score"} | likely


def test_a_score_without_scikit_learn_names_the_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"the score of a model needs .*\[evaluate\]"):
        model.score(ROWS, LABELS)


def test_fit_is_refused_with_the_way_out(model):
    with pytest.raises(
        TypeError,
        match=r"FunctionModel is already trained and cannot be fitted.*FrozenEstimator\(model\)",
    ):
        model.fit(ROWS, LABELS)


def test_scikit_learn_knows_classifiers_and_regressors(model):
    from sklearn.base import is_classifier, is_regressor
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(model)
    assert (is_classifier(model), is_regressor(model)) == (True, False)
    assert (is_classifier(regression()), is_regressor(regression())) == (False, True)
    assert (is_classifier(Recorder(model)), is_regressor(Recorder(model))) == (True, False)


def test_scikit_learn_is_told_of_strings_and_missing_values():
    from sklearn.utils import get_tags

    def tags(column):
        signature = Signature(
            (TensorSpec("c", column.dtype, ("batch", 1), (column,)),), FLOWER.outputs
        )
        given = get_tags(FunctionModel(flower, signature)).input_tags
        return given.string, given.allow_nan

    assert tags(Column("c", "float64")) == (False, False)
    assert tags(Column("c", "float64", nullable=True)) == (False, True)
    assert tags(Column("c", "string")) == (True, False)


@pytest.mark.parametrize(
    "scoring", ["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "neg_log_loss"]
)
def test_a_scorer_scores_a_model_as_it_scores_an_estimator(model, recorder, scoring):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import get_scorer

    # The same decision function as `flower`: a logistic regression with both coefficients 1.
    estimator = LogisticRegression().fit(ROWS[["a", "b"]], LABELS)
    estimator.coef_, estimator.intercept_ = np.ones((1, 2)), np.zeros(1)
    truth = ["rose", "iris", "rose", "rose"]
    expected = get_scorer(scoring)(estimator, ROWS[["a", "b"]], truth)
    for each in (model, recorder):
        assert get_scorer(scoring)(each, ROWS, truth) == pytest.approx(expected, abs=1e-6)


def test_a_scorer_scores_a_regression():
    from sklearn.metrics import get_scorer

    assert get_scorer("r2")(regression(), ROWS, [4.0, -2.0, -0.5, 2.0]) == 1


def test_a_frozen_model_is_cross_validated_and_calibrated(model):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import cross_val_score

    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["b", "a"])
    y = model.predict(X)
    assert cross_val_score(FrozenEstimator(model), X, y, scoring="accuracy", cv=3).tolist() == [
        1,
        1,
        1,
    ]
    calibrated = CalibratedClassifierCV(FrozenEstimator(model)).fit(X, y)
    assert calibrated.predict_proba(X).shape == (60, 2)
    assert (calibrated.predict(X) == y).mean() > 0.9


def test_permutation_importance_asks_the_model(model):
    from sklearn.inspection import permutation_importance

    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    flat = permutation_importance(
        model, X, model.predict(X), scoring="accuracy", n_repeats=2, random_state=0
    )
    assert (flat.importances_mean > 0).all()

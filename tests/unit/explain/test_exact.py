"""Exact explanations of every kind of model: those of all coalitions, and those of shap."""

import warnings

import numpy as np
import pytest
from helpers.coalitions import (
    LIBRARIES,
    SEED,
    agree,
    asked,
    brute,
    brute_by_codes,
    margin,
    saved,
    served,
    small,
)
from helpers.examples import some
from helpers.kinds import KINDS, cancer
from sklearn import ensemble
from sklearn.datasets import make_classification, make_regression

import modelkit as mk

pytestmark = pytest.mark.usefixtures("one_thread")
BY_ID = {kind.id: kind for kind in KINDS}
STRUCTURED = {  # what must be explained by structure, and by which
    "additive": [
        "linear: LogisticRegression",
        "linear: LinearRegression", "linear: Ridge", "linear: Lasso", "linear: ElasticNet", "linear: BayesianRidge",
        "linear: HuberRegressor", "linear: PoissonRegressor", "linear: GammaRegressor",
        "linear: SGDClassifier",  # of three classes, each against the rest
        "combinations: GridSearchCV", "calibrated: FixedThresholdClassifier", "several outputs: MultiOutputRegressor",
        "combinations: OneVsRestClassifier", "several outputs: OneVsRestClassifier, multi-label",
        "support vectors: LinearSVR",
    ],
    "trees": [
        "trees: DecisionTreeClassifier", "trees: DecisionTreeRegressor", "trees: ExtraTreeClassifier",
        "trees: RandomForestClassifier", "trees: RandomForestRegressor", "trees: ExtraTreesClassifier",
        "trees: ExtraTreesRegressor", "boosting: GradientBoostingClassifier", "boosting: GradientBoostingRegressor",
        "boosting: HistGradientBoostingClassifier", "boosting: HistGradientBoostingRegressor",
        "several outputs: RandomForestRegressor",
    ],
}  # fmt: skip
BOOSTED = [kind.id for kind in KINDS if kind.library != "sklearn"]
ANY = [  # by whatever method, but right
    "combinations: BaggingClassifier", "boosting: AdaBoostRegressor",
    "calibrated: CalibratedClassifierCV, sigmoid",
    "several outputs: DecisionTreeClassifier", "combinations: VotingRegressor",
    "discriminants: LinearDiscriminantAnalysis", "naive Bayes: GaussianNB",
    "networks: MLPClassifier", "outliers: IsolationForest",
]  # fmt: skip


@some("name", [*STRUCTURED["additive"], *STRUCTURED["trees"], *BOOSTED, *ANY], 18)
def test_values_of_every_kind_are_those_of_all_coalitions(name, tmp_path):
    kind = BY_ID[name]
    X, y = kind.data()
    frame = X if hasattr(X, "columns") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if frame is not None:
            X = frame.iloc[:, :6]
        else:
            X = np.asarray(X)[:, :6]
            if "float32" in kind.numbers:
                X = X.astype(np.float32)
        estimator = kind.make()
        if "n_jobs" in estimator.get_params():
            estimator.set_params(n_jobs=1)
        estimator.fit(X, y)
        model = saved(estimator, tmp_path, X)
        rows, background = X[5:60:9], X[-90::6]
        explainer = mk.Explainer(model, background=background, output=asked(model))
        explanation = explainer.explain(rows)
        assert explanation.exact
        assert explanation.std_error is None
        assert np.abs(explanation.additivity_gap).max() <= 1e-4
        method = next(
            (m for m, names in STRUCTURED.items() if name in names),
            "trees" if name in BOOSTED else None,
        )
        if method is not None:
            assert explanation.method == method, explainer.plan()
        f = margin(estimator) if explanation.output_space == "raw_score" else served(model)
        if "categories" in name:
            agree(
                explanation,
                *brute_by_codes(f, rows, background, explanation.output_space == "raw_score"),
            )
        else:
            agree(
                explanation,
                *brute(lambda r: last(f(r), explanation), np.asarray(rows), np.asarray(background)),
            )


def last(answers, explanation):
    """Of two columns that are one another's complement, the one that is explained."""
    answers = np.asarray(answers)
    answers = answers.reshape(len(answers), -1)
    return answers[:, -1:] if len(explanation.output_names) == 1 else answers


@pytest.mark.skipif(not LIBRARIES, reason="needs the boosting libraries")
@pytest.mark.parametrize("classes", [0, 2, 3])
@some("library", ["xgboost", "lightgbm", "catboost", "histogram"], 2)
def test_whole_numbers_that_equal_thresholds_and_missing_values(library, classes, tmp_path):
    X, y = small(classes, whole=True, holes=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = boosted(library, classes).fit(X, y)
        explanation = mk.Explainer(saved(estimator, tmp_path, X), background=X[:30]).explain(
            X[40:60]
        )
        assert explanation.method == "trees"
        f = margin(estimator) if classes else estimator.predict
        agree(explanation, *brute(lambda r: f(r.astype(np.float32)), X[40:60], X[:30]))


def boosted(library, classes):
    trees, deep = {"n_estimators": 15, "n_jobs": 1}, {"max_depth": 5}
    if library == "xgboost":
        import xgboost

        return (xgboost.XGBClassifier if classes else xgboost.XGBRegressor)(
            **trees, **deep, tree_method="exact"
        )
    if library == "lightgbm":
        import lightgbm

        return (lightgbm.LGBMClassifier if classes else lightgbm.LGBMRegressor)(**trees, verbose=-1)
    if library == "catboost":
        import catboost

        options = {"iterations": 15, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
        return (catboost.CatBoostClassifier if classes else catboost.CatBoostRegressor)(**options)
    kind = (
        ensemble.HistGradientBoostingClassifier
        if classes
        else ensemble.HistGradientBoostingRegressor
    )
    return kind(max_iter=15, **SEED)


def by_shap(estimator, rows, background):
    shap = pytest.importorskip("shap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The masker cuts to 100 rows by itself.
        masker = shap.maskers.Independent(background, max_samples=len(background))
        explainer = shap.TreeExplainer(estimator, masker, feature_perturbation="interventional")
        values = np.asarray(explainer.shap_values(rows))
    return (values if values.ndim == 3 else values[:, :, None]), np.atleast_1d(
        explainer.expected_value
    )


@some(
    "name",
    ["forest", "boosting", "regression", "hist", "deep forest", "lightgbm", "wide forest"],
    3,
)
def test_values_are_those_of_shap(name, tmp_path):
    pytest.importorskip("shap")
    X, y = cancer()
    X = X.astype(np.float32)
    if name == "lightgbm":
        X, y = make_classification(1000, 14, n_informative=10, **SEED)
        X = X.astype(np.float32)
        estimator = pytest.importorskip("lightgbm").LGBMClassifier(
            n_estimators=15, n_jobs=1, verbose=-1
        )
    elif name == "deep forest":
        X, y = make_regression(600, 13, n_informative=13, noise=5, **SEED)
        X = X.astype(np.float32)
        estimator = ensemble.RandomForestRegressor(5, **SEED)
    elif name == "regression":
        X, y = small(0, columns=10)
        estimator = ensemble.GradientBoostingRegressor(n_estimators=30, max_depth=4, **SEED)
    else:
        estimator = {
            "forest": ensemble.RandomForestClassifier(20, max_depth=5, **SEED),
            "boosting": ensemble.GradientBoostingClassifier(n_estimators=40, **SEED),
            "hist": ensemble.HistGradientBoostingClassifier(max_iter=20, **SEED),
            "wide forest": ensemble.ExtraTreesClassifier(10, **SEED),
        }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X, y)
    rows, background = X[:25], X[-150:]  # more than the 100 rows that shap takes by default
    explainer = mk.Explainer(saved(estimator, tmp_path, X), background=background)
    explanation = explainer.explain(rows)
    assert explanation.method == "trees"
    assert explanation.background_rows == 150
    truth, base = by_shap(estimator, rows, background)
    agree(
        explanation,
        truth[:, :, -explanation.values.shape[2] :],
        base[-explanation.values.shape[2] :],
    )

"""Explanations of every kind of model: those of all coalitions, and those of shap."""

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
from helpers.kinds import KINDS, cancer
from sklearn import ensemble
from sklearn.datasets import make_classification, make_regression

import modelkit as mk
from modelkit.explain import table

pytestmark = pytest.mark.usefixtures("one_thread")

BY_ID = {kind.id: kind for kind in KINDS}


# Exactness over the kinds of models that can be converted.

STRUCTURED = {  # what must be explained by structure, and by which
    "additive": [
        "linear: LogisticRegression",
        "linear: LinearRegression", "linear: Ridge", "linear: Lasso", "linear: ElasticNet", "linear: BayesianRidge",
        "linear: HuberRegressor", "linear: PoissonRegressor", "linear: GammaRegressor",
        "linear: SGDClassifier",  # of three classes, each against the rest
        "combinations: GridSearchCV", "calibrated: FixedThresholdClassifier", "several outputs: MultiOutputRegressor",
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
    "combinations: OneVsRestClassifier", "combinations: BaggingClassifier", "boosting: AdaBoostRegressor",
    "calibrated: CalibratedClassifierCV, sigmoid", "several outputs: OneVsRestClassifier, multi-label",
    "several outputs: DecisionTreeClassifier", "combinations: VotingRegressor",
    "discriminants: LinearDiscriminantAnalysis", "naive Bayes: GaussianNB",
    "networks: MLPClassifier", "outliers: IsolationForest",
]  # fmt: skip


@pytest.mark.parametrize("name", [*STRUCTURED["additive"], *STRUCTURED["trees"], *BOOSTED, *ANY])
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
        f = margin(estimator) if explanation.output_space == "margin" else served(model)
        if "categories" in name:
            agree(
                explanation,
                *brute_by_codes(f, rows, background, explanation.output_space == "margin"),
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
@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost", "histogram"])
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


# Equality with shap on the original, where shap can run.


def by_shap(estimator, rows, background):
    shap = pytest.importorskip("shap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = shap.maskers.Independent(
            background, max_samples=len(background)
        )  # cuts to 100 rows by itself
        explainer = shap.TreeExplainer(estimator, masker, feature_perturbation="interventional")
        values = np.asarray(explainer.shap_values(rows))
    return (values if values.ndim == 3 else values[:, :, None]), np.atleast_1d(
        explainer.expected_value
    )


@pytest.mark.parametrize(
    "name", ["forest", "boosting", "regression", "hist", "deep forest", "lightgbm", "wide forest"]
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


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("kind", [table._Spread, table._Potential, table.PatternPairs])
def test_every_kind_of_table_agrees_with_all_coalitions(kind, classes, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MOST_SPREAD", 16 if kind is table._Spread else -1)
    monkeypatch.setattr(table, "MOST_PLAYERS", -1 if kind is table.PatternPairs else 16)
    X, y = small(classes, columns=8)
    kinds = {
        0: ensemble.ExtraTreesRegressor,
        2: ensemble.RandomForestClassifier,
        3: ensemble.GradientBoostingClassifier,
    }
    estimator = kinds[classes](n_estimators=6, max_depth=7, max_features=2, **SEED).fit(X, y)
    background = np.concatenate(
        [X[:12], X[:5], X[:5]]
    )  # rows that are there several times weigh as much
    explainer = mk.Explainer(saved(estimator, tmp_path, X), background=background)
    groups = explainer_tables(explainer)
    assert {type(group) for group in groups} == {kind}
    explanation = explainer.explain(X[100:104])
    assert explanation.method == "trees"
    f = (
        estimator.predict
        if not classes
        else margin(estimator)
        if classes == 3
        else estimator.predict_proba
    )
    agree(explanation, *brute(f, X[100:104], background))


def explainer_tables(explainer):
    cells = [cell.cell_contents for cell in explainer._method._run.__closure__]
    return next(cell for cell in cells if isinstance(cell, table.LeafTable))._groups


def test_potentials_of_many_players_are_those_of_their_definition(monkeypatch, tmp_path):
    """Leaves of up to sixteen players, beside the pairs, which follow the definition word by word."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 16)).astype(np.float32)
    estimator = ensemble.ExtraTreesRegressor(1, max_features=1, **SEED).fit(
        X, np.sin(3 * X).sum(axis=1)
    )
    model = saved(estimator, tmp_path, X)
    whole = mk.Explainer(model, background=X[:200])
    assert (
        max(group._d for group in explainer_tables(whole) if isinstance(group, table._Potential))
        >= 12
    )
    monkeypatch.setattr(table, "MOST_PLAYERS", -1)
    parts = mk.Explainer(model, background=X[:200])
    assert {type(group) for group in explainer_tables(parts)} == {table.PatternPairs}
    np.testing.assert_allclose(
        whole.explain(X[:50]).values, parts.explain(X[:50]).values, rtol=0, atol=2e-6
    )
    np.testing.assert_allclose(
        whole.explain(X[:1]).base_values, parts.explain(X[:1]).base_values, rtol=1e-12
    )


def test_tables_that_do_not_fit_become_pairs(tmp_path, monkeypatch):
    X, y = small(2)
    estimator = ensemble.RandomForestClassifier(5, max_depth=6, **SEED).fit(X, y)
    model = saved(estimator, tmp_path, X)
    whole = mk.Explainer(model, background=X[:40])
    monkeypatch.setattr(table, "MOST_BYTES", 2000)
    parts = mk.Explainer(model, background=X[:40])
    assert {type(group) for group in explainer_tables(parts)} == {table._Spread, table.PatternPairs}
    np.testing.assert_allclose(parts.explain(X).values, whole.explain(X).values, rtol=0, atol=1e-6)
    monkeypatch.setattr(table, "MOST_PAIRS", 10)
    refused = mk.Explainer(model, background=X[:40])
    assert refused.plan().method == "enumeration"
    assert "background patterns" in str(refused.plan())

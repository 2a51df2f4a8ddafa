"""The kinds of models that everything is tested on: one table for the tests, for docs/reference/what_converts.md and the benchmark.

more_kinds.py has the others, and prints the table of docs/reference/what_converts.md.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn import (
    calibration,
    cluster,
    compose,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.gaussian_process import kernels
from sklearn.pipeline import FeatureUnion, make_pipeline

SEED = {"random_state": 0}
TREES = {"n_estimators": 20}
text = feature_extraction.text


@dataclass(frozen=True)
class Kind:
    """One kind: what is fitted on which data, and what its package takes and gives."""

    family: str
    name: str
    make: Any  # () -> estimator
    data: Any  # () -> (X, y)
    numbers: str = "float64"
    missing: bool = False  # whether every column may be missing
    library: str = "sklearn"

    @property
    def id(self) -> str:
        return f"{self.family}: {self.name}"

    def fit(self) -> tuple[Any, Any]:
        """The fitted estimator and the rows it was fitted on."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X, y = self.data()
            made = self.make()
            return (made.fit(X, y) if hasattr(made, "fit") else made), X


@cache
def iris():
    return datasets.load_iris(return_X_y=True)


@cache
def wine():
    return datasets.load_wine(return_X_y=True)


@cache
def cancer():
    return datasets.load_breast_cancer(return_X_y=True)


@cache
def cancer_frame():
    return datasets.load_breast_cancer(return_X_y=True, as_frame=True)


@cache
def diabetes():
    return datasets.load_diabetes(return_X_y=True)


@cache
def blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    return rng.normal(size=(400, 6)) + 2 * y[:, None], y


def named():
    return wine()[0], np.array(["barolo", "grignolino", "barbera"])[wine()[1]]


def yes_no():
    return cancer()[0], cancer()[1] == 1


def positive():
    return np.abs(wine()[0]), wine()[1]


def codes():
    return np.rint(wine()[0]).astype(int), wine()[1]


def two_targets():
    return diabetes()[0], np.c_[diabetes()[1], -2 * diabetes()[1]]


def two_labels():
    return wine()[0], np.c_[wine()[1] > 0, wine()[1] > 1].astype(int)


def three_and_two():
    return blobs()[0], np.c_[blobs()[1], blobs()[1] > 1].astype(int)


def _holes(X):
    return np.where(np.arange(X.size).reshape(X.shape) % 7, X, np.nan)


def wine_holes():
    return _holes(wine()[0]), wine()[1]


def diabetes_holes():
    return _holes(diabetes()[0]), diabetes()[1]


def coded():
    rng = np.random.default_rng(0)
    X = np.c_[rng.integers(0, 6, 500), rng.normal(size=(500, 2))]
    return X, ((X[:, 0] % 2) * 3 + X[:, 1] > 1).astype(int)


@cache
def penguins():
    from palmerpenguins import load_penguins

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = load_penguins()
    return frame.drop(columns=["species", "year"]), frame["species"]


def penguin_categories():
    X, y = penguins()
    X = X.copy()
    for name in ("island", "sex"):
        X[name] = X[name].astype(object).astype("category")
    return X, (y == "Adelie").astype(int)


@cache
def docstrings():
    """Paragraphs of numpy's docstrings, and whether they are about an array."""
    found = [(getattr(np, name).__doc__ or "")[:400] for name in dir(np)]
    texts = [t for t in found if len(t) > 50][:400]
    return texts, [int("array" in t) for t in texts]


def mixed_pipeline():
    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    columns = compose.make_column_transformer(
        (make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), numbers),
        (
            make_pipeline(
                impute.SimpleImputer(strategy="most_frequent"),
                preprocessing.OneHotEncoder(handle_unknown="ignore"),
            ),
            ["island", "sex"],
        ),
    )
    return make_pipeline(columns, linear_model.LogisticRegression(max_iter=1000))


def pair(kind: str) -> list[tuple[str, Any]]:
    if kind == "Classifier":
        return [
            ("a", linear_model.LogisticRegression()),
            ("b", ensemble.RandomForestClassifier(10, **SEED)),
        ]
    return [("a", linear_model.Ridge()), ("b", ensemble.RandomForestRegressor(10, **SEED))]


def scaled(estimator):
    return make_pipeline(preprocessing.StandardScaler(), estimator)


def _sklearn() -> list[Kind]:
    logistic = linear_model.LogisticRegression
    narrow = {"numbers": "float32"}
    gaps = {"numbers": "float32", "missing": True}
    return [
        Kind("linear", "LogisticRegression", lambda: scaled(logistic()), named),
        Kind("linear", "LogisticRegressionCV", linear_model.LogisticRegressionCV, blobs),
        Kind("linear", "RidgeClassifier", linear_model.RidgeClassifier, wine),
        Kind("linear", "SGDClassifier", lambda: scaled(linear_model.SGDClassifier(loss="log_loss", **SEED)), blobs),
        Kind("linear", "Perceptron", lambda: linear_model.Perceptron(**SEED), yes_no),
        Kind("linear", "LinearRegression", linear_model.LinearRegression, two_targets),
        Kind("linear", "Ridge", linear_model.Ridge, diabetes),
        Kind("linear", "Lasso", linear_model.Lasso, diabetes),
        Kind("linear", "ElasticNet", linear_model.ElasticNet, diabetes),
        Kind("linear", "BayesianRidge", linear_model.BayesianRidge, diabetes),
        Kind("linear", "HuberRegressor", linear_model.HuberRegressor, diabetes),
        Kind("linear", "QuantileRegressor", linear_model.QuantileRegressor, diabetes),
        Kind("linear", "PoissonRegressor", linear_model.PoissonRegressor, diabetes),
        Kind("linear", "GammaRegressor", linear_model.GammaRegressor, diabetes),
        Kind("support vectors", "SVC", lambda: scaled(svm.SVC()), wine),
        Kind("support vectors", "NuSVC", lambda: scaled(svm.NuSVC()), wine),
        Kind("support vectors", "LinearSVC", lambda: scaled(svm.LinearSVC(**SEED)), wine),
        Kind("support vectors", "SVR", svm.SVR, diabetes),
        Kind("support vectors", "LinearSVR", lambda: svm.LinearSVR(**SEED), diabetes),
        Kind("support vectors", "OneClassSVM", svm.OneClassSVM, blobs),
        Kind("neighbours", "KNeighborsClassifier", neighbors.KNeighborsClassifier, wine),
        Kind("neighbours", "KNeighborsRegressor", neighbors.KNeighborsRegressor, diabetes),
        Kind("naive Bayes", "GaussianNB", naive_bayes.GaussianNB, wine),
        Kind("naive Bayes", "MultinomialNB", naive_bayes.MultinomialNB, positive),
        Kind("naive Bayes", "BernoulliNB", naive_bayes.BernoulliNB, blobs),
        Kind("naive Bayes", "ComplementNB", naive_bayes.ComplementNB, positive),
        Kind("discriminants", "LinearDiscriminantAnalysis", discriminant_analysis.LinearDiscriminantAnalysis, wine),
        Kind("discriminants", "QuadraticDiscriminantAnalysis", discriminant_analysis.QuadraticDiscriminantAnalysis, blobs),
        Kind("processes", "GaussianProcessRegressor", lambda: gaussian_process.GaussianProcessRegressor(kernels.ConstantKernel() * kernels.RBF(), **SEED), diabetes),
        Kind("trees", "DecisionTreeClassifier", lambda: tree.DecisionTreeClassifier(**SEED), wine_holes, **gaps),
        Kind("trees", "DecisionTreeRegressor", lambda: tree.DecisionTreeRegressor(**SEED), diabetes_holes, **gaps),
        Kind("trees", "ExtraTreeClassifier", lambda: tree.ExtraTreeClassifier(**SEED), wine, **gaps),
        Kind("trees", "RandomForestClassifier", lambda: ensemble.RandomForestClassifier(20, **SEED), wine_holes, **gaps),
        Kind("trees", "RandomForestRegressor", lambda: ensemble.RandomForestRegressor(20, **SEED), diabetes_holes, **gaps),
        Kind("trees", "ExtraTreesClassifier", lambda: ensemble.ExtraTreesClassifier(20, **SEED), wine_holes, **gaps),
        Kind("trees", "ExtraTreesRegressor", lambda: ensemble.ExtraTreesRegressor(20, **SEED), diabetes, **gaps),
        Kind("boosting", "GradientBoostingClassifier", lambda: ensemble.GradientBoostingClassifier(**TREES, **SEED), wine, **narrow),
        Kind("boosting", "GradientBoostingRegressor", lambda: ensemble.GradientBoostingRegressor(**TREES, **SEED), diabetes, **narrow),
        Kind("boosting", "HistGradientBoostingClassifier", lambda: ensemble.HistGradientBoostingClassifier(max_iter=20, **SEED), wine_holes, missing=True),
        Kind("boosting", "HistGradientBoostingRegressor", lambda: ensemble.HistGradientBoostingRegressor(max_iter=20, **SEED), diabetes, missing=True),
        Kind("boosting", "AdaBoostClassifier", lambda: ensemble.AdaBoostClassifier(n_estimators=10, **SEED), wine, **narrow),
        Kind("boosting", "AdaBoostRegressor", lambda: ensemble.AdaBoostRegressor(n_estimators=10, **SEED), diabetes, **narrow),
        Kind("combinations", "BaggingClassifier", lambda: ensemble.BaggingClassifier(**SEED), wine, **gaps),
        Kind("combinations", "VotingClassifier, soft", lambda: ensemble.VotingClassifier(pair("Classifier"), voting="soft"), blobs),
        Kind("combinations", "VotingRegressor", lambda: ensemble.VotingRegressor(pair("Regressor")), diabetes),
        Kind("combinations", "StackingClassifier", lambda: ensemble.StackingClassifier(pair("Classifier"), cv=3), blobs),
        Kind("combinations", "StackingRegressor", lambda: ensemble.StackingRegressor(pair("Regressor"), cv=3), diabetes),
        Kind("combinations", "OneVsRestClassifier", lambda: multiclass.OneVsRestClassifier(logistic()), blobs),
        Kind("combinations", "OneVsOneClassifier", lambda: multiclass.OneVsOneClassifier(logistic()), blobs),
        Kind("combinations", "GridSearchCV", lambda: model_selection.GridSearchCV(logistic(), {"C": [0.1, 1]}), blobs),
        Kind("calibrated", "CalibratedClassifierCV, sigmoid", lambda: calibration.CalibratedClassifierCV(logistic(), cv=3), blobs),
        Kind("calibrated", "FixedThresholdClassifier", lambda: scaled(model_selection.FixedThresholdClassifier(logistic(), threshold=0.3)), cancer),
        Kind("calibrated", "TunedThresholdClassifierCV", lambda: model_selection.TunedThresholdClassifierCV(scaled(logistic()), **SEED), yes_no),
        Kind("several outputs", "MultiOutputClassifier", lambda: multioutput.MultiOutputClassifier(logistic()), three_and_two),
        Kind("several outputs", "MultiOutputRegressor", lambda: multioutput.MultiOutputRegressor(linear_model.Ridge()), two_targets),
        Kind("several outputs", "OneVsRestClassifier, multi-label", lambda: multiclass.OneVsRestClassifier(scaled(logistic())), two_labels),
        Kind("several outputs", "DecisionTreeClassifier", lambda: tree.DecisionTreeClassifier(**SEED), two_labels, **gaps),
        Kind("several outputs", "RandomForestRegressor", lambda: ensemble.RandomForestRegressor(10, **SEED), two_targets, **gaps),
        Kind("networks", "MLPClassifier", lambda: scaled(neural_network.MLPClassifier((32, 16), **SEED)), named),
        Kind("networks", "MLPRegressor", lambda: neural_network.MLPRegressor(hidden_layer_sizes=(32,), **SEED), diabetes),
        Kind("clusters", "KMeans", lambda: cluster.KMeans(3, **SEED), blobs),
        Kind("clusters", "MiniBatchKMeans", lambda: cluster.MiniBatchKMeans(3, **SEED), blobs),
        Kind("clusters", "GaussianMixture", lambda: mixture.GaussianMixture(3, **SEED), blobs),
        Kind("outliers", "IsolationForest", lambda: ensemble.IsolationForest(n_estimators=20, **SEED), blobs, **gaps),
        Kind("transformers", "StandardScaler", preprocessing.StandardScaler, wine, missing=True),
        Kind("transformers", "PowerTransformer", preprocessing.PowerTransformer, iris, missing=True),
        Kind("transformers", "PCA", lambda: decomposition.PCA(3), wine),
        Kind("transformers", "TruncatedSVD", lambda: decomposition.TruncatedSVD(3, **SEED), wine),
        Kind("transformers", "KernelPCA", lambda: decomposition.KernelPCA(3, kernel="rbf"), blobs),
        Kind("transformers", "SelectKBest", lambda: feature_selection.SelectKBest(k=2), wine),
        Kind("transformers", "FeatureUnion", lambda: FeatureUnion([("a", decomposition.PCA(2)), ("b", preprocessing.StandardScaler())]), wine),
        Kind("columns", "ColumnTransformer with strings and gaps", mixed_pipeline, penguins, missing=True),
        Kind("texts", "TfidfVectorizer, pairs of words", lambda: make_pipeline(text.TfidfVectorizer(ngram_range=(1, 2)), logistic()), docstrings, "string"),
        Kind("texts", "CountVectorizer", lambda: make_pipeline(text.CountVectorizer(), naive_bayes.MultinomialNB()), docstrings, "string"),
    ]  # fmt: skip


def _boosting() -> list[Kind]:
    import catboost
    import lightgbm
    import xgboost

    gaps = {"numbers": "float32", "missing": True}
    light = {"n_estimators": 20, "verbose": -1}
    forest = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}
    cat = {"iterations": 20, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    of_xgboost, of_lightgbm, of_catboost = (
        {"library": name} for name in ("xgboost", "lightgbm", "catboost")
    )
    return [
        Kind("XGBoost", "XGBClassifier", lambda: xgboost.XGBClassifier(**TREES), cancer_frame, **gaps, **of_xgboost),
        Kind("XGBoost", "XGBClassifier, 3 classes", lambda: xgboost.XGBClassifier(**TREES), wine_holes, **gaps, **of_xgboost),
        Kind("XGBoost", "XGBClassifier, whole numbers", lambda: xgboost.XGBClassifier(**TREES), codes, **gaps, **of_xgboost),
        Kind("XGBoost", "XGBClassifier, categories", lambda: xgboost.XGBClassifier(**TREES, enable_categorical=True), penguin_categories, **gaps, **of_xgboost),
        Kind("XGBoost", "XGBRFClassifier", lambda: xgboost.XGBRFClassifier(**TREES), wine, **gaps, **of_xgboost),
        Kind("XGBoost", "XGBRegressor", lambda: xgboost.XGBRegressor(**TREES), diabetes, **gaps, **of_xgboost),
        Kind("XGBoost", "XGBRegressor, Poisson", lambda: xgboost.XGBRegressor(**TREES, objective="count:poisson"), diabetes, **gaps, **of_xgboost),
        Kind("LightGBM", "LGBMClassifier", lambda: lightgbm.LGBMClassifier(**light), cancer_frame, missing=True, **of_lightgbm),
        Kind("LightGBM", "LGBMClassifier, 3 classes", lambda: lightgbm.LGBMClassifier(**light), wine_holes, missing=True, **of_lightgbm),
        Kind("LightGBM", "LGBMClassifier, rf", lambda: lightgbm.LGBMClassifier(**light, **forest), wine, missing=True, **of_lightgbm),
        Kind("LightGBM", "LGBMClassifier, categories", lambda: lightgbm.LGBMClassifier(**light, min_data_per_group=1), penguin_categories, missing=True, **of_lightgbm),
        Kind("LightGBM", "LGBMClassifier, codes", lambda: lightgbm.LGBMClassifier(**light, categorical_feature=[0]), coded, missing=True, **of_lightgbm),
        Kind("LightGBM", "LGBMRegressor", lambda: lightgbm.LGBMRegressor(**light), diabetes_holes, missing=True, **of_lightgbm),
        Kind("LightGBM", "LGBMRegressor, rf", lambda: lightgbm.LGBMRegressor(**light, **forest), diabetes, missing=True, **of_lightgbm),
        Kind("CatBoost", "CatBoostClassifier", lambda: catboost.CatBoostClassifier(**cat), cancer_frame, **gaps, **of_catboost),
        Kind("CatBoost", "CatBoostClassifier, 3 classes", lambda: catboost.CatBoostClassifier(**cat), named, **gaps, **of_catboost),
        Kind("CatBoost", "CatBoostRegressor", lambda: catboost.CatBoostRegressor(**cat), diabetes_holes, **gaps, **of_catboost),
    ]  # fmt: skip


KINDS = [
    *_sklearn(),
    *(_boosting() if all(map(find_spec, ("xgboost", "lightgbm", "catboost"))) else []),
]

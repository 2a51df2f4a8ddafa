"""Each class that converts is in a table of kinds, which the docs show, and its package answers as it does."""

import warnings

import numpy as np
import pytest
from helpers.answers import cancer, diabetes, differences, names, one_column, wine
from helpers.examples import some
from helpers.kinds import KINDS
from helpers.more_kinds import ALL_KINDS, MORE_KINDS, class_of, table
from helpers.places import ROOT
from sklearn import datasets, dummy, linear_model, naive_bayes, neighbors, svm
from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import modelkit as mk
from modelkit.convert.estimators import refused
from modelkit.convert.estimators.table import TENSOR_CONVERTERS
from modelkit.convert.estimators.tensors import converts
from modelkit.testing import check_model

SEED = {"random_state": 0}
SPREAD = np.arange(1.0, 14.0)
Logistic = linear_model.LogisticRegression
OUTLIERS = {"outlier_label": "most_frequent"}
BOOSTING = {"n_estimators": 3, "init": RandomForestClassifier(3, **SEED)}
DOCS = ROOT / "docs" / "reference" / "what_converts.md"
BOOSTED = {"XGBoost", "LightGBM", "CatBoost"}  # whose training is slow
CONVERTERS = {name.partition(".")[2]: converter for name, converter in TENSOR_CONVERTERS.items()}
PLAIN = [kind for kind in ALL_KINDS if kind.family not in BOOSTED]
# The first kind of each converter.
FIRSTS = {CONVERTERS.get(class_of(kind), kind.id): kind.id for kind in reversed(PLAIN)}
ROWS = 120  # of the example
NEAR = 2e-4  # relative and absolute, for XGBoost and what else adds up in float32
IRIS = datasets.load_iris(return_X_y=True)
NAMED = (IRIS[0], datasets.load_iris().target_names[IRIS[1]])
BINARY = (IRIS[0][50:], IRIS[1][50:] > 1)
DIABETES = datasets.load_diabetes(return_X_y=True)
HOLES = (np.where(np.arange(IRIS[0].size).reshape(IRIS[0].shape) % 7, IRIS[0], np.nan), IRIS[1])


def labels():
    X, y = wine()
    return X, np.c_[y > 0, y > 1, y == 1].astype(int)


def classes_of_each():
    X, y = wine()
    return X, np.c_[y, y > 1]


def targets():
    X, y = diabetes()
    return X, np.c_[y, -(y**1.1)]


def counts():
    X, y = wine()
    return np.abs(np.rint(3 * X)), y


def half_known():
    X, y = wine()
    return X, np.where(np.arange(len(y)) % 3, y, -1)


def sgd(loss):
    return linear_model.SGDClassifier(loss=loss, **SEED)


def passive(kind):
    """A PassiveAggressiveClassifier or -Regressor, of which scikit-learn says that it will go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(linear_model, f"PassiveAggressive{kind}")(**SEED)


CLASSIFIERS = {
    "sgd log_loss": (sgd("log_loss"), wine),
    "sgd log_loss, two": (sgd("log_loss"), cancer),
    "sgd modified_huber": (sgd("modified_huber"), names),
    "sgd modified_huber, two": (sgd("modified_huber"), cancer),
    "sgd hinge": (sgd("hinge"), wine),
    "passive aggressive": (passive("Classifier"), names),
    "perceptron": (linear_model.Perceptron(**SEED), wine),
    "ridge, labels": (linear_model.RidgeClassifier(), labels),
    "linear svc": (svm.LinearSVC(**SEED), names),
    "linear discriminant": (LinearDiscriminantAnalysis(), names),
    "linear discriminant, eigen": (LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1), cancer),
    "quadratic discriminant": (QuadraticDiscriminantAnalysis(), wine),
    "quadratic discriminant, two": (QuadraticDiscriminantAnalysis(reg_param=0.1), cancer),
    "centroids": (neighbors.NearestCentroid(), names),
    "centroids, manhattan": (neighbors.NearestCentroid(metric="manhattan"), wine),
    "centroids, priors": (neighbors.NearestCentroid(priors="empirical"), wine),
    "gaussian": (naive_bayes.GaussianNB(), wine),
    "complement": (naive_bayes.ComplementNB(), counts),
    "dummy prior": (dummy.DummyClassifier(), names),
    "dummy constant": (dummy.DummyClassifier(strategy="constant", constant="blue"), names),
    "dummy labels": (dummy.DummyClassifier(strategy="most_frequent"), labels),
    "network relu": (MLPClassifier((8, 5), max_iter=30, **SEED), names),
    "network tanh": (MLPClassifier((8,), activation="tanh", max_iter=30, **SEED), cancer),
    "network logistic": (MLPClassifier((8,), activation="logistic", max_iter=30, **SEED), labels),
    "network identity": (MLPClassifier((8,), activation="identity", max_iter=30, **SEED), wine),
    "neighbours, distance": (neighbors.KNeighborsClassifier(weights="distance"), names),
    "neighbours, manhattan": (neighbors.KNeighborsClassifier(p=1), wine),
    "neighbours, minkowski": (neighbors.KNeighborsClassifier(p=3, metric_params={"w": SPREAD}), wine),
    "neighbours, cosine": (neighbors.KNeighborsClassifier(metric="cosine"), wine),
    "neighbours, seuclidean": (neighbors.KNeighborsClassifier(metric="seuclidean", metric_params={"V": SPREAD}), wine),
    "neighbours, several": (neighbors.KNeighborsClassifier(weights="distance"), classes_of_each),
    "radius": (neighbors.RadiusNeighborsClassifier(3.0, **OUTLIERS), names),
    "radius, brute": (neighbors.RadiusNeighborsClassifier(9.0, **OUTLIERS, algorithm="brute", p=1), wine),
    "radius, several": (neighbors.RadiusNeighborsClassifier(3.0, outlier_label=1, weights="distance"), labels),
    "support vectors": (svm.SVC(), names),
    "support vectors, linear": (svm.SVC(kernel="linear", break_ties=True), wine),
    "support vectors, poly": (svm.NuSVC(kernel="poly", nu=0.1), wine),
    "support vectors, sigmoid": (svm.SVC(kernel="sigmoid", decision_function_shape="ovo"), cancer),
    "chain": (ClassifierChain(Logistic(), order=[2, 0, 1]), labels),
    "chain, probabilities": (ClassifierChain(Logistic(), chain_method="predict_proba", cv=3), labels),
    "chain, decisions": (ClassifierChain(svm.LinearSVC(**SEED), chain_method="decision_function"), labels),
    "chain, forests": (ClassifierChain(RandomForestClassifier(4, **SEED)), labels),
    "code": (OutputCodeClassifier(Logistic(), **SEED), names),
    "code, forests": (OutputCodeClassifier(RandomForestClassifier(4, **SEED), code_size=3, **SEED), wine),
    "several, support vectors": (MultiOutputClassifier(svm.SVC()), labels),
    "against rest, labels": (OneVsRestClassifier(svm.LinearSVC(**SEED)), labels),
    "against one": (OneVsOneClassifier(svm.SVC()), names),
    "bagging, columns": (BaggingClassifier(Logistic(), 4, max_features=0.5, **SEED), names),
    "bagging, centroids": (BaggingClassifier(neighbors.NearestCentroid(), 3, **SEED), names),
    "adaptive": (AdaBoostClassifier(naive_bayes.GaussianNB(), n_estimators=3), names),
    "boosting after a forest": (GradientBoostingClassifier(**BOOSTING), names),
    "boosting after a forest, two": (GradientBoostingClassifier(loss="exponential", **BOOSTING), cancer),
    "taught": (SelfTrainingClassifier(Logistic()), half_known),
    "propagated": (LabelPropagation(gamma=0.5), half_known),
    "propagated, nearest": (LabelSpreading("knn", n_neighbors=5), half_known),
}  # fmt: skip


@some("name", CLASSIFIERS, 3)
def test_classifiers_answer_as_their_source(name, tmp_path):
    estimator, data = CLASSIFIERS[name]
    extreme = 2.0 if name.startswith("propagated") else 1e4  # beyond, the source has NaN
    for output, gap in differences(estimator, data, tmp_path / "m.mk", extreme).items():
        assert gap < 1e-12, output


REGRESSORS = {
    "passive aggressive": (passive("Regressor"), diabetes),
    "lars": (linear_model.LarsCV(), diabetes),
    "lasso lars": (linear_model.LassoLarsIC(), diabetes),
    "matching pursuit": (linear_model.OrthogonalMatchingPursuit(), targets),
    "ard": (linear_model.ARDRegression(), diabetes),
    "theil-sen": (linear_model.TheilSenRegressor(max_subpopulation=100, **SEED), diabetes),
    "consensus": (linear_model.RANSACRegressor(linear_model.Lasso(), min_samples=20, **SEED), diabetes),
    "quantile": (linear_model.QuantileRegressor(), diabetes),
    "several tasks": (linear_model.MultiTaskElasticNet(), targets),
    "poisson": (linear_model.PoissonRegressor(), diabetes),
    "gamma": (linear_model.GammaRegressor(), diabetes),
    "tweedie": (linear_model.TweedieRegressor(power=1.5), diabetes),
    "tweedie, identity": (linear_model.TweedieRegressor(power=1.5, link="identity", alpha=10), diabetes),
    "least squares": (PLSRegression(), targets),
    "correlations": (CCA(), targets),
    "isotonic": (IsotonicRegression(out_of_bounds="clip"), one_column),
    "isotonic, gaps": (IsotonicRegression(increasing=False), one_column),
    "dummy": (dummy.DummyRegressor(strategy="quantile", quantile=0.3), diabetes),
    "network": (MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, **SEED), diabetes),
    "network, several": (MLPRegressor(hidden_layer_sizes=(8,), activation="logistic", max_iter=30, **SEED), targets),
    "neighbours": (neighbors.KNeighborsRegressor(weights="distance"), targets),
    "radius": (neighbors.RadiusNeighborsRegressor(1.5), diabetes),
    "support vectors": (svm.SVR(), diabetes),
    "support vectors, poly": (svm.NuSVR(kernel="poly", coef0=0.5), diabetes),
    "support vectors, linear": (svm.SVR(kernel="linear"), diabetes),
    "kernel ridge": (KernelRidge(kernel="rbf", gamma=0.1), diabetes),
    "kernel ridge, several": (KernelRidge(kernel="poly"), targets),
    "kernel ridge, laplacian": (KernelRidge(kernel="laplacian"), diabetes),
    "chain": (RegressorChain(linear_model.Ridge(), order=[1, 0], cv=3), targets),
    "several": (MultiOutputRegressor(svm.SVR()), targets),
    "boosting after support vectors": (GradientBoostingRegressor(n_estimators=3, init=svm.SVR()), diabetes),
    "bagging": (BaggingRegressor(svm.SVR(), 3, max_features=0.5, **SEED), diabetes),
    "adaptive": (AdaBoostRegressor(linear_model.Ridge(), n_estimators=3, **SEED), diabetes),
}  # fmt: skip


@some("name", REGRESSORS, 2)
def test_regressors_answer_as_their_source(name, tmp_path):
    estimator, data = REGRESSORS[name]
    extreme = 2.0 if "poisson gamma tweedie".find(name.split(",")[0]) >= 0 else 1e4
    for output, gap in differences(estimator, data, tmp_path / "m.mk", extreme).items():
        assert gap < 1e-12, output


def test_no_estimator_has_two_converters():
    with pytest.raises(AssertionError, match=r"sklearn\.Ridge"):
        converts("Ridge")(print)


def firsts(kinds):
    return [kind for kind in kinds if kind.id in FIRSTS.values()]


def rows_for(model, X):
    """Rows as a Model takes them: texts as a column."""
    return {model.signature.inputs[0].name: list(X)} if isinstance(X, list) else X


@some("kind", KINDS, firsts(KINDS), ids=lambda kind: kind.id)
def test_a_package_answers_as_the_estimator(kind, tmp_path):
    estimator, X = kind.fit()
    manifest = mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")
    parity = manifest.parity
    assert parity.label_flips == 0
    assert parity.batch_invariant
    assert kind.numbers in {spec.dtype for spec in manifest.signature.inputs}
    columns = [column for spec in manifest.signature.inputs for column in spec.columns]
    assert all(column.nullable for column in columns) == kind.missing
    with mk.load(tmp_path / "m.mk") as model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = rows_for(model, X)
        check_model(model, rows_for(model, X[:20]))
        assert model.verify() == 0.0
        verb = "predict" if hasattr(estimator, "predict") else "transform"
        expected, got = np.asarray(getattr(estimator, verb)(X)), model.predict(rows)
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=2e-4, atol=2e-4)
        else:
            np.testing.assert_array_equal(got, expected.reshape(got.shape))
        if model.signature.has_probabilities:
            np.testing.assert_allclose(
                model.predict_proba(rows), estimator.predict_proba(X), atol=1e-4
            )
            if hasattr(estimator, "classes_"):  # a mixture has components
                np.testing.assert_array_equal(model.classes_, estimator.classes_)


# Classes that other kinds hold inside: scikit-learn's own, and those around a model.
INSIDE = {
    "Pipeline",
    "ColumnTransformer",
    "FeatureUnion",
    "FrozenEstimator",
    "KernelCenterer",
    "CatBoost",
    # of imbalanced-learn: see test_pipelines.py
    "BalancedBaggingClassifier",
    "BalancedRandomForestClassifier",
    "EasyEnsembleClassifier",
    "RUSBoostClassifier",
}


@some("kind", MORE_KINDS, firsts(MORE_KINDS), ids=lambda kind: kind.id)
def test_a_package_computes_in_these_numbers_and_takes_these_gaps(kind, tmp_path, one_thread):
    estimator, X = kind.fit()
    example = X[:ROWS]
    manifest = mk.save(estimator, tmp_path / "m.mk", example=example, name="m", version="1")
    columns = [column for spec in manifest.signature.inputs for column in spec.columns]
    assert kind.numbers in {spec.dtype for spec in manifest.signature.inputs}
    assert all(column.nullable for column in columns) == kind.missing
    assert manifest.parity.label_flips == 0
    with mk.load(tmp_path / "m.mk") as model, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verb = "predict" if hasattr(estimator, "predict") else "transform"
        expected = getattr(estimator, verb)(X[-ROWS:])
        expected = expected.toarray() if hasattr(expected, "toarray") else np.asarray(expected)
        got = model.predict(X[-ROWS:]).reshape(expected.shape)
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=NEAR, atol=NEAR)
        else:
            np.testing.assert_array_equal(got, expected)


@pytest.mark.skipif(KINDS[-1].library == "sklearn", reason="needs the boosting libraries")
def test_each_class_that_converts_is_in_the_tables():
    public = {name.partition(".")[2] for name in TENSOR_CONVERTERS}
    public = {name for name in public if not name.startswith("_")}
    assert public - {class_of(kind) for kind in ALL_KINDS} - set(refused.REASONS) <= INSIDE


@pytest.mark.skipif(KINDS[-1].library == "sklearn", reason="needs the boosting libraries")
def test_the_docs_list_what_is_tested():
    assert table() in DOCS.read_text(encoding="utf-8"), (
        "put the output of `PYTHONPATH=tests python -m helpers.more_kinds` into docs/reference/what_converts.md"
    )


@some(
    ("estimator", "data"),
    [
        (LogisticRegression(), BINARY),
        (LogisticRegression(max_iter=500), NAMED),
        (RidgeClassifier(), NAMED),
        (SGDClassifier(**SEED), IRIS),
        (make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", **SEED)), IRIS),
        (Perceptron(**SEED), BINARY),
        (LinearSVC(**SEED), BINARY),
        (LinearRegression(), DIABETES),
        (LinearRegression(), (DIABETES[0], np.c_[DIABETES[1], -DIABETES[1]])),
        (Ridge(), DIABETES),
        (Lasso(), DIABETES),
        (HuberRegressor(), DIABETES),
        (PoissonRegressor(), DIABETES),
        (DecisionTreeClassifier(**SEED), NAMED),
        (DecisionTreeRegressor(**SEED), DIABETES),
        (RandomForestClassifier(20, **SEED), NAMED),
        (RandomForestRegressor(20, **SEED), DIABETES),
        (ExtraTreesClassifier(20, **SEED), BINARY),
        (GradientBoostingClassifier(n_estimators=20, **SEED), NAMED),
        (GradientBoostingRegressor(n_estimators=20, **SEED), DIABETES),
        (HistGradientBoostingClassifier(max_iter=20, **SEED), HOLES),
        (HistGradientBoostingRegressor(max_iter=20, **SEED), DIABETES),
        (AdaBoostClassifier(n_estimators=10, **SEED), IRIS),
        (BaggingClassifier(**SEED), IRIS),
        (MLPClassifier((32, 16), max_iter=1000, **SEED), NAMED),
        (MLPRegressor(hidden_layer_sizes=(32,), max_iter=5000, **SEED), DIABETES),
        (make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=1000, **SEED)), IRIS),
        (
            make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=10, **SEED)),
            IRIS,
        ),
        (make_pipeline(SimpleImputer(), RandomForestClassifier(20, **SEED)), HOLES),
        (make_pipeline(MinMaxScaler(), PCA(2), LogisticRegression()), NAMED),
        (
            make_pipeline(
                PolynomialFeatures(2), StandardScaler(), LogisticRegression(max_iter=500)
            ),
            IRIS,
        ),
        (StandardScaler(), IRIS),
        (PCA(2), IRIS),
    ],
    3,
    ids=lambda value: "-".join(
        type(step).__name__ for _, step in getattr(value, "steps", [("", value)])
    ),
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_saved_estimator_answers_as_the_original(estimator, data, tmp_path):
    X, y = data
    estimator.fit(X, y)
    manifest = mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")
    assert manifest.parity.label_flips == 0
    assert manifest.parity.batch_invariant
    with mk.load(tmp_path / "m.mk") as model:
        check_model(model, X[:20])
        assert model.verify() == 0.0
        model.warmup()
        if hasattr(estimator, "predict"):
            expected = estimator.predict(X)
            got = model.predict(X)
            assert got.shape == expected.shape
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
            else:
                np.testing.assert_array_equal(got, expected)
                np.testing.assert_array_equal(model.classes_, estimator.classes_)
        else:
            np.testing.assert_allclose(
                model.predict(X) if model.signature.primary else None, estimator.transform(X)
            )
        if hasattr(estimator, "predict_proba"):
            np.testing.assert_allclose(
                model.predict_proba(X), estimator.predict_proba(X), atol=1e-5
            )

"""Models of scikit-learn that are no trees: packages answer fresh rows as their source, to the last digits."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from helpers.kinds import docstrings, penguins
from helpers.packages import saved
from sklearn import datasets, dummy, linear_model, naive_bayes, neighbors, svm
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.decomposition import TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor, kernels
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier

import modelkit as mk
from modelkit.convert.estimators.table import MODULES
from modelkit.errors import ConversionError

SEED = {"random_state": 0}
SPREAD = np.arange(1.0, 14.0)
NAMES = np.array(["red", "blue", "green"])
Logistic = linear_model.LogisticRegression


def _standard(data):
    X, y = data
    return (X - X.mean(axis=0)) / X.std(axis=0), y


@cache
def wine():
    return _standard(datasets.load_wine(return_X_y=True))


@cache
def cancer():
    return _standard(datasets.load_breast_cancer(return_X_y=True))


@cache
def diabetes():
    X, y = datasets.load_diabetes(return_X_y=True)
    return 20 * X, y


def names():
    return wine()[0], NAMES[wine()[1]]


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


def one_column():
    X, y = diabetes()
    return X[:, 2:3], y


def differences(estimator, data, path, extreme=1e4):
    """The largest difference of each output, over the size of its numbers, on rows that were not fitted."""
    X, y = data()
    rows = np.vstack([X[1::2], extreme * X[:3], -extreme * X[:3]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X[::2], y[::2])
        mk.save(estimator, path, example=X[::2], name="m", version="1")
        model = mk.load(path)
        got = model.run(rows)
        one = model.run(rows[:1])
        expected = {"label": estimator.predict(rows)}
        for verb, name in (("predict_proba", "probabilities"), ("decision_function", "scores")):
            if hasattr(estimator, verb):
                expected[name] = getattr(estimator, verb)(rows)
    found = {}
    for name, array in got.items():
        key = "label" if name == "prediction" else name
        part = None
        if name.startswith("probabilities_"):
            key, _, part = name.partition("_")
        if key not in expected:
            continue
        truth = expected[key] if part is None else expected[key][int(part)]
        assert array.shape == truth.shape, name
        np.testing.assert_allclose(one[name].shape[1:], array.shape[1:])
        if name == "label":
            np.testing.assert_array_equal(array, truth)
        else:
            gap = np.abs(array - truth)[np.isfinite(truth)]
            np.testing.assert_array_equal(np.isnan(array), np.isnan(truth))
            found[name] = float(gap.max(initial=0) / max(1e-300, np.nanmax(np.abs(truth))))
    return found


OUTLIERS = {"outlier_label": "most_frequent"}
BOOSTING = {"n_estimators": 3, "init": RandomForestClassifier(3, **SEED)}


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


@pytest.mark.parametrize("name", CLASSIFIERS)
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


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_answer_as_their_source(name, tmp_path):
    estimator, data = REGRESSORS[name]
    extreme = 2.0 if "poisson gamma tweedie".find(name.split(",")[0]) >= 0 else 1e4
    for output, gap in differences(estimator, data, tmp_path / "m.mk", extreme).items():
        assert gap < 1e-12, output


PROCESSES = {
    "default": None,
    "lengths": kernels.ConstantKernel(2) * kernels.RBF(range(1, 11)) + kernels.WhiteKernel(0.1),
    "matern 0.5": kernels.Matern(nu=0.5) + kernels.WhiteKernel(),
    "matern 1.5": kernels.Matern(nu=1.5),
    "matern 2.5": kernels.Matern(nu=2.5) * 2,
    "rational": kernels.RationalQuadratic() + kernels.WhiteKernel(),
    "products": (kernels.DotProduct() + kernels.WhiteKernel()) ** 2,
}


@pytest.mark.parametrize("name", PROCESSES)
def test_gaussian_processes(name, tmp_path):
    estimator = GaussianProcessRegressor(
        PROCESSES[name], optimizer=None, alpha=1e-2, normalize_y=True
    )
    gap = differences(estimator, diabetes, tmp_path / "m.mk", 10.0)["prediction"]
    assert gap < 1e-12


@pytest.mark.parametrize("data", [names, cancer])
def test_gaussian_processes_of_classes(data, tmp_path):
    estimator = GaussianProcessClassifier(kernels.RBF(3.0), optimizer=None)
    # The source adds up numbers of 3,500 to one below 1.
    assert differences(estimator, data, tmp_path / "m.mk", 10.0)["probabilities"] < 1e-11


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
@pytest.mark.parametrize("inner", CALIBRATED)
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


@pytest.mark.parametrize("kind", [svm.SVC, svm.SVR])
def test_kernels_that_were_computed_before(kind, tmp_path):
    X, y = wine()
    K = rbf_kernel(X, X[::2])
    estimator = kind(kernel="precomputed").fit(K[::2], y[::2])
    mk.save(estimator, tmp_path / "m.mk", example=K[::2], name="m", version="1")
    np.testing.assert_allclose(
        mk.load(tmp_path / "m.mk").predict(K), estimator.predict(K), rtol=1e-12
    )


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


NESTED = {
    "network": MLPClassifier((8,), max_iter=30, **SEED),
    "neighbours": neighbors.KNeighborsClassifier(weights="distance"),
    "discriminant": LinearDiscriminantAnalysis(),
    "process": GaussianProcessClassifier(kernels.RBF(2.0), optimizer=None),
    "calibrated": CalibratedClassifierCV(linear_model.SGDClassifier(**SEED), method="temperature"),
    "code": OutputCodeClassifier(Logistic(), **SEED),
}


@pytest.mark.parametrize("name", NESTED)
def test_behind_columns_with_strings_and_gaps(name, tmp_path):
    X, y = penguins()
    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
            ["island", "sex"],
        ),
        sparse_threshold=0,
    )
    estimator = make_pipeline(columns, NESTED[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X[::2], y[::2])
        mk.save(estimator, tmp_path / "m.mk", example=X[::2], name="m", version="1")
        model = mk.load(tmp_path / "m.mk")
        np.testing.assert_array_equal(model.predict(X), estimator.predict(X))
        if hasattr(estimator, "predict_proba"):
            np.testing.assert_allclose(
                model.predict_proba(X), estimator.predict_proba(X), rtol=0, atol=1e-11
            )


def test_neighbours_of_texts_need_a_dense_table(tmp_path):
    """A text of unknown words is equally far from all others."""
    texts, y = docstrings()
    neighbours = neighbors.KNeighborsClassifier()
    estimator = make_pipeline(TfidfVectorizer(), neighbours).fit(texts, y)
    with pytest.raises(ConversionError, match="put TruncatedSVD before it"):
        mk.save(estimator, tmp_path / "m.mk", example=texts, name="m", version="1")
    dense = make_pipeline(TfidfVectorizer(max_features=300), TruncatedSVD(5, **SEED), neighbours)
    dense.fit(texts[::2], y[::2])
    mk.save(dense, tmp_path / "m.mk", example=texts[:40], name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        np.testing.assert_array_equal(model.predict(texts), dense.predict(texts))


REFUSED = {
    "random": (dummy.DummyClassifier(strategy="uniform"), "answers at random"),
    "metric": (neighbors.KNeighborsClassifier(metric="haversine"), r"metric='haversine'\) cannot"),
    "own metric": (neighbors.KNeighborsClassifier(metric=lambda a, b: abs(a - b).sum()), "a function of your own"),
    "own weights": (neighbors.KNeighborsClassifier(weights=lambda d: 1 / (1 + d)), "weights='distance'"),
    "no outlier label": (neighbors.RadiusNeighborsClassifier(30.0), "outlier_label='most_frequent'"),
    "own kernel": (svm.SVC(kernel=lambda a, b: a @ b.T), "with a kernel of your own"),
    "matern": (GaussianProcessClassifier(kernels.Matern(nu=0.7), optimizer=None), "use nu=0.5"),
    "pairwise": (GaussianProcessClassifier(kernels.PairwiseKernel(), optimizer=None), "kernel PairwiseKernel"),
    "propagation": (LabelSpreading(rbf_kernel), "use kernel='rbf' or 'knn'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_option_and_a_way_out(name, tmp_path):
    estimator, said = REFUSED[name]
    X, y = wine()
    X = X[:, :2] if name == "metric" else X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X, y)
        with pytest.raises(ConversionError, match=said):
            mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")


def test_a_graph_raises_no_errors_beyond_the_steps_of_an_isotonic_regression(tmp_path):
    X, y = one_column()
    estimator = IsotonicRegression(out_of_bounds="raise").fit(X, y)
    with pytest.raises(ConversionError, match="set out_of_bounds to 'clip' or 'nan'"):
        mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")


def test_no_estimator_has_two_converters():
    names = [name for module in MODULES for name in module.ESTIMATORS]
    assert len(names) == len(set(names))


def test_leaves_of_many_numbers_are_added_in_the_order_of_the_trees(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    Y = X @ rng.normal(size=(3, 70))
    model = RandomForestRegressor(40, max_depth=3, **SEED).fit(X, Y)
    _, packed = saved(model, X, tmp_path)
    np.testing.assert_array_equal(packed.predict(X), model.predict(X))
    explained = mk.Explainer(packed, background=X[:40]).explain(X[:3])
    assert explained.method == "trees"


def test_near_zero_rows_are_as_far_by_cosine_as_in_the_source(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 2, size=(60, 3))
    y = X[:, 0] * 10
    model = neighbors.KNeighborsRegressor(60, weights="distance", metric="cosine").fit(X, y)
    _, packed = saved(model, X, tmp_path)
    tiny = np.array([[1e-16, 2e-16, 1e-16], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]])
    np.testing.assert_allclose(packed.predict(tiny), model.predict(tiny), rtol=1e-12)


def test_samplers_of_imbalanced_learn_are_left_out(tmp_path):
    imblearn = pytest.importorskip("imblearn")
    from imblearn import ensemble as balanced
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import make_pipeline as with_samplers
    from imblearn.under_sampling import RandomUnderSampler

    assert imblearn.__version__
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"x": rng.normal(size=200), "kind": rng.choice(list("abc"), 200), "unread": "?"}
    )
    y = (X["x"] + (X["kind"] == "a") > 1.2).astype(int)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["kind"]), (StandardScaler(), ["x"])
    )
    several = [
        balanced.BalancedBaggingClassifier(n_estimators=2, random_state=0),
        balanced.BalancedRandomForestClassifier(3, random_state=0),
        balanced.EasyEnsembleClassifier(2, Logistic(), random_state=0),
        balanced.RUSBoostClassifier(n_estimators=3, random_state=0),
    ]
    voting = VotingClassifier([(str(at), each) for at, each in enumerate(several)], voting="soft")
    models = [
        GridSearchCV(with_samplers(columns, SMOTE(random_state=0), Logistic()), {}, cv=2),
        with_samplers(RandomUnderSampler(random_state=0), columns, voting),
    ]
    for model in models:
        model.fit(X, y)
        mk.save(model, tmp_path / "m.mk", example=X, name="m", version="1")
        with mk.load(tmp_path / "m.mk") as package:
            assert package.signature.ignored == ("unread",)
            rows = X.assign(x=X["x"] * 3, kind=np.resize(["a", "new"], len(X)))
            np.testing.assert_allclose(
                package.predict_proba(rows), model.predict_proba(rows), atol=1e-9
            )

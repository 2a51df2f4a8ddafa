"""What scikit-learn models answer: scores, clusters, mixtures, outliers and labels of every type are their source's."""

import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.kinds import two_labels
from helpers.packages import opened, saved
from sklearn import cluster, covariance, ensemble, linear_model, manifold, mixture, neighbors, svm
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris, load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk

SEED = {"random_state": 0}
SCALE = 1e-12  # of the largest number of an output, by which the two may differ
VERBS = {
    "label": "predict",
    "prediction": "predict",
    "scores": "decision_function",
    "score_samples": "score_samples",
    "probabilities": "predict_proba",
    "transformed": "transform",
}
FLOWERS = load_iris(return_X_y=True)[0]
BINARY = (FLOWERS[:, 2] > 4.3).astype(int)
NAMES = np.array(["benign", "malignant"])


def fitted(source, X, y=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return source.fit(X, y)


def check(source, model, rows, scale=SCALE):
    """Every output of a package against the verb of its source; gives the outputs."""
    given = model.run(rows)
    for name, got in given.items():
        verb, _, part = name.rpartition("_") if name[-1].isdecimal() else (name, "", "")
        expected = getattr(source, VERBS[verb])(rows)
        if part:
            expected = expected[int(part)]
        expected = np.asarray(expected)
        assert got.shape == expected.shape
        if name == "label":
            assert (got == expected).all()
        else:
            size = max(1.0, np.abs(expected).max(initial=0.0))
            np.testing.assert_allclose(got, expected, rtol=0, atol=scale * size)
    return given


def fresh(X, seed=1):
    """Rows between and around those of an example, a zero row and a far one."""
    rng = np.random.default_rng(seed)
    rows = X[rng.integers(len(X), size=300)] * rng.uniform(0.8, 1.25, (300, X.shape[1]))
    return np.vstack([rows, 0 * X[:1], 5 * X[:1], X[:20]])


DETECTORS = {
    "forest": ensemble.IsolationForest(n_estimators=20, **SEED),
    "forest of shares": ensemble.IsolationForest(
        n_estimators=15, contamination=0.1, max_features=0.5, **SEED
    ),
    "rbf": svm.OneClassSVM(nu=0.1),
    "poly": svm.OneClassSVM(kernel="poly", degree=2, coef0=1.0),
    "linear": svm.OneClassSVM(kernel="linear", nu=0.2),
    "sigmoid": svm.OneClassSVM(kernel="sigmoid", gamma=0.01),
    "stochastic": linear_model.SGDOneClassSVM(nu=0.2, **SEED),
    "envelope": covariance.EllipticEnvelope(**SEED),
    "centred envelope": covariance.EllipticEnvelope(
        assume_centered=True, contamination=0.2, support_fraction=0.9, **SEED
    ),
    "local": neighbors.LocalOutlierFactor(novelty=True),
    "local, few": neighbors.LocalOutlierFactor(n_neighbors=5, contamination=0.1, novelty=True),
    "local, other distances": neighbors.LocalOutlierFactor(metric="manhattan", novelty=True),
    "local, brute": neighbors.LocalOutlierFactor(n_neighbors=7, algorithm="brute", novelty=True),
}


@some("name", DETECTORS, 6)
def test_outlier_detectors_give_labels_and_both_scores(tmp_path, name):
    X = load_wine(return_X_y=True)[0]
    source = fitted(make_pipeline(StandardScaler(), DETECTORS[name]), X)
    given = check(source, opened(source, X, tmp_path), fresh(X))
    assert set(given) == {"label", "scores", "score_samples"}
    assert set(np.unique(given["label"])) == {-1, 1}


CLUSTERS = {
    "means": cluster.KMeans(5, **SEED),
    "one": cluster.KMeans(1, **SEED),
    "elkan": cluster.KMeans(6, algorithm="elkan", n_init=2, **SEED),
    "batches": cluster.MiniBatchKMeans(4, **SEED),
    "bisecting": cluster.BisectingKMeans(7, **SEED),
    "bisecting the largest": cluster.BisectingKMeans(
        6, bisecting_strategy="largest_cluster", **SEED
    ),
    "not bisected": cluster.BisectingKMeans(1, **SEED),
    "birch": cluster.Birch(n_clusters=3),
    "birch alone": cluster.Birch(n_clusters=None, threshold=2.0),
    "birch and others": cluster.Birch(n_clusters=cluster.AgglomerativeClustering(4)),
    "shift": cluster.MeanShift(bandwidth=3.0),
    "affinity": cluster.AffinityPropagation(**SEED),
}


@some("name", CLUSTERS, 6)
def test_clusters_are_the_nearest_centres(tmp_path, name):
    X = load_wine(return_X_y=True)[0]
    source = fitted(clone(CLUSTERS[name]), X)
    # Squared distances are differences of squares: rounding shows where a row is at a centre.
    check(source, opened(source, X, tmp_path), fresh(X)[20:-20], 1e-9)


@pytest.mark.parametrize(
    "source", [CLUSTERS["means"], CLUSTERS["birch"], DETECTORS["rbf"], svm.LinearSVC()], ids=str
)
def test_rows_of_float32_are_widened(tmp_path, source):
    X, y = load_wine(return_X_y=True)
    whole = fitted(make_pipeline(StandardScaler(), clone(source)), X, y)
    rows = fresh(X)[:-20].astype(np.float32)
    for name, got in opened(whole, X, tmp_path).run(rows).items():
        expected = getattr(whole, VERBS[name])(rows.astype(np.float64))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_of_equally_near_centres_the_first_is_the_label(tmp_path):
    X = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]] * 5)
    rows = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [-7.0, 1.0]])
    for source in (cluster.KMeans(4, **SEED), cluster.BisectingKMeans(4, **SEED), cluster.Birch()):
        fitted(source, X)
        check(source, opened(source, X, tmp_path), rows)


MIXED = [
    kind(n_components=3, covariance_type=form, **SEED)
    for kind in (mixture.GaussianMixture, mixture.BayesianGaussianMixture)
    for form in ("full", "tied", "diag", "spherical")
]
MIXED.append(
    mixture.BayesianGaussianMixture(
        n_components=4, weight_concentration_prior_type="dirichlet_distribution", **SEED
    )
)


@some("source", MIXED, 3, ids=str)
def test_mixtures_give_shares_and_the_likelihood(tmp_path, source):
    X = load_iris(return_X_y=True)[0]
    fitted(source, X)
    model = opened(source, X, tmp_path)
    given = check(source, model, fresh(X), 1e-11)
    assert set(given) == {"label", "probabilities", "score_samples"}
    np.testing.assert_array_equal(model.predict_proba(fresh(X)), given["probabilities"])
    assert model.signature.classes is None


@pytest.mark.parametrize("numbers", [np.float32, np.float64])
@pytest.mark.parametrize(
    "source", [cluster.KMeans(5, **SEED), mixture.GaussianMixture(2, **SEED)], ids=str
)
def test_what_was_fitted_on_float32_is_as_exact_as_that(tmp_path, source, numbers):
    X = load_iris(return_X_y=True)[0].astype(numbers)
    fitted(source, X)
    scale = 1e-4 if numbers == np.float32 else 1e-9
    check(source, opened(source, X, tmp_path), fresh(X).astype(numbers), scale)


@pytest.mark.parametrize("inner", ["means", "birch", "batches", "bisecting"])
def test_clusters_are_columns_for_what_follows(tmp_path, inner):
    X, y = load_wine(return_X_y=True)
    last = LogisticRegression(max_iter=3000)
    source = fitted(make_pipeline(StandardScaler(), CLUSTERS[inner], last), X, y)
    check(source, opened(source, X, tmp_path), fresh(X), 1e-9)


@some(
    "last",
    [
        DETECTORS["envelope"],
        DETECTORS["rbf"],
        DETECTORS["stochastic"],
        CLUSTERS["means"],
        CLUSTERS["bisecting"],
        CLUSTERS["birch alone"],
        MIXED[2],
        svm.LinearSVC(),
    ],
    2,
    ids=str,
)
def test_behind_columns_with_strings_and_gaps(tmp_path, penguins, last):
    X, y = penguins
    numbers = ["bill_length_mm", "body_mass_g"]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["island"]),
    )
    source = fitted(make_pipeline(columns, last), X, y)
    rows = X.copy()
    rows.loc[rows.index[::3], numbers] = np.nan
    rows.loc[rows.index[::5], "island"] = "nowhere"
    check(source, opened(source, X, tmp_path), rows, 1e-9)


@pytest.mark.parametrize(
    "source",
    [
        cluster.DBSCAN(),
        cluster.AgglomerativeClustering(),
        neighbors.LocalOutlierFactor(),
        neighbors.NearestNeighbors(),
        manifold.TSNE(max_iter=250),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["onnx", "joblib"])
def test_what_groups_its_own_rows_alone_is_refused_by_name(tmp_path, source, form):
    X = load_iris(return_X_y=True)[0]
    whole = fitted(make_pipeline(StandardScaler(), source), X)
    name = type(source).__name__
    advice = "KMeans|novelty=True|KNeighborsTransformer|PCA"
    with pytest.raises(
        mk.errors.ConversionError, match=rf"^{name} has neither.*({advice})"
    ) as caught:
        opened(whole, X, tmp_path, **({"format": form} if form == "joblib" else {}))
    assert caught.value.step == name


@pytest.mark.parametrize(
    "last",
    [
        ensemble.RandomTreesEmbedding(7, random_state=0),
        ensemble.RandomTreesEmbedding(5, max_depth=1, sparse_output=False, random_state=0),
        BernoulliRBM(3, random_state=0),
    ],
    ids=str,
)
def test_leaves_and_hidden_units_are_columns(tmp_path, last):
    X, y = load_wine(return_X_y=True)
    source = fitted(make_pipeline(MinMaxScaler(), last), X)
    got = opened(source, X, tmp_path).predict(fresh(X))
    expected = source.transform(fresh(X))
    expected = expected.toarray() if hasattr(expected, "toarray") else expected
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    whole = fitted(make_pipeline(MinMaxScaler(), last, LogisticRegression(max_iter=500)), X, y)
    check(whole, opened(whole, X, tmp_path), fresh(X))


def test_kernels_of_your_own_are_refused(tmp_path):
    X = load_iris(return_X_y=True)[0]
    source = svm.OneClassSVM(kernel=_linear).fit(X)
    with pytest.raises(mk.errors.ConversionError, match=r"^OneClassSVM with a kernel of your own"):
        opened(source, X, tmp_path)


def _linear(left, right):
    return left @ right.T


LABELS = {
    "floats": BINARY.astype(float),
    "float32": BINARY.astype(np.float32),
    "booleans": BINARY == 1,
    "nullable booleans": pd.Series(BINARY == 1).astype("boolean"),
    "nullable integers": pd.Series(BINARY).astype("Int64"),
    "nullable floats": pd.Series(BINARY * 2.0).astype("Float64"),
    "small integers": BINARY.astype(np.int8),
    "unsigned": BINARY.astype(np.uint64) + 3,
    "large integers": BINARY * 10**15,
    "strings": NAMES[BINARY],
    "objects": NAMES.astype(object)[BINARY],
    "numpy strings as objects": np.array([np.str_(name) for name in NAMES], object)[BINARY],
    "texts of pandas": pd.Series(NAMES[BINARY]).astype("string"),
    "categories": pd.Series(NAMES[BINARY]).astype("category"),
    "categories of integers": pd.Series(BINARY).astype("category"),
    "words for booleans": np.array(["False", "True"])[BINARY],
}
CLASSIFIERS = [
    LogisticRegression(max_iter=500),
    DecisionTreeClassifier(max_depth=3),
    svm.LinearSVC(),
]


@pytest.mark.parametrize("form", ["onnx", "joblib"])
@some("kind", LABELS, 3)
def test_labels_of_every_type(tmp_path, kind, form):
    X, y = FLOWERS, LABELS[kind]
    given = {"format": form} if form == "joblib" else {}
    turn = list(LABELS).index(kind) % len(CLASSIFIERS)
    for last in CLASSIFIERS[turn:] if form == "onnx" else CLASSIFIERS[turn : turn + 1]:
        source = fitted(make_pipeline(StandardScaler(), last), X, y)
        model = opened(source, X, tmp_path, **given)
        check(source, model, fresh(X))
        assert model.classes_.tolist() == source.classes_.tolist()
        assert type(model.signature.classes[0]) in (bool, int, float, str)
        truth = source.predict(X)
        truth[:20] = source.classes_[0]
        assert model.score(X, truth) == source.score(X, truth)


class Wrapped(BaseEstimator):
    """A classifier around another, which does not say that it is one."""

    def fit(self, X, y):
        self.inner_ = LogisticRegression(max_iter=5000).fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, X):
        return self.inner_.predict(X)

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)


@pytest.mark.parametrize(
    "given", [{"format": "joblib"}, {"converters": {Wrapped: lambda step: step.inner_}}]
)
def test_a_class_with_classes_and_probabilities_is_a_classifier(tmp_path, given):
    source = Wrapped().fit(FLOWERS, BINARY)
    model = opened(source, FLOWERS, tmp_path, **given)
    assert model.classes_.tolist() == [0, 1]
    np.testing.assert_allclose(model.predict_proba(FLOWERS), source.predict_proba(FLOWERS))


def test_labels_of_other_types_are_refused(tmp_path):
    dates = np.array(["2020-01-01", "2020-01-02"], "M8[D]")
    source = LogisticRegression(max_iter=5000).fit(FLOWERS, dates[BINARY])
    for given in ({}, {"format": "joblib"}):
        with pytest.raises(
            mk.errors.ConversionError, match=r"this classifier's are .*astype\(str\)"
        ):
            opened(source, FLOWERS, tmp_path, **given)


@pytest.mark.parametrize("label", [0, "only"])
def test_a_classifier_of_one_class(tmp_path, label):
    X = load_iris(return_X_y=True)[0]
    for source in (DecisionTreeClassifier(), ensemble.RandomForestClassifier(5)):
        source.fit(X, [label] * len(X))
        model = opened(source, X, tmp_path)
        given = check(source, model, fresh(X))
        assert given["probabilities"].shape[1] == 1
        assert model.classes_.tolist() == [label]


TARGETS = {
    "two of two": lambda y: np.c_[y > 0, y > 1].astype(int),
    "three and two": lambda y: np.c_[y, y > 1].astype(int),
    "strings": lambda y: np.array(["p", "q", "r"])[np.c_[y, 2 - y]],
    "booleans": lambda y: np.c_[y > 0, y > 1],
    "floats": lambda y: np.c_[y, y > 1].astype(float),
    "one": lambda y: (y[:, None] > 0).astype(int),
}


@pytest.mark.parametrize("form", ["onnx", "joblib"])
@some("kind", TARGETS, 2)
def test_several_labels_a_row(tmp_path, kind, form):
    X, y = load_wine(return_X_y=True)
    given = {"format": form} if form == "joblib" else {}
    for last in (
        MultiOutputClassifier(LogisticRegression()),
        MultiOutputClassifier(svm.LinearSVC()),
        DecisionTreeClassifier(max_depth=3),
    ):
        source = fitted(make_pipeline(StandardScaler(), last), X, TARGETS[kind](y))
        check(source, opened(source, X, tmp_path, **given), fresh(X))


def test_several_outputs_are_asked_for_by_name(tmp_path):
    from sklearn.multioutput import MultiOutputClassifier

    X, y = two_labels()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MultiOutputClassifier(LogisticRegression(max_iter=50)).fit(X, y)
    _, packed = saved(model, X, tmp_path)
    got = packed.run(X)
    assert list(got) == ["label", "probabilities_0", "probabilities_1"]
    np.testing.assert_array_equal(packed.predict(X), model.predict(X))
    for i, expected in enumerate(model.predict_proba(X)):
        np.testing.assert_allclose(got[f"probabilities_{i}"], expected, atol=1e-6)
    with pytest.raises(AttributeError, match="use predict or run"):
        packed.predict_proba(X)

"""Nearest neighbours: distances, which of several at one distance are chosen, and targets of every kind."""

import warnings

import numpy as np
import pytest
from helpers.examples import some
from helpers.kinds import docstrings, two_labels
from helpers.packages import saved
from helpers.rows import normal
from sklearn import neighbors
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import KNNImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    LocalOutlierFactor,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.semi_supervised import LabelSpreading

import modelkit as mk
from modelkit.convert.estimators import table
from modelkit.convert.ties import choosing
from modelkit.errors import ConversionError, ParityError

SOME = {"grid": 0.1, "rounded": 0.02}  # the share of rows whose label hangs on the choice
METRICS = ["manhattan", "chebyshev", "canberra", "hamming", "braycurtis", "cosine"]
SEARCHED = {"kneighborsclassifier__n_neighbors": [3, 5]}
RADII = {"iris": 1.0, "rounded": 0.5, "grid": 3.0}
SEED = {"random_state": 0}


def grid():
    """Points of a grid, each several times, so that many are equally far from any row."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 10, (600, 2)).astype(np.float64)
    return X, (X.sum(axis=1) + rng.integers(0, 3, 600) > 10).astype(int)


def rounded():
    rng = np.random.default_rng(1)
    X = np.round(rng.normal(size=(400, 3)), 1)
    return X, (X[:, 0] > 0).astype(int)


DATA = {
    "digits": load_digits(return_X_y=True),
    "iris": load_iris(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "cancer": load_breast_cancer(return_X_y=True),
    "grid": grid(),
    "rounded": rounded(),
}


def proven(estimator, example, tmp_path):
    manifest = mk.save(estimator, tmp_path / "m.mk", example=example, name="m", version="1")
    assert manifest.parity.label_flips == 0
    assert manifest.parity.batch_invariant
    return manifest, mk.load(tmp_path / "m.mk")


def agree_but_for_ties(fitted, example, fresh, tmp_path):
    """Fresh rows are answered as by the rule; a few otherwise than by scikit-learn's own choice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manifest, model = proven(fitted, example, tmp_path)
        chooser = choosing(fitted)
        np.testing.assert_array_equal(model.predict(fresh), chooser.predict(fresh))
        if hasattr(fitted, "predict_proba"):
            likely = model.predict_proba(fresh)
            np.testing.assert_allclose(likely, chooser.predict_proba(fresh), rtol=0, atol=1e-12)
        differs = model.predict(fresh) != fitted.predict(fresh)
    return manifest.parity, int(differs.sum())


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@some("name", DATA, ["cancer", "grid"])
def test_everyday_data_converts(name, weights, tmp_path):
    X, y = DATA[name]
    for count in (1, 5):
        fitted = KNeighborsClassifier(count, weights=weights).fit(X[::2], y[::2])
        _, differing = agree_but_for_ties(fitted, X[::2], X[1::2], tmp_path)
        assert differing <= SOME.get(name, 0) * len(X[1::2])


@pytest.mark.parametrize("name", ["iris", "wine", "grid", "rounded"])
@some("metric", METRICS, 2)
def test_metrics_of_few_values_convert(metric, name, tmp_path):
    X, y = DATA[name]
    fitted = KNeighborsClassifier(3, metric=metric).fit(X[::2], y[::2])
    agree_but_for_ties(fitted, X[::2], X[1::2], tmp_path)


NESTED = {
    "scaled": make_pipeline(StandardScaler(), KNeighborsClassifier(4)),
    "searched": GridSearchCV(make_pipeline(MinMaxScaler(), KNeighborsClassifier()), SEARCHED, cv=2),
    "voting": VotingClassifier(
        [("near", KNeighborsClassifier()), ("line", LogisticRegression())], voting="soft"
    ),
    "stacked": StackingClassifier([("near", KNeighborsClassifier())], LogisticRegression(), cv=2),
    "bagged": BaggingClassifier(KNeighborsClassifier(3), 3, random_state=0),
    "calibrated": CalibratedClassifierCV(KNeighborsClassifier(), cv=2),
    "spread": LabelSpreading("knn", n_neighbors=5),
    "outliers": LocalOutlierFactor(8, novelty=True),
}


@some("name", NESTED, 4)
def test_ties_are_found_wherever_the_neighbours_are(name, tmp_path):
    X, y = DATA["grid"]
    fitted = NESTED[name].fit(X[::2], y[::2])
    parity, _ = agree_but_for_ties(fitted, X[::2], X[1::2], tmp_path)
    if name != "outliers":
        assert parity.ties > 0
        assert f"{parity.ties} at ties" in str(parity)


@pytest.mark.parametrize("name", ["digits", "rounded"])
def test_targets_of_neighbours(name, tmp_path):
    X, y = DATA[name]
    fitted = KNeighborsRegressor(4).fit(X[::2], y[::2] / 7)
    _, model = proven(fitted, X[::2], tmp_path)
    found = model.predict(X[1::2])
    np.testing.assert_allclose(found, choosing(fitted).predict(X[1::2]), rtol=1e-12)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@some("name", ["iris", "rounded", "wine"], 1)
def test_gaps_are_filled_from_rows_at_one_distance(name, weights, tmp_path):
    X = DATA[name][0].copy()
    X[np.random.default_rng(2).random(X.shape) < 0.1] = np.nan
    fitted = make_pipeline(KNNImputer(weights=weights), StandardScaler()).fit(X[::2])
    _, model = proven(fitted, X[::2], tmp_path)
    filled = choosing(fitted).transform(X[1::2])
    np.testing.assert_allclose(model.predict(X[1::2]), filled, rtol=0, atol=1e-9)


def test_what_is_chosen_is_as_near_as_what_scikit_learn_takes():
    X, y = DATA["grid"]
    fitted = KNeighborsClassifier().fit(X[::2], y[::2])
    own, _ = fitted.kneighbors(X[1::2])
    distances, places = choosing(fitted).kneighbors(X[1::2])
    np.testing.assert_allclose(distances, own, atol=1e-12)
    apart = np.linalg.norm(fitted._fit_X[places] - X[1::2][:, None], axis=2)
    np.testing.assert_allclose(apart, own, atol=1e-12)


def test_a_row_of_training_is_at_distance_zero_from_itself(tmp_path):
    """scikit-learn computes Euclidean distances of many columns from products, and finds 1e-5 or so."""
    X, y = DATA["cancer"]
    fitted = KNeighborsClassifier(weights="distance").fit(X, y)
    manifest, model = proven(fitted, X, tmp_path)
    assert manifest.parity.ties > 0
    np.testing.assert_array_equal(model.predict_proba(X), np.eye(2)[y])


def one_more(classifier):
    """A converter that is wrong: it asks one more neighbour."""

    def convert(estimator, columns, at):
        other = KNeighborsClassifier(estimator.n_neighbors + 1)
        return classifier(other.fit(estimator._fit_X, estimator._y), columns, at)

    return convert


def last_first(classifier):
    """A converter that is wrong: of neighbours at one distance it takes those that come last."""

    def convert(estimator, columns, at):
        other = KNeighborsClassifier(estimator.n_neighbors)
        return classifier(other.fit(estimator._fit_X[::-1], estimator._y[::-1]), columns, at)

    return convert


def shifted(classifier):
    """A converter that is wrong: some rows of training are not where they were."""

    def convert(estimator, columns, at):
        known = estimator._fit_X.copy()
        known[:20, 0] = 9 - known[:20, 0]
        other = KNeighborsClassifier(estimator.n_neighbors)
        return classifier(other.fit(known, estimator._y), columns, at)

    return convert


@pytest.mark.parametrize("wrong", [one_more, last_first, shifted])
@some("scaled", [False, True], 1)
def test_a_wrong_graph_cannot_hide_behind_ties(scaled, wrong, tmp_path, monkeypatch):
    name = "sklearn.KNeighborsClassifier"
    right = table.TENSOR_CONVERTERS[name]
    monkeypatch.setitem(table.TENSOR_CONVERTERS, name, wrong(right))
    X, y = DATA["grid"]
    neighbours = KNeighborsClassifier(3)
    model = make_pipeline(StandardScaler(), neighbours) if scaled else neighbours
    with pytest.raises(ParityError, match=r"nothing was saved"):
        proven(model.fit(X, y), X, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("algorithm", ["kd_tree", "brute"])
@some("name", RADII, 1)
def test_rows_at_the_radius_are_within_it(name, algorithm, weights, tmp_path):
    X, y = DATA[name]
    options = {"algorithm": algorithm, "weights": weights}
    within = RadiusNeighborsClassifier(RADII[name], outlier_label="most_frequent", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agree_but_for_ties(within.fit(X[::2], y[::2]), X[::2], X[1::2], tmp_path)
        for targets in (y, y / 7):
            fitted = RadiusNeighborsRegressor(RADII[name], **options).fit(X[::2], targets[::2])
            _, model = proven(fitted, X[::2], tmp_path)
            found = model.predict(X[1::2])
            expected = choosing(fitted).predict(X[1::2])
            np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_neighbors_within_a_radius_in_a_stack(tmp_path):
    X, y = DATA["iris"]
    inner = [("within", RadiusNeighborsRegressor(2.0)), ("line", LinearRegression())]
    model = StackingRegressor(inner, LinearRegression(), cv=2).fit(X, y)
    _, package = proven(model, X, tmp_path)
    np.testing.assert_allclose(package.predict(X), model.predict(X), rtol=1e-12)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("algorithm", ["kd_tree", "brute"])
def test_neighbours_and_their_distances_are_those_of_the_source(algorithm, weights, tmp_path):
    X = normal(150)
    y = np.digitize(X[:, 0], [-1, 1])
    rows = np.concatenate([normal(1000), X])
    options = {"weights": weights, "algorithm": algorithm}
    fitted = KNeighborsClassifier(3, **options).fit(X, y)
    _, model = saved(fitted, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), atol=1e-6)
    for targets in (X[:, 0], X[:, :2]):
        fitted = KNeighborsRegressor(4, **options).fit(X, targets)
        _, model = saved(fitted, X, tmp_path)
        np.testing.assert_allclose(model.predict(rows), fitted.predict(rows), 1e-5, 1e-6)


def test_neighbours_at_an_infinite_distance_still_have_a_mean(tmp_path):
    """All rows of fit are equally far then; which of them are taken is the source's accident."""
    X = normal(200)
    fitted = KNeighborsRegressor(5).fit(X, X[:, 0])
    _, model = saved(fitted, X, tmp_path)
    far = X[:20] * 1e170
    assert np.isfinite(fitted.predict(far)).all()
    assert np.isfinite(model.predict(far)).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_labels_of_neighbours_may_be_small_integers(dtype, tmp_path):
    X = normal(100)
    fitted = KNeighborsClassifier().fit(X, (X[:, 0] > 0).astype(dtype))
    _, model = saved(fitted, X, tmp_path)
    assert (model.predict(X) == fitted.predict(X)).all()


def test_neighbours_of_several_targets_answer_with_strings(tmp_path):
    rows, labels = two_labels()
    named = np.where(labels > 0, "yes", "no")
    neighbours = KNeighborsClassifier().fit(rows, named)
    _, model = saved(neighbours, rows, tmp_path)
    np.testing.assert_array_equal(model.predict(rows), neighbours.predict(rows))


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


def test_near_zero_rows_are_as_far_by_cosine_as_in_the_source(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 2, size=(60, 3))
    y = X[:, 0] * 10
    model = neighbors.KNeighborsRegressor(60, weights="distance", metric="cosine").fit(X, y)
    _, packed = saved(model, X, tmp_path)
    tiny = np.array([[1e-16, 2e-16, 1e-16], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]])
    np.testing.assert_allclose(packed.predict(tiny), model.predict(tiny), rtol=1e-12)

"""Neighbours at equal distances: which are chosen, that they are counted, and that others are refused."""

import warnings

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
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
from modelkit.convert.gate.ties import choosing
from modelkit.errors import ParityError

SOME = {"grid": 0.1, "rounded": 0.02}  # the share of rows whose label hangs on the choice
METRICS = ["manhattan", "chebyshev", "canberra", "hamming", "braycurtis", "cosine"]


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


def saved(estimator, example, tmp_path):
    manifest = mk.save(estimator, tmp_path / "m.mk", example=example, name="m", version="1")
    assert manifest.parity.label_flips == 0
    assert manifest.parity.batch_invariant
    return manifest, mk.load(tmp_path / "m.mk")


def agree_but_for_ties(fitted, example, fresh, tmp_path):
    """Fresh rows are answered as by the rule; a few otherwise than by scikit-learn's own choice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        manifest, model = saved(fitted, example, tmp_path)
        chooser = choosing(fitted)
        np.testing.assert_array_equal(model.predict(fresh), chooser.predict(fresh))
        if hasattr(fitted, "predict_proba"):
            likely = model.predict_proba(fresh)
            np.testing.assert_allclose(likely, chooser.predict_proba(fresh), rtol=0, atol=1e-12)
        differs = model.predict(fresh) != fitted.predict(fresh)
    return manifest.parity, int(differs.sum())


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("name", DATA)
def test_everyday_data_converts(name, weights, tmp_path):
    X, y = DATA[name]
    for count in (1, 5):
        fitted = KNeighborsClassifier(count, weights=weights).fit(X[::2], y[::2])
        _, differing = agree_but_for_ties(fitted, X[::2], X[1::2], tmp_path)
        assert differing <= SOME.get(name, 0) * len(X[1::2])


@pytest.mark.parametrize("name", ["iris", "wine", "grid", "rounded"])
@pytest.mark.parametrize("metric", METRICS)
def test_metrics_of_few_values_convert(metric, name, tmp_path):
    X, y = DATA[name]
    fitted = KNeighborsClassifier(3, metric=metric).fit(X[::2], y[::2])
    agree_but_for_ties(fitted, X[::2], X[1::2], tmp_path)


SEARCHED = {"kneighborsclassifier__n_neighbors": [3, 5]}
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


@pytest.mark.parametrize("name", NESTED)
def test_ties_are_found_wherever_the_neighbours_are(name, tmp_path):
    X, y = DATA["grid"]
    fitted = NESTED[name].fit(X[::2], y[::2])
    parity, _ = agree_but_for_ties(fitted, X[::2], X[1::2], tmp_path)
    if name != "outliers":
        assert parity.ties > 0
        assert f"{parity.ties} others at ties" in str(parity)


@pytest.mark.parametrize("name", ["digits", "rounded"])
def test_targets_of_neighbours(name, tmp_path):
    X, y = DATA[name]
    fitted = KNeighborsRegressor(4).fit(X[::2], y[::2] / 7)
    _, model = saved(fitted, X[::2], tmp_path)
    found = model.predict(X[1::2])
    np.testing.assert_allclose(found, choosing(fitted).predict(X[1::2]), rtol=1e-12)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("name", ["iris", "rounded", "wine"])
def test_gaps_are_filled_from_rows_at_one_distance(name, weights, tmp_path):
    X = DATA[name][0].copy()
    X[np.random.default_rng(2).random(X.shape) < 0.1] = np.nan
    fitted = make_pipeline(KNNImputer(weights=weights), StandardScaler()).fit(X[::2])
    _, model = saved(fitted, X[::2], tmp_path)
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
    manifest, model = saved(fitted, X, tmp_path)
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
@pytest.mark.parametrize("scaled", [False, True])
def test_a_wrong_graph_cannot_hide_behind_ties(scaled, wrong, tmp_path, monkeypatch):
    name = "sklearn.KNeighborsClassifier"
    right = table.TENSOR_CONVERTERS[name]
    monkeypatch.setitem(table.TENSOR_CONVERTERS, name, wrong(right))
    X, y = DATA["grid"]
    neighbours = KNeighborsClassifier(3)
    model = make_pipeline(StandardScaler(), neighbours) if scaled else neighbours
    with pytest.raises(ParityError, match=r"nothing was saved"):
        saved(model.fit(X, y), X, tmp_path)
    assert list(tmp_path.iterdir()) == []


RADII = {"iris": 1.0, "rounded": 0.5, "grid": 3.0}


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("algorithm", ["kd_tree", "brute"])
@pytest.mark.parametrize("name", RADII)
def test_rows_at_the_radius_are_within_it(name, algorithm, weights, tmp_path):
    X, y = DATA[name]
    options = {"algorithm": algorithm, "weights": weights}
    within = RadiusNeighborsClassifier(RADII[name], outlier_label="most_frequent", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agree_but_for_ties(within.fit(X[::2], y[::2]), X[::2], X[1::2], tmp_path)
        for targets in (y, y / 7):
            fitted = RadiusNeighborsRegressor(RADII[name], **options).fit(X[::2], targets[::2])
            _, model = saved(fitted, X[::2], tmp_path)
            found = model.predict(X[1::2])
            expected = choosing(fitted).predict(X[1::2])
            np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_neighbors_within_a_radius_in_a_stack(tmp_path):
    X, y = DATA["iris"]
    inner = [("within", RadiusNeighborsRegressor(2.0)), ("line", LinearRegression())]
    model = StackingRegressor(inner, LinearRegression(), cv=2).fit(X, y)
    _, package = saved(model, X, tmp_path)
    np.testing.assert_allclose(package.predict(X), model.predict(X), rtol=1e-12)

"""Single estimators that are converted here in double: neighbours, support vectors, powers, and naive Bayes."""

import numpy as np
import pytest
from helpers.packages import saved
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, PowerTransformer
from sklearn.svm import SVC, NuSVC

from modelkit.errors import ClosedError


def _normal(rows, columns=3):
    return np.random.default_rng(rows).normal(0, 3, (rows, columns))


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", [SVC, NuSVC])
def test_labels_of_support_vectors_are_those_of_the_source(kind, classes, kernel, tmp_path):
    X = _normal(120)
    y = np.argsort(np.argsort(X.sum(axis=1))) * classes // len(X)
    fitted = kind(kernel=kernel).fit(X, y)
    manifest, model = saved(fitted, X, tmp_path)
    rows = _normal(3000)
    assert manifest.parity.rtol == 1e-6
    np.testing.assert_array_equal(model.predict(rows), fitted.predict(rows))


def test_support_vectors_of_large_columns_are_told_apart(tmp_path):
    """Squares of such columns leave nothing of their differences in float32: 57 % of labels differed, as ties."""
    rng = np.random.default_rng(0)
    X = rng.integers(2**24 - 20, 2**24 + 20, (200, 2)).astype(float)
    y = (X[:, 0] + rng.normal(0, 3, 200) > X[:, 1]).astype(int)
    fitted = SVC(max_iter=200).fit(X, y)
    rows = rng.integers(2**24 - 20, 2**24 + 20, (2000, 2)).astype(float)
    manifest, model = saved(fitted, X, tmp_path)
    assert manifest.parity.ties == 0
    np.testing.assert_array_equal(model.predict(rows), fitted.predict(rows))


@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
@pytest.mark.parametrize("standardize", [True, False])
def test_powers_are_computed_in_double(method, standardize, tmp_path):
    X = _normal(200)
    shaped = np.exp if method == "box-cox" else np.positive
    transformer = PowerTransformer(method, standardize=standardize)
    for last in (LogisticRegression(), RandomForestClassifier(3, random_state=0)):
        fitted = make_pipeline(transformer, last).fit(shaped(X / 4), X[:, 0] > 0)
        manifest, model = saved(fitted, shaped(X / 4), tmp_path)
        rows = shaped(np.concatenate([_normal(2000), 1e-9 * _normal(500)]) / 4)
        assert manifest.parity.rtol == 1e-6
        np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), 1e-9)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("algorithm", ["kd_tree", "brute"])
def test_neighbours_and_their_distances_are_those_of_the_source(algorithm, weights, tmp_path):
    X = _normal(150)
    y = np.digitize(X[:, 0], [-1, 1])
    rows = np.concatenate([_normal(1000), X])
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
    X = _normal(200)
    fitted = KNeighborsRegressor(5).fit(X, X[:, 0])
    _, model = saved(fitted, X, tmp_path)
    far = X[:20] * 1e170
    assert np.isfinite(fitted.predict(far)).all()
    assert np.isfinite(model.predict(far)).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_labels_of_neighbours_may_be_small_integers(dtype, tmp_path):
    X = _normal(100)
    fitted = KNeighborsClassifier().fit(X, (X[:, 0] > 0).astype(dtype))
    _, model = saved(fitted, X, tmp_path)
    assert (model.predict(X) == fitted.predict(X)).all()


def test_a_threshold_of_bernoulli_sees_products_in_double(tmp_path):
    X = np.round(_normal(200, 2))
    rows = np.concatenate([X, np.nextafter(X, np.inf), np.nextafter(X, -np.inf)])
    steps = PolynomialFeatures(), BernoulliNB(binarize=4.0)
    fitted = make_pipeline(*steps).fit(X, X.sum(axis=1) > 0)
    _, model = saved(fitted, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), 1e-6)


@pytest.mark.parametrize("bayes", [GaussianNB(), BernoulliNB(), MultinomialNB()])
def test_naive_bayes_behind_powers_is_computed_in_double(bayes, tmp_path):
    X = np.abs(_normal(150))
    transformer = PolynomialFeatures()
    fitted = make_pipeline(transformer, bayes).fit(X, X[:, 0] > 2)
    manifest, _ = saved(fitted, X, tmp_path)
    assert manifest.parity.rtol == 1e-6


def test_no_rows_are_refused_by_a_closed_model(tmp_path):
    X = _normal(50)
    texts = ["one two", "two three"] * 10
    on_numbers = LogisticRegression().fit(X, X[:, 0] > 0)
    on_texts = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [0, 1] * 10)
    no_texts = {"text": np.array([], object)}
    for fitted, example, nothing in ((on_numbers, X, X[:0]), (on_texts, texts, no_texts)):
        _, model = saved(fitted, example, tmp_path)
        assert len(model.predict(nothing)) == 0
        model.close()
        with pytest.raises(ClosedError):
            model.predict(nothing)

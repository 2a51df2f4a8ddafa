"""Support vectors, in double: labels, ties, and kernels."""

import numpy as np
import pytest
from helpers import answers
from helpers.examples import some
from helpers.kinds import wine
from helpers.packages import saved
from helpers.rows import normal
from sklearn import svm
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC

import modelkit as mk
from modelkit.errors import ConversionError


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", [SVC, NuSVC])
def test_labels_of_support_vectors_are_those_of_the_source(kind, classes, kernel, tmp_path):
    X = normal(120)
    y = np.argsort(np.argsort(X.sum(axis=1))) * classes // len(X)
    fitted = kind(kernel=kernel).fit(X, y)
    manifest, model = saved(fitted, X, tmp_path)
    rows = normal(3000)
    assert manifest.parity.rtol == 1e-6
    np.testing.assert_array_equal(model.predict(rows), fitted.predict(rows))


@pytest.mark.filterwarnings("ignore:The `probability`:FutureWarning")
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_of_support_vectors_are_those_of_the_source(classes, tmp_path):
    """No library warns meanwhile: scikit-learn did of its attributes, and spox of a shape."""
    X = normal(120)
    fitted = SVC(probability=True, random_state=0)
    fitted.fit(X, np.argsort(np.argsort(X.sum(axis=1))) * classes // len(X))
    _, model = saved(fitted, X, tmp_path)
    rows = normal(500)
    np.testing.assert_allclose(model.predict_proba(rows), fitted.predict_proba(rows), atol=1e-6)


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


def digits():
    """Digits at a fifth of the width, in which classes are close."""
    X, y = load_digits(return_X_y=True)
    return X[:, ::5] + 0.0, np.array([f"d{label}" for label in y])


@pytest.mark.parametrize("kind", [SVC, NuSVC])
@some("kernel", ["linear", "rbf", "poly", "sigmoid"], 1)
def test_support_vectors_that_break_ties_by_their_scores(kernel, kind, tmp_path):
    X, y = digits()
    pipeline = make_pipeline(StandardScaler(), kind(kernel=kernel, break_ties=True)).fit(
        X[::3], y[::3]
    )
    votes = make_pipeline(StandardScaler(), kind(kernel=kernel)).fit(X[::3], y[::3])
    _, model = saved(pipeline, X[::3], tmp_path)
    rows = np.concatenate([X, X[::2] * 3, X[::2] * 0.3, -X[::2]])
    assert (votes.predict(rows) != pipeline.predict(rows)).any()
    np.testing.assert_array_equal(model.predict(rows), pipeline.predict(rows))


def test_a_kernel_of_ones_own_is_named(tmp_path):
    X, y = wine()
    model = SVC(kernel=lambda a, b: a @ b.T).fit(X, y)
    with pytest.raises(ConversionError, match="SVC with a kernel of your own cannot be converted"):
        saved(model, X, tmp_path)


@pytest.mark.parametrize("kind", [svm.SVC, svm.SVR])
def test_kernels_that_were_computed_before(kind, tmp_path):
    X, y = answers.wine()
    K = rbf_kernel(X, X[::2])
    estimator = kind(kernel="precomputed").fit(K[::2], y[::2])
    mk.save(estimator, tmp_path / "m.mk", example=K[::2], name="m", version="1")
    np.testing.assert_allclose(
        mk.load(tmp_path / "m.mk").predict(K), estimator.predict(K), rtol=1e-12
    )

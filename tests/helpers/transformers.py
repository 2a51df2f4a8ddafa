"""Transformers of numbers: what a package gives on fresh rows is what scikit-learn gives."""

import numpy as np
from sklearn.datasets import load_breast_cancer

from helpers.packages import opened

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :8]
TRAIN = X[::2]
LABELS = Y[::2]
FRESH = X[1::2] * np.random.default_rng(0).uniform(0.5, 1.5, X[1::2].shape)


def assert_same(got, truth):
    """Equal but for the order of additions: by the size of each number, or of its column."""
    truth = np.asarray(truth, float)
    assert got.shape == truth.shape
    size = np.abs(truth[np.isfinite(truth)]).max(initial=0)
    np.testing.assert_allclose(got, truth, rtol=1e-12, atol=1e-14 * size)


def assert_serves(model, tmp_path, train=TRAIN, fresh=FRESH, verb="transform"):
    """A package answers fresh rows as its source does: all, one, and none of them."""
    package = opened(model, train, tmp_path)
    for rows in (fresh, fresh[:1]):
        truth = getattr(model, verb)(rows)
        assert_same(package.predict(rows), truth.toarray() if hasattr(truth, "toarray") else truth)
    assert package.predict(fresh[:0]).shape == (0, *package.predict(fresh[:1]).shape[1:])

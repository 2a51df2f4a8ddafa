"""Estimators and functions of somebody's own, in a module that a pickle finds."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.linear_model import LogisticRegression


class Changed(LogisticRegression):
    """A class derived from one that has a converter."""


class Ratio(TransformerMixin, BaseEstimator):
    """A transformer of somebody's own."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.asarray(X)[:, :1] / (1 + np.asarray(X)[:, 1:2])


class Centered(TransformerMixin, BaseEstimator):
    """A transformer whose answer to a row depends on the others."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X - np.mean(X, axis=0)


class Identity(TransformerMixin, BaseEstimator):
    """A transformer of somebody's own that can go back."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def inverse_transform(self, X):
        return X


class Nearest(ClassifierMixin, BaseEstimator):
    """A classifier of somebody's own: the class with the nearest mean."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.array([X[y == known].mean(axis=0) for known in self.classes_])
        return self

    def predict(self, X):
        squares = (np.asarray(X)[:, None] - self.means_) ** 2
        return self.classes_[squares.sum(axis=2).argmin(axis=1)]


class Drawing(TransformerMixin, BaseEstimator):
    """A transformer that gives other numbers each time."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X + np.random.default_rng().random(np.shape(X))


def lagged(X):
    return X.shift(3).bfill()


def years(X):
    return X[["day"]].apply(lambda day: day.dt.year)


def in_order(X):
    return np.sort(X, axis=0)


def in_capitals(X):
    return X.apply(lambda texts: texts.str.upper())


def vector(X):
    return X[:, 0]


def columns_apart(a, b):
    return float(np.abs(a - b).sum())


def weights_of(distances):
    return 1 / (1 + distances)


def kernel_of(X, Y):
    return X @ Y.T


def raw_objective(y, scores):
    """The logistic loss, one gradient and one curvature a row."""
    likely = 1 / (1 + np.exp(-scores))
    return likely - y, likely * (1 - likely)


def words_of(text):
    return text.split()

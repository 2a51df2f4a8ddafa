"""Converters of naive Bayes classifiers, in float64: log likelihoods of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import product
from modelkit.convert.estimators.discriminants import differences
from modelkit.convert.estimators.lookup import single_columns
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    constant,
    doubles,
    largest,
    op,
    width,
)

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def bernoulli(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """BernoulliNB: rows of 0 and 1, after its own threshold where it has one."""
    rows = columns.matrix(np.float64)
    if estimator.binarize is not None:
        above = rows > float(estimator.binarize)
        rows = above.astype(np.float64)
    present = estimator.feature_log_prob_
    absent = np.log(1 - np.exp(present))
    shift = estimator.class_log_prior_ + absent.sum(axis=1)
    return _answer(product(rows, (present - absent).T, shift))


def multinomial(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """MultinomialNB: counts times the log probabilities of the columns."""
    weights = estimator.feature_log_prob_.T
    return _answer(at.product(columns, weights, estimator.class_log_prior_))


def complement_of(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """ComplementNB: counts times the weights of all other classes."""
    shift = np.zeros(len(estimator.classes_))
    if len(shift) == 1:
        shift = estimator.class_log_prior_
    return _answer(at.product(columns, estimator.feature_log_prob_.T, shift))


def categorical(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """CategoricalNB: the log probabilities of the code in each column, one table below the other."""
    codes = columns.matrix(np.float64).astype(np.int64)  # cut off, as the source does
    counts = estimator.n_categories_.tolist()
    closed = [
        at.is_closed(column, range(count))
        for column, count in zip(single_columns(columns), counts, strict=True)
    ]
    if not all(closed):
        least = constant(0, np.int64)
        most = constant([counts], np.int64)
        unknown = (codes < least) | (codes >= most)
        at.refuse(unknown, "CategoricalNB does not know a code of this row")
        codes = np.where(unknown, least, codes)
    sizes = [0, *estimator.n_categories_[:-1].tolist()]
    places = codes + np.cumsum(sizes)[None]
    table = np.concatenate([known.T for known in estimator.feature_log_prob_])
    found = op.gather(doubles(table), places)
    likelihoods = np.sum(found, axis=1)
    return _answer(likelihoods + estimator.class_log_prior_[None])


def gaussian(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """GaussianNB: a normal distribution of each column in each class."""
    likelihoods = _gaussian_likelihoods(estimator, columns)
    return Answer(
        place=largest(likelihoods), probabilities=np.exp(likelihoods - _log_of_sum(likelihoods))
    )


def _gaussian_likelihoods(estimator: Any, columns: Columns) -> Var:
    """(n, classes): squared distances from the mean of each class over the variances, and priors."""
    variances = np.asarray(estimator.var_, np.float64)
    apart = differences(columns, np.asarray(estimator.theta_, np.float64))
    squares = apart * apart / variances[:, None]
    distances = np.sum(squares, axis=2)
    # Of variances in float32 the source adds up their logarithms in float32, and no more than that.
    sizes = -0.5 * np.log(2 * np.pi * estimator.var_).sum(axis=1)
    shift = np.log(estimator.class_prior_).astype(np.float64) + sizes.astype(np.float64)
    halved = distances * -0.5
    return (halved + shift[:, None]).T


def _log_of_sum(likelihoods: Var) -> Var:
    """(n, 1): the logarithm of the sum of exponentials, rounded as in the source.

    What the rounding makes of probabilities next to 1 decides where they are calibrated. Kahan's
    form of log(1 + x) divides out how 1 + x was rounded.
    """
    classes = width(likelihoods)
    axis = constant([1], np.int64)
    ordered, _ = op.top_k(likelihoods, constant([classes], np.int64), axis=1)
    most = ordered[:, [0]]
    others = np.take(ordered, range(1, classes), axis=1)
    rest = op.reduce_sum(np.exp(others - most), axis, keepdims=1)
    whole = rest + 1.0
    lost = (whole - 1.0 - rest) / whole
    return np.log(whole) - lost + most


def _answer(likelihoods: Var) -> Answer:
    """Labels and probabilities from log likelihoods, (n, classes)."""
    return Answer(place=largest(likelihoods), probabilities=op.softmax(likelihoods, axis=1))


ESTIMATORS = {
    "sklearn.BernoulliNB": bernoulli,
    "sklearn.MultinomialNB": multinomial,
    "sklearn.ComplementNB": complement_of,
    "sklearn.CategoricalNB": categorical,
    "sklearn.GaussianNB": gaussian,
}

"""Converters of naive Bayes classifiers, in float64: a linear form of each row is its log likelihood by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.tensors import (
    Answer,
    Columns,
    Var,
    constant,
    doubles,
    joined,
    largest,
    op,
    upright,
)

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting


def bernoulli(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """BernoulliNB: rows of 0 and 1, after its own threshold where it has one."""
    rows = columns.matrix(np.float64)
    if estimator.binarize is not None:
        above = op.greater(rows, doubles(float(estimator.binarize)))
        rows = op.cast(above, to=np.float64)
    present = estimator.feature_log_prob_
    absent = np.log(1 - np.exp(present))
    shift = estimator.class_log_prior_ + absent.sum(axis=1)
    return _answer(op.gemm(rows, doubles((present - absent).T), doubles(shift)))


def multinomial(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """MultinomialNB: counts times the log probabilities of the columns."""
    rows = columns.matrix(np.float64)
    weights = doubles(estimator.feature_log_prob_.T)
    return _answer(op.gemm(rows, weights, doubles(estimator.class_log_prior_)))


def categorical(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """CategoricalNB: the log probabilities of the code in each column, one table below the other."""
    codes = op.cast(columns.matrix(np.float64), to=np.int64)  # cut off, as the source does
    sizes = [0, *estimator.n_categories_[:-1].tolist()]
    places = op.add(codes, constant(np.cumsum(sizes)[None], np.int64))
    table = np.concatenate([known.T for known in estimator.feature_log_prob_])
    found = op.gather(doubles(table), places)
    likelihoods = op.reduce_sum(found, constant([1], np.int64), keepdims=0)
    return _answer(op.add(likelihoods, doubles(estimator.class_log_prior_[None])))


def gaussian(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """GaussianNB: squared distances from the mean of each class, over the variances."""
    rows = columns.matrix(np.float64)
    axis = constant([1], np.int64)
    likelihoods = []
    for at, prior in enumerate(estimator.class_prior_):
        variances = estimator.var_[at]
        centred = op.sub(rows, doubles(estimator.theta_[at][None]))
        apart = op.div(op.mul(centred, centred), doubles(variances[None]))
        distance = op.mul(op.reduce_sum(apart, axis, keepdims=0), doubles(0.5))
        shift = np.log(prior) - 0.5 * np.log(2 * np.pi * variances).sum()
        likelihoods.append(upright(op.sub(doubles(shift), distance)))
    return _answer(joined(likelihoods))


def _answer(likelihoods: Var) -> Answer:
    """Labels and probabilities from log likelihoods, (n, classes)."""
    return Answer(place=largest(likelihoods), probabilities=op.softmax(likelihoods, axis=1))


ESTIMATORS = {
    "sklearn.BernoulliNB": bernoulli,
    "sklearn.MultinomialNB": multinomial,
    "sklearn.CategoricalNB": categorical,
    "sklearn.GaussianNB": gaussian,
}

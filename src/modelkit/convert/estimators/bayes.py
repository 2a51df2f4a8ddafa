"""Converters of naive Bayes classifiers, in float64: log likelihoods of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.discriminants import differences
from modelkit.convert.estimators.lookup import single_columns
from modelkit.convert.estimators.rows import of_doubles, sparse_affine
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    affine,
    converts,
    gathered,
    largest,
    softmax,
)

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


@of_doubles("BernoulliNB")
def bernoulli(estimator: Any, x: Any) -> Answer:
    """BernoulliNB: rows of 0 and 1, after its own threshold where it has one."""
    if estimator.binarize is not None:
        x = (x > float(estimator.binarize)).astype(np.float64)
    present = estimator.feature_log_prob_
    absent = np.log(1 - np.exp(present))
    shift = estimator.class_log_prior_ + absent.sum(axis=1)
    return _answer(affine(x, (present - absent).T, shift))


@of_doubles("MultinomialNB")
def multinomial(estimator: Any, x: Any) -> Answer:
    """MultinomialNB: counts times the log probabilities of the columns."""
    return _answer(sparse_affine(x, estimator.feature_log_prob_.T, estimator.class_log_prior_))


@of_doubles("ComplementNB")
def complement_of(estimator: Any, x: Any) -> Answer:
    """ComplementNB: counts times the weights of all other classes."""
    shift = np.zeros(len(estimator.classes_))
    if len(shift) == 1:
        shift = estimator.class_log_prior_
    return _answer(sparse_affine(x, estimator.feature_log_prob_.T, shift))


@converts("CategoricalNB")
def categorical(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """CategoricalNB: the log probabilities of the code in each column, one table below the other."""
    codes = columns.matrix(np.float64).astype(np.int64)  # cut off, as the source does
    counts = estimator.n_categories_.tolist()
    closed = [
        at.is_closed(column, range(count))
        for column, count in zip(single_columns(columns), counts, strict=True)
    ]
    if not all(closed):
        unknown = (codes < 0) | (codes >= [counts])
        at.refuse(unknown, "CategoricalNB does not know a code of this row")
        codes = np.where(unknown, 0, codes)
    places = codes + np.cumsum([0, *counts[:-1]])
    table = np.concatenate([known.T for known in estimator.feature_log_prob_])
    return _answer(np.sum(gathered(table, places), axis=1) + estimator.class_log_prior_)


@of_doubles("GaussianNB")
def gaussian(estimator: Any, x: Any) -> Answer:
    """GaussianNB: a normal distribution of each column in each class.

    Squared distances from the mean of each class over the variances, and priors.
    """
    apart = differences(x, estimator.theta_)
    squares = apart * apart / np.asarray(estimator.var_, np.float64)[:, None]
    # Of variances in float32 the source adds up their logarithms in float32, and no more than that.
    sizes = -0.5 * np.log(2 * np.pi * estimator.var_).sum(axis=1)
    shift = np.log(estimator.class_prior_).astype(np.float64) + sizes.astype(np.float64)
    scores = (np.sum(squares, axis=2) * -0.5 + shift[:, None]).T
    return Answer(place=largest(scores), probabilities=np.exp(scores - _log_of_sum(scores)))


def _log_of_sum(likelihoods: Any) -> Any:
    """(n, 1): the logarithm of the sum of exponentials, rounded as in the source.

    What the rounding makes of probabilities next to 1 decides where they are calibrated. Kahan's
    form of log(1 + x) divides out how 1 + x was rounded.
    """
    descending = np.sort(likelihoods, axis=1)[:, ::-1]
    most = descending[:, [0]]
    others = descending[:, 1:]
    rest = np.sum(np.exp(others - most), axis=1, keepdims=True)
    whole = rest + 1.0
    lost = (whole - 1.0 - rest) / whole
    return np.log(whole) - lost + most


def _answer(likelihoods: Any) -> Answer:
    """Labels and probabilities from log likelihoods, (n, classes)."""
    return Answer(place=largest(likelihoods), probabilities=softmax(likelihoods))

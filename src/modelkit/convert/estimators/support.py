"""Converters of support vectors: scores and labels in float64; probabilities by the operator of ONNX.

libsvm couples the probabilities of pairs by an iteration that stops early; SVMClassifier repeats it,
in float32.
"""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.binary import scores_of_pairs, votes_of_pairs
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.tensors import Answer, affine, flat, largest, ml, refuse, squares


@of_doubles("SVC", "NuSVC")
def classifier(estimator: Any, x: Any) -> Answer:
    """SVC and NuSVC: each pair of classes decides, and the class with most votes is the label."""
    pairs = _decisions(estimator, x)
    classes = len(estimator.classes_)
    # Of two classes, libsvm takes the first only where its score is above 0.
    votes = votes_of_pairs((pairs >= 0.0).astype(np.float64), classes)
    if classes == 2:
        decision = flat(pairs)
    elif estimator.decision_function_shape == "ovr":
        decision = scores_of_pairs((pairs > 0.0).astype(np.float64), pairs, classes)
    else:
        decision = -pairs
    by_scores = estimator.break_ties and classes > 2
    return Answer(
        place=largest(decision if by_scores else votes),
        probabilities=_likely(estimator, x),
        decision=decision,
    )


def _likely(estimator: Any, x: Any) -> Any:
    """Probabilities by the operator of ONNX, (n, classes) in float32, for classifiers that have some."""
    if not hasattr(estimator, "predict_proba"):
        return None
    if estimator.kernel == "precomputed":
        name = type(estimator).__name__
        refuse(
            estimator,
            f"(kernel='precomputed', probability=True) cannot be converted; leave "
            f"probability out, or put CalibratedClassifierCV around {name}",
        )
    classes = len(estimator.classes_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spox does not know how many labels there are
        _, likely = ml.svmclassifier(
            x,
            classlabels_ints=range(classes),
            coefficients=dense(estimator._dual_coef_).ravel(),
            kernel_params=[estimator._gamma, estimator.coef0, estimator.degree],
            kernel_type=estimator.kernel.upper(),
            prob_a=estimator._probA,
            prob_b=estimator._probB,
            rho=estimator._intercept_,
            support_vectors=dense(estimator.support_vectors_).ravel(),
            vectors_per_class=estimator.n_support_,
        )
    return likely.reshape(-1, classes)


@of_doubles("SVR", "NuSVR")
def regressor(estimator: Any, x: Any) -> Answer:
    """SVR and NuSVR: a sum of kernels."""
    sums = _summed(estimator, x, dense(estimator._dual_coef_).T, estimator._intercept_)
    return Answer(prediction=flat(sums))


def _decisions(estimator: Any, x: Any) -> Any:
    """The score of each pair of classes, (n, pairs), above 0 for the second of both: a sum of kernels."""
    bounds = np.cumsum([0, *estimator.n_support_])
    coefficients = dense(estimator._dual_coef_)
    pairs = list(combinations(range(len(estimator.classes_)), 2))
    weights = np.zeros((bounds[-1], len(pairs)))
    for number, (first, second) in enumerate(pairs):
        of_first = slice(bounds[first], bounds[first + 1])
        of_second = slice(bounds[second], bounds[second + 1])
        weights[of_first, number] = coefficients[second - 1, of_first]
        weights[of_second, number] = coefficients[first, of_second]
    # The source has them above 0 for the first.
    return _summed(estimator, x, -weights, -estimator._intercept_)


def _summed(estimator: Any, x: Any, weights: Array, shift: Array) -> Any:
    """Kernels of each row and each support vector times weights, and a shift."""
    vectors = dense(estimator.support_vectors_)
    if estimator.kernel == "linear":
        return affine(x, vectors.T @ weights, shift)
    return affine(kernels(estimator, x, vectors), weights, shift)


def dense(matrix: Any) -> Array:
    """A matrix of float64, with its zeros."""
    found = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    return np.asarray(found, np.float64)


def kernels(estimator: Any, x: Any, vectors: Array) -> Any:
    """The kernel of each row and each support vector, (n, vectors)."""
    if callable(estimator.kernel):
        refuse(
            estimator,
            " with a kernel of your own cannot be converted; use kernel='rbf', 'poly', 'sigmoid' or "
            "'linear', or format='joblib'",
        )
    gamma = float(estimator._gamma)  # "scale" as a number, no public way
    if estimator.kernel == "rbf":
        return _radial(x, vectors, gamma)
    if estimator.kernel == "precomputed":
        return np.take(x, estimator.support_, axis=1)
    if estimator.kernel == "linear":
        return x @ vectors.T
    shifted = affine(x, gamma * vectors.T, float(estimator.coef0))
    return np.tanh(shifted) if estimator.kernel == "sigmoid" else shifted ** float(estimator.degree)


def _radial(x: Any, vectors: Array, gamma: float) -> Any:
    """exp(-gamma |x - v|^2), on centred data: squares of large means would round the differences away."""
    middle = vectors.mean(axis=0)
    vectors = vectors - middle
    x = x - middle
    both = affine(x, 2 * gamma * vectors.T, -gamma * (vectors * vectors).sum(axis=1))
    return np.exp(both + squares(x, keepdims=True) * -gamma)

"""Converters of nearest neighbours, and of labels that spread to them, in float64.

For Euclidean distances, a product of matrices finds a few more candidates than neighbours; the
differences themselves, which a product rounds away near 0, decide among the candidates and give the
distances. Of distances that are equal but for rounding, the row of training that comes first is
nearer: ties.py has the source choose so as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.equals import NEGLIGIBLE, near_equal
from modelkit.convert.estimators.converting import Converting, NonZeros
from modelkit.convert.estimators.distances import from_training, metric_of, squared
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    affine,
    converts,
    flat,
    gathered,
    largest,
    likeliest,
    refuse,
    smallest,
)

SPARE = 8  # candidates more than neighbours: rounding of the product may swap close ones
MEASURED = 256  # rows of fit, at most, of which it is measured how many others are equally far
MOST = 10**8  # numbers that are compared for that


@of_doubles("KNeighborsClassifier")
def classifier(estimator: Any, x: Any) -> Answer:
    """KNeighborsClassifier: the share of each class in the weights of the neighbours."""
    places, weights = _neighbors(estimator, x)
    votes = [_weighted(places, weights, members) for members in members_of(estimator)]
    answers = [
        Answer(place=largest(each), probabilities=each / np.sum(each, axis=1, keepdims=True))
        for each in votes
    ]
    return Answer(several=tuple(answers)) if estimator.outputs_2d_ else answers[0]


def members_of(estimator: Any) -> list[Array]:
    """For each target (rows of training, classes): 1 for the class of each row."""
    several = estimator.outputs_2d_
    known = estimator.classes_ if several else [estimator.classes_]
    held = np.asarray(estimator._y, np.int64).reshape(-1, len(known))  # no public way
    return [np.eye(len(classes))[held[:, place]] for place, classes in enumerate(known)]


@of_doubles("KNeighborsRegressor")
def regressor(estimator: Any, x: Any) -> Answer:
    """KNeighborsRegressor: the weighted mean of the neighbours' targets."""
    places, weights = _neighbors(estimator, x)
    targets, several = targets_of(estimator)
    means = _weighted(places, weights, targets) / np.sum(weights, axis=1, keepdims=True)
    return Answer(prediction=means if several else flat(means))


def targets_of(estimator: Any) -> tuple[Array, bool]:
    """(rows of training, targets), and whether there are several targets."""
    targets = np.asarray(estimator._y, np.float64)  # no public way
    several = targets.ndim == 2
    return (targets if several else targets[:, None]), several


def named_weights(estimator: Any) -> bool:
    """Whether neighbours weigh by distance. Raises ConversionError for a function of somebody's own."""
    weights = estimator.weights
    if callable(weights):
        refuse(
            estimator,
            " with weights by a function of your own cannot be converted; use weights='distance' or "
            "'uniform', or format='joblib'",
        )
    return bool(weights == "distance")


def _neighbors(estimator: Any, x: Any) -> tuple[Any, Any]:
    """The places of the neighbours among the rows of training, and their weights, (n, k) each."""
    by_distance = named_weights(estimator)
    places, distances = closest(estimator, x, estimator.n_neighbors)
    # Of an infinite distance as well.
    return places, inverse(distances) if by_distance else (distances >= 0.0).astype(np.float64)


def closest(estimator: Any, x: Any, count: int) -> tuple[Any, Any]:
    """The places of neighbours among the rows of fit, the nearest first, and their distances."""
    if metric_of(estimator) == "euclidean" and isinstance(estimator._fit_X, np.ndarray):
        places, squares = nearest(estimator, x, count)
        return places, np.sqrt(squares)
    distances = from_training(estimator, x)
    # Cosines are off by rounding of numbers near 1.
    shifted = distances + 1.0 if metric_of(estimator) == "cosine" else distances
    places = smallest(near_equal(shifted), count)
    return places, np.take_along_axis(distances, places, axis=1)


def nearest(estimator: Any, x: Any, count: int) -> tuple[Any, Any]:
    """The places of neighbours among the rows of fit, the nearest first, and their squared distances."""
    known = np.asarray(estimator._fit_X, np.float64)  # no public way
    candidates = _candidates(x, known, min(len(known), count + _spare(known, count)))
    apart = x[:, None] - gathered(known, candidates)
    squares = np.sum(apart * apart, axis=2)
    order = smallest(near_equal(squares), count)
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(squares, order, axis=1)


def _spare(known: Array, count: int) -> int:
    """How many candidates more than neighbours: twice as many as are as far as the last of them.

    It is measured on rows of fit, and on rows halfway between two of them.
    """
    measured = min(len(known), MEASURED, max(16, MOST // known.size))
    some = known[np.linspace(0, len(known) - 1, measured).astype(int)]
    halfway = (some + np.roll(some, 1, axis=0)) / 2
    most = 0
    for row in np.concatenate([some, halfway]):
        apart = known - row
        squares = near_equal(np.einsum("ij,ij->i", apart, apart))
        last = np.partition(squares, count - 1)[count - 1]
        most = max(most, int((squares <= last).sum()) - count)
    return SPARE + 2 * most


def _candidates(x: Any, known: Array, count: int) -> Any:
    """The places of the rows of fit that are nearest but for rounding, lower places first."""
    middle = known.mean(axis=0)
    centred = known - middle
    distances = affine(x - middle, -2 * centred.T, (centred * centred).sum(axis=1))
    return np.sort(smallest(distances, count), axis=1)


def inverse(distances: Any) -> Any:
    """One over each distance; where one is 0, neighbours at 0 weigh 1 and the others nothing."""
    found = 1.0 / distances
    hits = np.isinf(found).astype(np.float64)
    return np.where(np.max(hits, axis=1, keepdims=True) > 0.0, hits, found)


def _weighted(places: Any, weights: Any, values: Any) -> Any:
    """The sum of the values of the neighbours, (n, columns), each times its weight."""
    return np.sum(weights[:, :, None] * gathered(values, places), axis=1)


@of_doubles("RadiusNeighborsClassifier")
def classifier_within(estimator: Any, x: Any) -> Answer:
    """RadiusNeighborsClassifier: the share of each class in the weights of rows within a radius."""
    weights = _within(estimator, x)
    whole = np.sum(weights, axis=1, keepdims=True)
    alone = whole == 0.0
    answers = []
    for number, members in enumerate(members_of(estimator)):
        said = _outlier_class(estimator, number)
        likely = 0 * said if _leaves_outliers(estimator) else said
        found = weights @ members / whole
        answers.append(
            Answer(
                place=np.where(flat(alone), said.argmax(), largest(found)),
                probabilities=np.where(alone, likely, found),
            )
        )
    return Answer(several=tuple(answers)) if estimator.outputs_2d_ else answers[0]


def _leaves_outliers(estimator: Any) -> bool:
    """Whether rows without a neighbour lack probabilities, as in one way through scikit-learn.

    It compares the words "most_frequent" themselves with the classes.
    """
    plain = estimator.weights == "uniform" and not estimator.outputs_2d_
    fast = estimator._fit_method == "brute" and "euclidean" not in metric_of(estimator)
    return bool(plain and fast and estimator.outlier_label == "most_frequent")


def _outlier_class(estimator: Any, place: int) -> Array:
    """1 for the class of rows without a neighbour. Raises ConversionError where there is none."""
    labels = estimator.outlier_label_
    said = None if labels is None else labels[place]
    classes = estimator.classes_[place] if estimator.outputs_2d_ else estimator.classes_
    if said not in classes.tolist():
        refuse(
            estimator,
            f" with the outlier label {said!r} cannot be converted, since it is not a class; use "
            "outlier_label='most_frequent', or one of the classes",
        )
    return np.asarray(classes == said, np.float64)


@of_doubles("RadiusNeighborsRegressor")
def regressor_within(estimator: Any, x: Any) -> Answer:
    """RadiusNeighborsRegressor: the weighted mean of rows within a radius.

    Where there is none it is NaN, or what numpy makes of NaN in the dtype of the targets.
    """
    weights = _within(estimator, x)
    targets, several = targets_of(estimator)
    whole = np.sum(weights, axis=1, keepdims=True)
    means = weights @ targets / whole
    held = np.asarray(estimator._y)  # no public way
    if held.dtype.kind != "f":
        with np.errstate(invalid="ignore"):
            nothing = np.full(1, np.nan).astype(held.dtype)
        means = np.where(whole == 0.0, nothing.astype(np.float64), means)
    return Answer(prediction=means if several else flat(means))


def reach_of(estimator: Any) -> float:
    """The radius; a little more where distances at the radius are off by rounding of products."""
    radius = float(estimator.radius)
    return radius * (1.0 + NEGLIGIBLE) if metric_of(estimator) == "euclidean" else radius


def _within(estimator: Any, x: Any) -> Any:
    """(n, rows of training): the weights of rows within the radius; 0 for all others."""
    by_distance = named_weights(estimator)
    distances = from_training(estimator, x)
    inside = distances <= reach_of(estimator)
    if not by_distance:
        return inside.astype(np.float64)
    return np.where(inside, inverse(distances), 0.0)


@converts("KNeighborsTransformer")
def neighbor_columns(estimator: Any, columns: Columns, at: Converting) -> Var:
    """KNeighborsTransformer: a column for each row of fit, of distances or 1 for the neighbours."""
    apart = estimator.mode == "distance"
    x = columns.matrix(np.float64)
    places, distances = closest(estimator, x, estimator.n_neighbors + apart)
    numbers = distances if apart else (distances >= 0.0).astype(np.float64)
    return at.table_of(NonZeros(places, numbers, len(estimator._fit_X)))


@of_doubles("RadiusNeighborsTransformer")
def columns_within(estimator: Any, x: Any) -> Any:
    """RadiusNeighborsTransformer: the same for the rows of fit within a radius."""
    distances = from_training(estimator, x)
    numbers = distances if estimator.mode == "distance" else 1.0
    return np.where(distances <= reach_of(estimator), numbers, 0.0)


@of_doubles("LabelPropagation", "LabelSpreading")
def propagated(estimator: Any, x: Any) -> Answer:
    """The labels that training rows came to have, times a kernel; or the nearest rows' labels."""
    spread = estimator.label_distributions_
    if callable(estimator.kernel):
        refuse(
            estimator,
            " with a kernel of your own cannot be converted; use kernel='rbf' or 'knn', or "
            "format='joblib'",
        )
    if estimator.kernel == "knn":
        places, _ = nearest(estimator.nn_fit, x, estimator.n_neighbors)
        found = np.sum(gathered(spread, places), axis=1)
    else:
        apart = squared(x, np.asarray(estimator.X_, np.float64))
        found = np.exp(apart * -float(estimator.gamma)) @ spread
    likely = found / np.sum(found, axis=1, keepdims=True)
    return likeliest(likely)

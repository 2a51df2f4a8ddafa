"""Converters of NMF: the iteration by which scikit-learn finds the weights of the components.

It stops by a sum over all rows of a batch, so a row alone may get other weights than among others;
the graph does the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.scaling import one_table
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, doubles, op, width
from modelkit.convert.estimators.traced import traced
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

TINY = float(np.finfo(np.float32).eps)  # scikit-learn divides by this instead of 0
EVERY = 10  # iterations the error is looked at once
LOSSES = {"frobenius": 2, 2: 2, "kullback-leibler": 1, 1: 1}


@dataclass(frozen=True)
class Penalties:
    """What is added to the gradient of the weights, and to it for each unit of them."""

    flat: float
    square: float


def _penalties(estimator: Any) -> Penalties:
    strength = estimator.components_.shape[1] * estimator.alpha_W
    return Penalties(strength * estimator.l1_ratio, strength * (1.0 - estimator.l1_ratio))


def factorized(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """NMF: the weights of its components, by coordinates or by multiplication."""
    rows = columns.matrix(np.float64)
    if estimator.solver == "mu":
        return one_table(_by_error(estimator, rows))
    if estimator.shuffle:
        raise ConversionError(
            "NMF(shuffle=True) cannot be converted, for its answers are left to chance; use "
            "shuffle=False",
            step="NMF",
        )
    return one_table(_by_coordinates(estimator, rows))


def in_batches(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """MiniBatchNMF: by multiplication, until the weights stay as they are."""
    rows = columns.matrix(np.float64)
    update = _multiplied(estimator, rows)

    def body(_: Var, __: Var, weights: Var) -> list[Var]:
        better = update(weights)
        change = _norm(better - weights) / _norm(better)
        settled = change <= estimator.tol
        return [_unless(settled, estimator), better]

    most = estimator._transform_max_iter  # no public way
    return one_table(_iterated(most, [_first_weights(estimator, rows)], body))


def _unless(settled: Var, estimator: Any) -> Var:
    """Whether to go on: a tolerance of 0 never stops."""
    if estimator.tol <= 0:
        return constant([True])
    return (~settled).reshape(1)


def _iterated(most: int, start: list[Var], body: Callable[..., list[Var]]) -> Var:
    """The weights after a loop, its first state: the loop itself does not say what they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spox, of the same
        weights, *_ = op.loop(
            constant([most], np.int64),
            constant([True]),
            v_initial=start,
            body=lambda *state: body(*traced(state)),
        )
    wide = weights.reshape(-1, width(start[0]))
    return op.cast(wide, to=np.float64)  # for the scan, which knows nothing of a loop


def _norm(numbers: Var) -> Var:
    return np.sqrt(op.reduce_sum_square(numbers, keepdims=0))


def _sum(numbers: Var) -> Var:
    return op.reduce_sum(numbers, keepdims=0)


def _by_coordinates(estimator: Any, rows: Var) -> Var:
    """One component after the other, until the gradients are small beside those of the first time."""
    parts = np.asarray(estimator.components_, np.float64)
    penalties = _penalties(estimator)
    square = parts @ parts.T + penalties.square * np.eye(len(parts))
    pulls = rows @ parts.T - penalties.flat
    pull = [pulls[:, [place]] for place in range(len(parts))]

    def body(number: Var, _: Var, weights: Var, first: Var) -> list[Var]:
        weights, violation = _one_after_the_other(weights, square, pull)
        start = number == 0
        first = np.where(start, violation, first)
        settled = violation / first <= estimator.tol
        settled = (first == 0.0) | settled
        go = (~settled).reshape(1)
        return [go, weights, first]

    nothing = rows @ np.zeros((parts.shape[1], len(parts)))
    return _iterated(estimator.max_iter, [nothing, doubles(0.0)], body)


def _one_after_the_other(weights: Var, square: Array, pull: list[Var]) -> tuple[Var, Var]:
    """The weights after a step for each component, and how far the gradients were from 0 in all."""
    violation = doubles(0.0)
    for place in range(len(pull)):
        gradient = weights @ square[:, [place]] - pull[place]
        violation = violation + _felt(weights, place, gradient)
        if square[place, place]:
            steps = gradient / square[place, place]
            weights = _moved(weights, place, steps)
    return weights, violation


def _felt(weights: Var, place: int, gradient: Var) -> Var:
    """The sum of the sizes of gradients; a weight of 0 cannot fall."""
    rising = np.minimum(gradient, 0.0)
    free = np.where(weights[:, [place]] == 0.0, rising, gradient)
    return _sum(np.abs(free))


def _moved(weights: Var, place: int, steps: Var) -> Var:
    """The weights with those of one component less some steps, and none below 0."""
    free = weights[:, [place]] - steps
    better = np.maximum(free, 0.0)
    own = np.arange(width(weights))[None] == place
    return np.where(constant(own), better, weights)


def _first_weights(estimator: Any, rows: Var) -> Var:
    """The same weight everywhere, by the mean of all numbers."""
    parts = estimator.components_
    mean = np.sqrt(op.reduce_mean(rows, keepdims=0) / len(parts))
    return rows @ np.zeros(parts.T.shape) + mean


def _multiplied(estimator: Any, rows: Var) -> Callable[[Var], Var]:
    """The update of the weights by multiplication, which keeps them from falling below 0."""
    name = type(estimator).__name__
    if estimator.beta_loss not in LOSSES:
        raise ConversionError(
            f"{name}(beta_loss={estimator.beta_loss!r}) cannot be converted; use 'frobenius' or "
            "'kullback-leibler'",
            step=name,
        )
    parts = np.asarray(estimator.components_, np.float64)
    penalties = _penalties(estimator)
    squares = LOSSES[estimator.beta_loss] == 2

    def update(weights: Var) -> Var:
        if squares:
            upper = rows @ parts.T
            lower = weights @ (parts @ parts.T)
        else:
            made = _not_tiny(weights @ parts)
            upper = rows / made @ parts.T
            lower = doubles(parts.sum(axis=1)[None])
        if penalties.flat > 0:
            lower = lower + penalties.flat
        if penalties.square > 0:
            lower = lower + weights * penalties.square
        divisor = np.where(lower == 0.0, TINY, lower)
        return weights * (upper / divisor)

    return update


def _not_tiny(numbers: Var) -> Var:
    return np.maximum(numbers, TINY)


def _by_error(estimator: Any, rows: Var) -> Var:
    """By multiplication, until the error stays as it is."""
    update = _multiplied(estimator, rows)
    parts = np.asarray(estimator.components_, np.float64)
    squares = LOSSES[estimator.beta_loss] == 2

    def error(weights: Var) -> Var:
        made = weights @ parts
        return _norm(rows - made) if squares else _divergence(rows, weights, parts)

    start = _first_weights(estimator, rows)
    first = error(start)

    def body(number: Var, _: Var, weights: Var, before: Var) -> list[Var]:
        better = update(weights)
        now = error(better)
        left = op.mod(number, constant(EVERY, np.int64))
        looked = left == EVERY - 1
        gain = (before - now) / first
        settled = looked & (gain < estimator.tol)
        return [_unless(settled, estimator), better, np.where(looked, now, before)]

    return _iterated(estimator.max_iter, [start, first], body)


def _divergence(rows: Var, weights: Var, parts: Array) -> Var:
    """The square root of twice the Kullback-Leibler divergence of what the weights make."""
    counts = rows > TINY
    made = _not_tiny(weights @ parts)
    usual = np.where(counts, rows, 1.0)
    logs = np.log(usual / made)
    terms = np.where(counts, usual * logs - usual, 0.0)
    whole = _sum(weights * parts.sum(axis=1))
    found = _sum(terms) + whole
    return np.sqrt(np.maximum(found, 0.0) * 2.0)


ESTIMATORS = {"sklearn.NMF": factorized, "sklearn.MiniBatchNMF": in_batches}

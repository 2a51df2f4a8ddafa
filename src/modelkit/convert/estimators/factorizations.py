"""Converters of NMF: the iteration by which scikit-learn finds the weights of the components.

It stops by a sum over all rows of a batch, so a row alone may get other weights than among others;
the graph does the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.tensors import Traced, constant, op, traced
from modelkit.errors import ConversionError

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


@of_doubles("NMF")
def factorized(estimator: Any, x: Any) -> Any:
    """NMF: the weights of its components, by coordinates or by multiplication."""
    if estimator.solver == "mu":
        return _by_error(estimator, x)
    if estimator.shuffle:
        raise ConversionError(
            "NMF(shuffle=True) cannot be converted, for its answers are left to chance; use "
            "shuffle=False",
            step="NMF",
        )
    return _by_coordinates(estimator, x)


@of_doubles("MiniBatchNMF")
def in_batches(estimator: Any, x: Any) -> Any:
    """MiniBatchNMF: by multiplication, until the weights stay as they are."""
    update = _multiplied(estimator, x)

    def body(_: Any, weights: Any) -> list[Any]:
        better = update(weights)
        change = np.linalg.norm(better - weights) / np.linalg.norm(better)
        return [_go_on(change <= estimator.tol, estimator), better]

    most = estimator._transform_max_iter  # no public way
    return _iterated(most, [_first_weights(estimator, x)], body)


def _go_on(settled: Any, estimator: Any) -> Any:
    """Whether to go on: a tolerance of 0 never stops."""
    return ~settled | (estimator.tol <= 0)


def _iterated(most: int, state: list[Any], body: Callable[..., list[Any]]) -> Any:
    """The weights, which come first in a state, after steps that end where one says not to go on."""
    if isinstance(state[0], Traced):
        return _loop(most, state, body)
    for number in range(most):
        go, *state = body(number, *state)
        if not go:
            break
    return state[0]


def _loop(most: int, state: list[Any], body: Callable[..., list[Any]]) -> Any:
    def step(number: Any, _: Any, *state: Any) -> list[Any]:
        go, *after = body(traced(number), *traced(state))
        return [go.reshape(1), *after]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spox, of the same
        weights, *_ = op.loop(
            constant([most], np.int64), constant([True]), v_initial=state, body=step
        )
    # The loop itself does not say what they are.
    return op.cast(weights.reshape(-1, state[0].shape[1]), to=np.float64)


def _by_coordinates(estimator: Any, x: Any) -> Any:
    """One component after the other, until the gradients are small beside those of the first time."""
    parts = np.asarray(estimator.components_, np.float64)
    penalties = _penalties(estimator)
    square = parts @ parts.T + penalties.square * np.eye(len(parts))
    pulls = x @ parts.T - penalties.flat
    pull = [pulls[:, [place]] for place in range(len(parts))]

    def body(number: Any, weights: Any, first: Any) -> list[Any]:
        weights, violation = _one_after_the_other(weights, square, pull)
        first = np.where(number == 0, violation, first)
        settled = (first == 0.0) | (violation / first <= estimator.tol)
        return [~settled, weights, first]

    nothing = x @ np.zeros((parts.shape[1], len(parts)))
    return _iterated(estimator.max_iter, [nothing, np.sum(nothing)], body)


def _one_after_the_other(weights: Any, square: Array, pull: list[Any]) -> tuple[Any, Any]:
    """The weights after a step for each component, and how far the gradients were from 0 in all."""
    violation = 0.0
    for place in range(len(pull)):
        gradient = weights @ square[:, [place]] - pull[place]
        own = weights[:, [place]]
        # A weight of 0 cannot fall.
        free = np.where(own == 0.0, np.minimum(gradient, 0.0), gradient)
        violation = violation + np.sum(np.abs(free))
        if square[place, place]:
            better = np.maximum(own - gradient / square[place, place], 0.0)
            weights = np.where(np.arange(len(pull)) == place, better, weights)
    return weights, violation


def _first_weights(estimator: Any, x: Any) -> Any:
    """The same weight everywhere, by the mean of all numbers."""
    parts = estimator.components_
    return x @ np.zeros(parts.T.shape) + np.sqrt(np.mean(x) / len(parts))


def _multiplied(estimator: Any, x: Any) -> Callable[[Any], Any]:
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

    def update(weights: Any) -> Any:
        if squares:
            upper = x @ parts.T
            lower = weights @ (parts @ parts.T)
        else:
            upper = x / np.maximum(weights @ parts, TINY) @ parts.T
            lower = parts.sum(axis=1)
        if penalties.flat > 0:
            lower = lower + penalties.flat
        if penalties.square > 0:
            lower = lower + weights * penalties.square
        return weights * (upper / np.where(lower == 0.0, TINY, lower))

    return update


def _by_error(estimator: Any, x: Any) -> Any:
    """By multiplication, until the error stays as it is."""
    update = _multiplied(estimator, x)
    parts = np.asarray(estimator.components_, np.float64)
    squares = LOSSES[estimator.beta_loss] == 2

    def error(weights: Any) -> Any:
        return np.linalg.norm(x - weights @ parts) if squares else _divergence(x, weights, parts)

    start = _first_weights(estimator, x)
    first = error(start)

    def body(number: Any, weights: Any, before: Any) -> list[Any]:
        better = update(weights)
        now = error(better)
        looked = number % EVERY == EVERY - 1
        settled = looked & ((before - now) / first < estimator.tol)
        return [_go_on(settled, estimator), better, np.where(looked, now, before)]

    return _iterated(estimator.max_iter, [start, first], body)


def _divergence(x: Any, weights: Any, parts: Array) -> Any:
    """The square root of twice the Kullback-Leibler divergence of what the weights make."""
    counts = x > TINY
    usual = np.where(counts, x, 1.0)
    logs = np.log(usual / np.maximum(weights @ parts, TINY))
    terms = np.where(counts, usual * logs - usual, 0.0)
    found = np.sum(terms) + np.sum(weights * parts.sum(axis=1))
    return np.sqrt(np.maximum(found, 0.0) * 2.0)

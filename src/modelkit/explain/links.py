"""The link of a model: what turns a sum of parts into the output that is served."""

from __future__ import annotations

import numpy as np

from modelkit._internal.arrays import Array


def serve(link: str, margin: Array, outputs: int) -> Array:
    """What a model of `outputs` outputs serves for raw scores (n, k), after a link by name.

    The names are "identity", "logistic", "softmax", "exp", and "share" for a sigmoid's share of the
    sum over all classes.
    """
    if link == "identity":
        return margin
    if link == "exp":
        return np.exp(margin)
    if margin.shape[1] == 1:
        return _two_probabilities(margin, outputs)
    if link == "softmax":
        largest = margin.max(axis=1, keepdims=True)
        odds = np.exp(margin - largest)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))
    likely = 1 / (1 + np.exp(-margin))
    if link == "share":
        likely /= likely.sum(axis=1, keepdims=True)
    return likely


def log_odds(link: str, values: Array, base: Array) -> tuple[Array, Array]:
    """Of two classes, the log-odds of the second; values (n, d, k) and base (k,)."""
    if values.shape[2] != 2 or link not in ("softmax", "share"):
        return values, base
    if link == "softmax":
        difference = values[:, :, 1:] - values[:, :, :1]
        return difference, base[1:] - base[:1]
    # One column is the other with its sign turned.
    return values[:, :, 1:], base[1:]


def _two_probabilities(margin: Array, outputs: int) -> Array:
    """Probabilities from the log-odds (n, 1) of the second class, of both classes if served."""
    with np.errstate(over="ignore"):
        likely = 1 / (1 + np.exp(-margin))
    if outputs != 2:
        return likely
    return np.concatenate([1 - likely, likely], axis=1)

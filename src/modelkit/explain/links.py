"""The link of a model: what turns a sum of parts into the output that is served."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelkit._internal.arrays import Array


@dataclass(frozen=True)
class OutputLink:
    """A function by name, and the factor that comes after it.

    The names are "identity", "logistic", "softmax", "exp", and "share" for a sigmoid's share of the
    sum over all classes.
    """

    name: str = "identity"
    scale: float = 1.0

    def serve(self, margin: Array, outputs: int) -> Array:
        """What a model of `outputs` outputs serves for raw scores (n, k)."""
        if self.name == "identity":
            return margin
        if self.name == "exp":
            return np.asarray(np.exp(margin) * self.scale)
        if margin.shape[1] == 1:
            return _two_probabilities(margin, outputs)
        if self.name == "softmax":
            largest = margin.max(axis=1, keepdims=True)
            odds = np.exp(margin - largest)
            return np.asarray(odds / odds.sum(axis=1, keepdims=True))
        likely = 1 / (1 + np.exp(-margin))
        if self.name == "share":
            likely /= likely.sum(axis=1, keepdims=True)
        return np.asarray(likely)

    def log_odds(self, values: Array, base: Array) -> tuple[Array, Array]:
        """Of two classes, the log-odds of the second; values (n, d, k) and base (k,)."""
        of_classes = self.name in ("softmax", "share", "logistic")
        if values.shape[2] != 2 or not of_classes:
            return values, base
        if self.name == "softmax":
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

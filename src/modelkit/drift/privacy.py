"""Differential privacy of counts: two-sided geometric noise from the system's randomness.

Adding or removing one row changes one count of each feature by one, so each of d features gets epsilon / d and all of
them together are epsilon-differentially private (Dwork and Roth, The Algorithmic Foundations of Differential Privacy;
Ghosh, Roughgarden and Sundararajan, Universally utility-maximizing privacy mechanisms).
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from modelkit.cast import Array


def noisy(counts: Array, epsilon: float) -> Array:
    """Counts (strata, features, cells) with noise, none below zero; a row is in one stratum, and in every feature."""
    from secrets import SystemRandom

    draw = SystemRandom().random
    decay = -epsilon / counts.shape[1]

    def geometric() -> int:
        return int(log(1 - draw()) / decay)

    noise = np.array([geometric() - geometric() for _ in range(counts.size)], np.int64)
    return np.maximum(counts + noise.reshape(counts.shape), 0)


def most_noise(epsilon: float, features: int, cells: Array, delta: float) -> Array:
    """What the noise in the sum of `cells` counts exceeds, in size, with a probability of at most `delta`, each.

    Bernstein's bound for sums of Laplace variables, whose moments bound those of the geometric ones. `delta` is that
    of all the sums together.
    """
    scale = features / epsilon
    asked = log(2 * len(cells) / delta)
    return np.maximum(scale * np.sqrt(8 * cells * asked), 2 * sqrt(2) * scale * asked)

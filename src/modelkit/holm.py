"""Several p-values at once."""

from __future__ import annotations

import numpy as np

from modelkit.cast import Array


def holm(p: Array) -> Array:
    """Adjusted p-values (n,) of p-values (n,), however dependent they are (Holm 1979).

    Rejecting those that are at most alpha errs with a probability of at most alpha.
    """
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1) * p[order]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted

"""Several p-values at once."""

from __future__ import annotations

import numpy as np

from modelkit.signature.cast import Array


def holm(p: Array) -> Array:
    """Adjusted p-values (n,) of p-values (n,), however dependent they are (Holm 1979).

    Rejecting those that are at most alpha errs with a probability of at most alpha.
    """
    tests = len(p)
    order = np.argsort(p, kind="stable")
    left = np.arange(tests, 0, -1)  # tests that are not rejected before each one
    rising = np.maximum.accumulate(left * p[order])
    adjusted = np.empty(tests)
    adjusted[order] = np.minimum(rising, 1)
    return adjusted

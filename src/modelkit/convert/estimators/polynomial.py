"""Converter of PolynomialFeatures: products in the order of the source."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.rows import of_floats


@of_floats("PolynomialFeatures")
def products(estimator: Any, x: Any) -> Any:
    """PolynomialFeatures: the last column of each product, times the one before it, and so on."""
    with_one = np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)
    factors = [np.take(with_one, places, axis=1) for places in _factors(estimator.powers_)]
    return reduce(np.multiply, factors)


def _factors(powers: Array) -> Array:
    """(degree, products): the places of the factors of each product, then the place of a 1."""
    degree = max(1, int(powers.sum(axis=1).max(initial=0)))
    one = powers.shape[1]
    found = np.full((degree, len(powers)), one)
    for product, exponents in enumerate(powers.tolist()):
        places = [place for place, count in enumerate(exponents) for _ in range(count)]
        found[: len(places), product] = places[::-1]
    return found

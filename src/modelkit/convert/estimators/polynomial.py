"""Converter of PolynomialFeatures: products in the order of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import Answer, Columns, constant, op

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def products(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """PolynomialFeatures: the last column of each product, times the one before it, and so on."""
    rows = at.floats(columns)
    behind = constant([0, 0, 0, 1], np.int64)  # one column behind the others
    with_one = op.pad(rows, behind, constant(1.0, rows.dtype))
    first, *others = _factors(estimator.powers_)
    product = np.take(with_one, first, axis=1)
    for places in others:
        factor = np.take(with_one, places, axis=1)
        product = product * factor
    return Answer(table=Columns((product,)))


def _factors(powers: Array) -> Array:
    """(degree, products): the places of the factors of each product, then the place of a 1."""
    degree = max(1, int(powers.sum(axis=1).max(initial=0)))
    one = powers.shape[1]
    found = np.full((degree, len(powers)), one)
    for product, exponents in enumerate(powers.tolist()):
        places = [place for place, count in enumerate(exponents) for _ in range(count)]
        found[: len(places), product] = places[::-1]
    return found


ESTIMATORS = {"sklearn.PolynomialFeatures": products}

"""Converter of QuantileTransformer: linear between the quantiles of training, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.interpolation import interpolated, smooth
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.scaling import within
from modelkit.convert.estimators.tensors import refuse

NEXT_TO_BOUND = 1e-7  # scikit-learn's BOUNDS_THRESHOLD
FAR_OUT = 16.5  # the logit of a share next to a bound is not as large
NO_SHARE = 6.5  # of the normal distribution is less than NEXT_TO_BOUND beyond this


@of_doubles("QuantileTransformer")
def quantile(estimator: Any, x: Any) -> Any:
    """QuantileTransformer: the share of the rows of training below each number."""
    quantiles = _quantiles(estimator)
    shares = np.asarray(estimator.references_, np.float64)
    heights = [shares] * quantiles.shape[1]
    found = interpolated(x, list(quantiles.T), heights)
    if (np.diff(quantiles, axis=0) == 0).any():
        # Of a number that several quantiles equal, the middle of their shares.
        mirrored = [-each[::-1] for each in quantiles.T]
        downward = [-shares[::-1]] * quantiles.shape[1]
        lower = interpolated(-x, mirrored, downward)
        found = (found - lower) * 0.5
    if estimator.output_distribution == "uniform":
        # Up to the first quantile, and from the last one on.
        found = np.where(x >= quantiles[-1], 1.0, found)
        return np.where(x <= quantiles[0], 0.0, found)
    return _normal(x, found, quantiles)


def _quantiles(transformer: Any) -> Array:
    """(quantiles, columns) of float64. Raises ConversionError for one alone."""
    if len(transformer.quantiles_) < 2:
        refuse(
            transformer, " with a single quantile cannot be converted; use n_quantiles of 2 or more"
        )
    return np.asarray(transformer.quantiles_, np.float64)


def _normal(rows: Any, shares: Any, quantiles: Array) -> Any:
    """The numbers that have these shares of a normal distribution below them."""
    from scipy.special import expit, ndtri

    logit = np.log(shares / (1.0 - shares))
    found = smooth(logit, lambda places: ndtri(expit(places)), FAR_OUT)
    ends = ndtri([NEXT_TO_BOUND - np.spacing(1), 1 - (NEXT_TO_BOUND - np.spacing(1))])
    low, high = ends.tolist()
    found = np.where(rows + NEXT_TO_BOUND > quantiles[-1], high, within(found, low, high))
    return np.where(rows - NEXT_TO_BOUND < quantiles[0], low, found)


def back_from_quantiles(transformer: Any, rows: Any) -> Any:
    """What `inverse_transform` gives: the number that has a share of the rows below it."""
    quantiles = _quantiles(transformer)
    shares = np.asarray(transformer.references_, np.float64)
    bound = 0.0
    if transformer.output_distribution == "normal":
        from scipy.special import ndtr

        bound = NEXT_TO_BOUND
        rows = smooth(within(rows, -NO_SHARE, NO_SHARE), ndtr, NO_SHARE)
    count = quantiles.shape[1]
    found = interpolated(rows, [shares] * count, list(quantiles.T))
    found = np.where(rows + bound >= 1.0, quantiles[-1], found)
    return np.where(rows - bound <= 0.0, quantiles[0], found)

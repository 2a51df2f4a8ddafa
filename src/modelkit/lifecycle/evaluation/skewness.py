"""Quantiles of a mean over rows that are skew; pure."""

from __future__ import annotations

from math import cbrt

SYMMETRIC = 1e-6


def unskewed(quantile: float, skewness: float) -> float:
    """The quantile of (mean - truth) / error, of one of a symmetric law.

    It solves t + k t^2 / 3 + k^2 t^3 / 27 + k / 6 = q, with q the quantile and k the skewness of the
    rows over sqrt(n), which is sum u^3 / (sum u^2)^1.5 of their influences u. Source: Hall, On the
    removal of skewness by transformation, JRSS B 54, 1992.
    """
    if abs(skewness) < SYMMETRIC:
        return quantile
    return 3 / skewness * (cbrt(1 + skewness * (quantile - skewness / 6)) - 1)

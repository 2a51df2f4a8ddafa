"""Converter of SplineTransformer: the splines of the piece that a number is in, as scipy computes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.interpolation import searchsorted
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.scaling import within
from modelkit.convert.estimators.tensors import gathered, refuse, total


@of_doubles("SplineTransformer")
def splines(estimator: Any, x: Any) -> Any:
    """SplineTransformer: the values of the splines at each number, column after column.

    Beyond the outer knots they stay as they are there, or go on along their slopes.
    """
    way = estimator.extrapolation
    if way == "error" or estimator.degree == 0:
        option = "extrapolation='error'" if way == "error" else "degree=0"
        instead = "extrapolation='constant'" if way == "error" else "KBinsDiscretizer"
        refuse(estimator, f"({option}) cannot be converted; use {instead}, or format='joblib'")
    kept = slice(None if estimator.include_bias else -1)
    inside = x
    if way == "periodic":
        inside = _in_first_period(estimator, x)
    elif way != "continue":
        low, high, below, above = map(np.array, zip(*_ends(estimator), strict=True))
        inside = within(x, low, high)
    found = _inside(estimator, inside, kept)
    if way == "linear":
        slopes = np.where((x < low)[:, :, None], below[:, kept], above[:, kept])
        found = found + (x - inside)[:, :, None] * slopes
    if getattr(estimator, "handle_missing", "error") == "zeros":
        found = np.where(np.isnan(x)[:, :, None], 0.0, found)
    return found.reshape(-1, found.shape[1] * found.shape[2])


def _ends(estimator: Any) -> Any:
    """Of each column, the outer knots and the slopes of the splines below and above them.

    Of lines and a degree of 1, scikit-learn counts the degree up with the first column, and starts at
    another knot from the second column on.
    """
    degree = estimator.degree
    for spline in estimator.bsplines_:
        low = spline.t[degree]
        high = spline.t[-degree - 1]
        degree = max(degree, 2) if estimator.extrapolation == "linear" else degree
        below = spline(low, nu=1)
        above = spline(high, nu=1)
        if low == high:  # of such knots, scipy gives whatever lay in memory
            below[:] = above[:] = 0.0
        below[degree:] = 0.0
        above[:-degree] = 0.0
        yield low, high, below, above


def _in_first_period(estimator: Any, x: Any) -> Any:
    """Numbers less the periods between them and the first."""
    ends = np.array([(each.t[each.k], each.t[-each.k - 1]) for each in estimator.bsplines_])
    length = ends[:, 1] - ends[:, 0]
    return ends[:, 0] + (x - ends[:, 0]) % np.where(length > 0, length, 1.0)


def _inside(estimator: Any, x: Any, kept: slice) -> Any:
    """(n, columns, splines): the sum of the members of each piece, each times its share there."""
    bounds, knots, members = zip(*map(_pieces, estimator.bsplines_), strict=True)
    at = searchsorted(x, bounds)
    shares = _shares(x, at, np.concatenate(knots))
    tables = np.concatenate(members, axis=1)[:, :, kept]
    pairs = zip(shares, tables, strict=True)
    return total([share[:, :, None] * gathered(table, at) for share, table in pairs])


def _pieces(spline: Any) -> tuple[Array, Array, Array]:
    """The bounds between the pieces of a column, the knots around each, and its coefficients.

    They are (pieces - 1,), (pieces, 2 degree) and (degree + 1, pieces, splines).
    """
    degree = spline.k
    knots = spline.t[degree : len(spline.t) - degree]
    # Knots that are equal have no piece between them; where all are, every spline is 0.
    starts = np.flatnonzero(np.diff(knots) > 0) if knots[0] < knots[-1] else np.zeros(1, int)
    around = spline.t[starts[:, None] + np.arange(1, 2 * degree + 1)]
    return knots[starts[1:]], around, spline.c[starts + np.arange(degree + 1)[:, None]]


def _shares(x: Any, at: Any, knots: Array) -> list[Any]:
    """The values of the splines that are not 0 in the piece of each number: de Boor's recursion."""
    degree = knots.shape[1] // 2
    around = [gathered(each, at) for each in knots.T]
    shares: list[Any] = [1.0]
    for order in range(1, degree + 1):
        raised: list[Any] = [0.0] * (order + 1)
        for place, share in enumerate(shares):
            after = degree + place
            before = after - order
            apart = knots[:, after] - knots[:, before]
            apart[apart == 0] = np.inf  # of which scipy leaves the share away
            part = share / gathered(apart, at)
            raised[place] = raised[place] + part * (around[after] - x)
            raised[place + 1] = part * (x - around[before])
        shares = raised
    return shares

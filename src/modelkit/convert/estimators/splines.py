"""Converter of SplineTransformer: the splines of the piece that a number is in, as scipy computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.interpolation import along, located
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.scaling import within
from modelkit.convert.estimators.tensors import Var, gathered, total
from modelkit.errors import ConversionError

FURTHEST = 1e300  # times a slope of 0 it is 0, as infinity is not


@dataclass
class Pieces:
    """The pieces of one column, and which bounds are between them.

    `knots` are those around each piece, (pieces, 2 degree), and `members` which splines are not 0 in
    it, a matrix of zeros and ones of (pieces, splines) for each in turn. A piece that is `straight`
    has lines instead, from its base on: `lines` are their slopes and starts, (2, pieces, splines).
    """

    bounds: Array
    knots: Array
    members: Array
    straight: Array
    bases: Array
    lines: Array

    def with_ends(self, low: tuple[float, Array], high: tuple[float, Array]) -> Pieces:
        """The pieces from one bound to another, and beyond each of them lines."""
        first, below = low
        last, above = high
        chosen = (self.bases < last) & (np.append(self.bounds, np.inf) > first)
        if first == last:  # a column of one value
            chosen[0] = True
        within = self.bounds[(self.bounds > first) & (self.bounds < last)]
        after = np.nextafter(last, np.inf)
        at = np.flatnonzero(chosen)
        ended = np.concatenate([at[:1], at, at[-1:]])
        lines = [below[:, None], self.lines[:, at], above[:, None]]
        return Pieces(
            np.concatenate([[first], within, [after]]),
            self.knots[ended],
            self.members[:, ended],
            np.concatenate([[True], self.straight[at], [True]]),
            np.concatenate([[first], self.bases[at], [last]]),
            np.concatenate(lines, axis=1),
        )


@of_doubles("SplineTransformer")
def splines(estimator: Any, x: Any) -> Any:
    """SplineTransformer: the values of the splines at each number, column after column."""
    if estimator.extrapolation == "error":
        raise ConversionError(
            "SplineTransformer(extrapolation='error') cannot be converted, for a graph cannot "
            "refuse a number; use extrapolation='constant'",
            step="SplineTransformer",
        )
    inside = x
    if estimator.extrapolation == "constant":  # beyond the knots, to infinity
        inside = within(x, -FURTHEST, FURTHEST)
    if estimator.extrapolation == "periodic":
        inside = _in_first_period(estimator, x)
    parts = _all_pieces(estimator)
    at = located(inside, [part.bounds for part in parts])
    found = _at_pieces(inside, at, parts, include_bias=estimator.include_bias)
    if getattr(estimator, "handle_missing", "error") == "zeros":
        found = np.where(np.isnan(x)[:, :, None], 0.0, found)
    count = parts[0].lines.shape[2] - (not estimator.include_bias)
    return found.reshape(-1, len(parts) * count)


def _at_pieces(rows: Var, at: Var, parts: list[Pieces], *, include_bias: bool) -> Var:
    """(n, columns, splines): the values of the splines, with those operations that scipy makes."""
    splines = slice(None if include_bias else -1)
    members = np.concatenate([part.members for part in parts], axis=1)[:, :, splines]
    shares = _shares(rows, at, np.concatenate([part.knots for part in parts]))
    terms = [gathered(each, at) for each in members]
    for place, share in enumerate(shares):
        terms[place] = share[:, :, None] * terms[place]
    found = total(terms)
    straight = np.concatenate([part.straight for part in parts])
    if not straight.any():
        return found
    bases = np.concatenate([part.bases for part in parts])
    lines = np.concatenate([part.lines for part in parts], axis=1)[:, :, splines]
    is_straight = gathered(straight, at)[:, :, None]
    return np.where(is_straight, along(rows, at, bases, lines), found)


def _shares(rows: Var, at: Var, knots: Array) -> list[Var]:
    """The values of the splines that are not 0 in the piece of each number: de Boor's recursion.

    There are none for a degree of 0, of which the only one is 1.
    """
    degree = knots.shape[1] // 2
    around = [gathered(each, at) for each in knots.T]
    shares: list[Any] = [1.0]
    for order in range(1, degree + 1):
        raised: list[Any] = [0.0] * (order + 1)
        for place in range(1, order + 1):
            after = degree + place - 1
            before = after - order
            apart = knots[:, after] - knots[:, before]
            apart[apart == 0] = np.inf  # of which scipy leaves the share away
            part = shares[place - 1] / gathered(apart, at)
            raised[place - 1] = raised[place - 1] + part * (around[after] - rows)
            raised[place] = part * (rows - around[before])
        shares = raised
    return shares if degree else []


def _in_first_period(estimator: Any, rows: Var) -> Var:
    """Numbers less the periods between them and the first; 0 where a period has no length."""
    starts = []
    lengths = []
    for spline in estimator.bsplines_:
        last = spline.t[spline.t.size - spline.k - 1]
        starts.append(spline.t[spline.k])
        lengths.append(last - spline.t[spline.k])
    start = np.array(starts)
    length = np.array(lengths)
    usual = np.where(length > 0, length, 1.0)
    past = (rows - start) % usual
    found = start + past
    if (length > 0).all():
        return found
    return np.where(length > 0, found, 0.0)


def _all_pieces(estimator: Any) -> list[Pieces]:
    """The pieces of each column.

    Of a degree of 0 or 1, scikit-learn's linear continuation counts the degree up with each column,
    and starts at another knot from the second column on.
    """
    degree = estimator.degree
    found = []
    for spline in estimator.bsplines_:
        pieces = _pieces(spline)
        if estimator.extrapolation == "constant":
            pieces = _level(spline, pieces, degree)
        elif estimator.extrapolation == "linear":
            reach = degree + 1 if degree <= 1 else degree
            pieces = _straight(spline, pieces, degree, reach)
            degree = reach
        found.append(pieces)
    return found


def _pieces(spline: Any) -> Pieces:
    degree = spline.k
    knots = spline.t[degree : len(spline.t) - degree]
    # Knots that are equal have no piece between them.
    apart = np.flatnonzero(np.diff(knots) > 0)
    count = spline.c.shape[1]
    if not len(apart):  # whatever the splines are there
        lines = np.stack([np.zeros((1, count)), spline(knots[:1])])
        flat = np.zeros((degree + 1, 1, count))
        around = np.zeros((1, 2 * degree))
        return Pieces(np.zeros(0), around, flat, np.ones(1, bool), knots[:1], lines)
    around = spline.t[apart[:, None] + np.arange(1, 2 * degree + 1)]
    members = np.stack([spline.c[apart + place] for place in range(degree + 1)])
    none = np.zeros((2, len(apart), count))
    bases = knots[apart]
    return Pieces(bases[1:], around, members, np.zeros(len(apart), bool), bases, none)


def _level(spline: Any, pieces: Pieces, degree: int) -> Pieces:
    """Beyond the bounds, the first splines or the last ones stay what they are there."""
    low = spline.t[degree]
    high = spline.t[-degree - 1]
    below = np.zeros_like(pieces.lines[:, 0])
    above = below.copy()
    if degree:
        below[-1, :degree] = spline(low)[:degree]
        above[-1, -degree:] = spline(high)[-degree:]
    return pieces.with_ends((low, below), (high, above))


def _straight(spline: Any, pieces: Pieces, degree: int, reach: int) -> Pieces:
    """Beyond the bounds, the first splines or the last ones go on as straight lines."""
    low = spline.t[degree]
    high = spline.t[-degree - 1]
    below = np.zeros_like(pieces.lines[:, 0])
    above = below.copy()
    below[-1, :reach] = spline(low)[:reach]
    below[-2, :reach] = spline(low, nu=1)[:reach]
    above[-1, -reach:] = spline(high)[-reach:]
    above[-2, -reach:] = spline(high, nu=1)[-reach:]
    return pieces.with_ends((low, below), (high, above))

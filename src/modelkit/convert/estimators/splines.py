"""Converter of SplineTransformer: the polynomial of the piece that a number is in, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.estimators.arithmetic import choose, minus, plus
from modelkit.convert.estimators.elementary import remainder
from modelkit.convert.estimators.interpolation import along, located
from modelkit.convert.estimators.scaling import one_table, within
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, doubles, op
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

FURTHEST = 1e300  # times a slope of 0 it is 0, as infinity is not


@dataclass
class Pieces:
    """The pieces of one column: what is between them, where they start, and their polynomials.

    `table` is (degree + 1, pieces, splines), the highest coefficient first.
    """

    bounds: Array
    bases: Array
    table: Array

    def with_ends(
        self,
        low: tuple[float, Array],
        high: tuple[float, Array],
    ) -> Pieces:
        """The pieces from one bound to another, and beyond each of them another polynomial."""
        first, below = low
        last, above = high
        chosen = (self.bases < last) & (np.append(self.bounds, np.inf) > first)
        if first == last:  # a column of one value
            chosen[0] = True
        within = self.bounds[(self.bounds > first) & (self.bounds < last)]
        after = np.nextafter(last, np.inf)
        table = [below[:, None], self.table[:, chosen], above[:, None]]
        return Pieces(
            np.concatenate([[first], within, [after]]),
            np.concatenate([[first], self.bases[chosen], [last]]),
            np.concatenate(table, axis=1),
        )


def splines(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """SplineTransformer: the values of the splines at each number, column after column."""
    if estimator.extrapolation == "error":
        raise ConversionError(
            "SplineTransformer(extrapolation='error') cannot be converted, for a graph cannot "
            "refuse a number; use extrapolation='constant'",
            step="SplineTransformer",
        )
    rows = columns.matrix(np.float64)
    inside = rows
    if estimator.extrapolation == "constant":  # beyond the knots, to infinity
        inside = within(rows, -FURTHEST, FURTHEST)
    if estimator.extrapolation == "periodic":
        inside = _in_first_period(estimator, rows)
    parts = _all_pieces(estimator)
    at = located(inside, [part.bounds for part in parts])
    bases = np.concatenate([part.bases for part in parts])
    table = np.concatenate([part.table for part in parts], axis=1)
    if not estimator.include_bias:
        table = table[:, :, :-1]
    found = along(inside, at, bases, table)
    if getattr(estimator, "handle_missing", "error") == "zeros":
        gap = op.unsqueeze(op.isnan(rows), constant([2], np.int64))
        found = choose(gap, 0.0, found)
    wide = len(parts) * table.shape[2]
    return one_table(op.reshape(found, constant([-1, wide], np.int64)))


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
    past = remainder(minus(rows, start), doubles(usual))
    found = plus(start, past)
    if (length > 0).all():
        return found
    return choose(constant(length > 0), found, 0.0)


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
    from scipy.interpolate import PPoly

    knots = spline.t[spline.k : len(spline.t) - spline.k]
    # Knots that are equal have no piece between them.
    apart = np.flatnonzero(np.diff(knots) > 0)
    if not len(apart):
        return _one_value(spline, knots[0])
    bases = knots[apart]
    parts = []
    for weights in spline.c.T:
        polynomials = PPoly.from_spline((spline.t, weights, spline.k))
        parts.append(polynomials.c[:, spline.k + apart])
    return Pieces(bases[1:], bases, np.stack(parts, axis=-1))


def _one_value(spline: Any, value: float) -> Pieces:
    """The pieces of a column that held one value in training: whatever the splines are there."""
    table = np.zeros((spline.k + 1, 1, spline.c.shape[1]))
    table[-1, 0] = spline(value)
    return Pieces(np.zeros(0), np.array([value]), table)


def _level(
    spline: Any,
    pieces: Pieces,
    degree: int,
) -> Pieces:
    """Beyond the bounds, the first splines or the last ones stay what they are there."""
    low = spline.t[degree]
    high = spline.t[-degree - 1]
    below = np.zeros_like(pieces.table[:, 0])
    above = below.copy()
    if degree:
        below[-1, :degree] = spline(low)[:degree]
        above[-1, -degree:] = spline(high)[-degree:]
    return pieces.with_ends((low, below), (high, above))


def _straight(
    spline: Any,
    pieces: Pieces,
    degree: int,
    reach: int,
) -> Pieces:
    """Beyond the bounds, the first splines or the last ones go on as straight lines."""
    low = spline.t[degree]
    high = spline.t[-degree - 1]
    table = pieces.table
    if len(table) < 2:
        table = np.concatenate([np.zeros_like(table), table])
    below = np.zeros_like(table[:, 0])
    above = below.copy()
    below[-1, :reach] = spline(low)[:reach]
    below[-2, :reach] = spline(low, nu=1)[:reach]
    above[-1, -reach:] = spline(high)[-reach:]
    above[-2, -reach:] = spline(high, nu=1)[-reach:]
    wide = Pieces(pieces.bounds, pieces.bases, table)
    return wide.with_ends((low, below), (high, above))


ESTIMATORS = {
    "sklearn.SplineTransformer": splines,
}

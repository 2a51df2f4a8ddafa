"""Tables of pieces: which piece a number is in, and polynomials of a piece, for all columns at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import Traced, Var, gathered
from modelkit.convert.estimators.trees import bisection, by_tree, joined_forests

DEGREE = 8  # of the polynomials by which smooth functions are given
PIECES = 8  # of such a function, for each unit


def searchsorted(rows: Var, bounds: Sequence[Array]) -> Var:
    """(n, columns): the piece of each number, between bounds, counted through all columns."""
    starts = np.cumsum([0, *(len(its) + 1 for its in bounds[:-1])])
    if isinstance(rows, Traced):
        below = (np.nextafter(np.asarray(its, np.float64), -np.inf) for its in bounds)
        forest = joined_forests([bisection(its, place) for place, its in enumerate(below)])
        at = by_tree(rows, forest, forest.leaves[:, 0]).astype(np.int64)
    else:
        pairs = zip(bounds, rows.T, strict=True)
        at = np.stack([np.searchsorted(*pair, "right") for pair in pairs], axis=1)
    return at if len(bounds) == 1 else at + starts


def horner(rows: Var, at: Var, bases: Array, table: Array) -> Var:
    """The polynomials of pieces, by Horner's rule.

    Args:
        rows: (n, columns).
        at: (n, columns): the piece of each number.
        bases: (pieces,): where each piece starts.
        table: (degree + 1, pieces) or (degree + 1, pieces, m): the highest coefficient first, of
            polynomials of the distance from the start.

    Returns:
        (n, columns) or (n, columns, m).
    """
    apart = rows - gathered(bases, at)
    if table.ndim > 2:
        apart = apart[:, :, None]
    first, *others = table
    found = gathered(first, at)
    for each in others:
        found = found * apart + gathered(each, at)
    return found


def interpolated(rows: Var, places: Sequence[Array], heights: Sequence[Array]) -> Var:
    """Each column between its places, as numpy.interp has it; of equal places the last one counts."""
    # One place alone stands for two.
    places = [np.resize(each, max(2, len(each))) for each in places]
    heights = [np.resize(each, max(2, len(each))) for each in heights]
    slopes = []
    for its, high in zip(places, heights, strict=True):
        rise = np.diff(high)
        apart = np.diff(its)
        slopes.append(np.divide(rise, apart, out=np.zeros_like(rise), where=apart > 0))
    bases = np.concatenate([each[:-1] for each in places])
    starts = np.concatenate([each[:-1] for each in heights])
    at = searchsorted(rows, [each[1:-1] for each in places])
    return horner(rows, at, bases, np.stack([np.concatenate(slopes), starts]))


def smooth(numbers: Var, function: Callable[[Array], Any], end: float) -> Var:
    """A smooth function of numbers between -end and end, to 1e-16 of its size.

    ONNX lacks the function; between known values it is a polynomial through them.
    """
    count = int(np.ceil(end * PIECES))
    bases = np.arange(-count, count) / PIECES
    nodes = np.polynomial.chebyshev.chebpts1(DEGREE + 1)
    half = 0.5 / PIECES
    middles = bases + half
    known = np.asarray(function(middles + half * nodes[:, None]))
    by_wave = np.linalg.solve(np.polynomial.chebyshev.chebvander(nodes, DEGREE), known)
    to_power = [np.polynomial.chebyshev.cheb2poly(each) for each in np.eye(DEGREE + 1)]
    padded = [np.pad(each, (0, DEGREE + 1 - len(each))) for each in to_power]
    by_power = np.stack(padded).T @ by_wave
    table = by_power / half ** np.arange(DEGREE + 1)[:, None]
    piece = np.floor(numbers * PIECES)
    inside = np.clip(piece + count, 0.0, 2 * count - 1)
    at = np.where(np.isnan(numbers), 0.0, inside).astype(np.int64)
    return horner(numbers, at, middles, table[::-1])

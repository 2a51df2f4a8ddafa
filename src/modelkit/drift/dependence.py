"""The distance between rows in the order of time at which they may pass as independent."""

from __future__ import annotations

from math import ceil, log

import numpy as np

from modelkit.cast import Array

MOST_APART = 200
FAINT = 0.05  # an autocorrelation below this passes for none
FEWEST_SCORES = 8  # from which an autocorrelation is estimated


def rows_apart(cells: Array) -> int:
    """The stride that the cells of a reference in order of time, ints (n,), call for: 1 to 200.

    The first lag at which the autocorrelations of location and scale (the first two Legendre
    polynomials of the mid-ranks of the cells) are both below 0.05; or, where that is more, the lag
    at which they would be if they fell from one row to the next as they do at lag one, for the
    first lag below is found too soon in a short reference.
    """
    n = len(cells)
    counts = np.bincount(cells)
    ranks = (np.cumsum(counts) - counts / 2)[cells] / max(n, 1)
    location = 2 * ranks - 1
    scale = 1.5 * location**2 - 0.5
    return max(_stride(location), _stride(scale))


def _stride(score: Array) -> int:
    n = len(score)
    centred = score - score.sum() / max(n, 1)
    power = float(centred @ centred)
    if n < FEWEST_SCORES or power < 1e-9:
        return 1
    noise = 2 / n**0.5  # of an autocorrelation that is 0
    first = float(centred[1:] @ centred[:-1]) / power
    if abs(first) <= max(FAINT, noise):
        return 1
    lag = _first_faint(centred, power)
    implied = ceil(log(FAINT) / log(min(abs(first), 0.999)))
    return min(max(lag, implied), MOST_APART)


def _first_faint(centred: Array, power: float) -> int:
    """The first lag from 2 at which the autocorrelation is faint, or the largest one looked at."""
    most = min(MOST_APART, len(centred) // 4)
    for lag in range(2, most):
        correlation = float(centred[lag:] @ centred[:-lag] / power)
        if abs(correlation) < FAINT:
            return lag
    return most


def dependence_text(apart: int, *, ordered: bool) -> str:
    """The finding about the dependence between rows, in words."""
    if apart > 1:
        return (
            f"reference in the order of time: values up to {apart} rows apart are dependent, and "
            "only those further apart are used"
        )
    if ordered:
        return "reference in the order of time: no dependence between neighbouring rows was found"
    return (
        "reference in no known order: dependence between rows was not looked for (ordered=True "
        "does)"
    )

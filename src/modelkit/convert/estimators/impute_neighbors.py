"""Converter of KNNImputer: the mean of a column over the nearest rows of fit that have a value there.

The weight of a row that is as good as equal hangs on the last bit of its distance. So distances are
computed by the steps of scikit-learn, in their order, down to the additions of numpy. Rounded values
often give equal distances: of those, rows that come first are nearer, as parity/ties.py has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.equals import coarse
from modelkit.convert.estimators.impute import gaps, with_indicators
from modelkit.convert.estimators.neighbors import inverse
from modelkit.convert.estimators.origins import rounded_columns
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    converts,
    flat,
    gathered,
    op,
    smallest,
    total,
    width,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


@converts("KNNImputer")
def filled(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """KNNImputer: only rows with a gap are compared with those of fit."""
    _check_options(estimator)
    rows = columns.matrix(np.float64)
    held = np.flatnonzero(estimator._valid_mask).tolist()  # no public way
    done = _filled(estimator, rows, held) if held else rows
    table = _without_empty(estimator, done, held)
    if table is done and not any(rounded_columns(columns)):
        at.imputed.append((table, gaps(rows, estimator.missing_values)))
    return Answer(table=with_indicators(estimator, columns, [table], at))


def _filled(estimator: Any, rows: Var, held: list[int]) -> Var:
    """The rows with means in the gaps of the columns that fit had values of."""
    asked = _rows_with_gaps(gaps(rows, estimator.missing_values))
    some = op.gather(rows, asked)
    missing = gaps(some, estimator.missing_values)
    distances = _distances(estimator, some, missing)
    ranks = _rounded(estimator, distances)
    begins = asked * width(rows)  # of each row, in memory
    places = []
    means = []
    for place in held:
        own = flat(op.non_zero(missing[:, place]))
        begin = op.gather(begins, own)
        places.append(begin + place)
        means.append(
            _mean_of_donors(estimator, place, op.gather(distances, own), op.gather(ranks, own))
        )
    done = op.scatter_elements(flat(rows), *(np.concatenate(each) for each in (places, means)))
    return done.reshape(-1, width(rows))


def _rows_with_gaps(missing: Var) -> Var:
    """The places of the rows in which something is missing."""
    found = np.max(missing.astype(np.int32), axis=1)
    return flat(op.non_zero(found))


def _check_options(estimator: Any) -> None:
    if callable(estimator.metric) or callable(estimator.weights):
        option = "metric" if callable(estimator.metric) else "weights"
        usual = "'nan_euclidean'" if option == "metric" else "'uniform' or 'distance'"
        raise ConversionError(
            f"KNNImputer({option}=...) with a function of yours cannot be converted; use {usual}, or "
            "format='joblib'",
            step="KNNImputer",
        )


def _distances(estimator: Any, rows: Var, missing: Var) -> Var:
    """Distances to the rows of fit over the columns that both have; infinite without any."""
    gone = estimator._mask_fit_X  # no public way
    known = estimator._fit_X.astype(np.float64)  # in its order in memory
    known[gone] = 0.0
    given = np.where(missing, 0.0, rows)
    squares = given * given
    found = _complete_distances(given, squares, known)
    if gone.any():
        found = found - squares @ gone.T
    without = missing.astype(np.float64) @ (known * known).T
    both = (~missing).astype(np.float64) @ ~gone.T
    mean = np.maximum(found - without, 0.0) / np.maximum(both, 1.0)
    return np.where(both == 0.0, np.inf, np.sqrt(mean * known.shape[1]))


def _complete_distances(given: Var, squares: Var, known: Array) -> Var:
    """Squared distances between rows in whose gaps are zeros."""
    lengths = np.einsum("ij,ij->i", known, known)
    products = given @ known.T
    return np.maximum(-2.0 * products + _sums(squares) + lengths, 0.0)


def _sums(squares: Var) -> Var:
    """The sum of each row, as numpy.einsum adds: in two lanes, and of eight columns the last first."""
    count = width(squares)
    if count == 1:
        return squares
    each = op.split(squares, num_outputs=count, axis=1)
    firsts = np.arange(0, count, 2)  # of pairs of columns
    whole = count // 8 * 4
    blocks = firsts[:whole].reshape(-1, 4)[:, ::-1]
    order = [*blocks.flat, *firsts[whole:]]
    even = [each[place] for place in order]
    odd = [each[place + 1] for place in order if place + 1 < count]
    return total(even) + total(odd)


def _rounded(estimator: Any, distances: Var) -> Var:
    """Squared distances without what is rounding of products of rows."""
    gone = estimator._mask_fit_X  # no public way
    known = np.where(gone, 0.0, estimator._fit_X).astype(np.float64)
    grid = coarse(known)
    squares = distances * distances
    return squares + grid - grid


def _mean_of_donors(estimator: Any, place: int, distances: Var, ranks: Var) -> Var:
    """The weighted mean of a column over the rows of the lowest ranks that have it; (n,)."""
    gone = estimator._mask_fit_X[:, place]  # no public way
    held = estimator._fit_X[:, place]
    if gone.any():
        without = np.where(gone, np.inf, 0.0)[None]
        distances = distances + without
        ranks = ranks + without
    count = min(estimator.n_neighbors, int((~gone).sum()))
    donors = smallest(ranks, count)
    nearest = np.take_along_axis(distances, donors, axis=1)
    values = gathered(np.where(gone, 0.0, held), donors)
    weights = _weights(estimator, nearest)
    overall = float(np.ma.array(held, mask=gone).mean())  # where no row shares a column
    return _weighted_mean(values, weights, overall)


def _weighted_mean(values: Var, weights: Var, otherwise: float) -> Var:
    whole = np.sum(weights, axis=1)
    return np.where(whole > 0.0, np.sum(weights * values, axis=1) / whole, otherwise)


def _weights(estimator: Any, nearest: Var) -> Var:
    """The weights of the nearest rows; rows that share no column are infinitely far, and weigh 0."""
    if estimator.weights == "distance":
        return inverse(nearest)
    return (nearest < np.inf).astype(np.float64)


def _without_empty(estimator: Any, table: Var, held: list[int]) -> Var:
    """The table without columns that fit never had a value of, or with 0 in them."""
    count = width(table)
    if len(held) == count:
        return table
    if not estimator.keep_empty_features:
        return np.take(table, held, axis=1)
    empty: Array = ~estimator._valid_mask  # no public way
    return np.where(empty, 0.0, table)

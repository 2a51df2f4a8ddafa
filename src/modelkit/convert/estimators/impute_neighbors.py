"""Converter of KNNImputer: the mean of a column over the nearest rows of fit that have a value there.

The weight of a row that is as good as equal hangs on the last bit of its distance. So distances are
computed by the steps of scikit-learn, in their order, down to the additions of numpy. Rounded values
often give equal distances: of those, rows that come first are nearer, as ties.py has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.equals import coarse
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.impute import gaps, with_indicators
from modelkit.convert.estimators.neighbors import inverse
from modelkit.convert.estimators.origins import rounded_columns
from modelkit.convert.estimators.scaling import added_in, lanes
from modelkit.convert.estimators.tensors import (
    Columns,
    Var,
    converts,
    flat,
    gathered,
    op,
    refuse,
    smallest,
    width,
)

USUAL = {"metric": "'nan_euclidean'", "weights": "'uniform' or 'distance'"}


@converts("KNNImputer")
def filled(estimator: Any, columns: Columns, at: Converting) -> Columns:
    """KNNImputer: only rows with a gap are compared with the rows of fit."""
    for option, usual in USUAL.items():
        if callable(getattr(estimator, option)):
            refuse(
                estimator,
                f"({option}=...) with a function of yours cannot be converted; use {usual}, or "
                "format='joblib'",
            )
    rows = columns.matrix(np.float64)
    held = estimator._valid_mask  # of columns that fit had values of, no public way
    table = _filled(estimator, rows) if held.any() else rows
    if not held.all():
        kept = estimator.keep_empty_features
        table = np.where(held, table, 0.0) if kept else table[:, np.flatnonzero(held)]
    elif not any(rounded_columns(columns)):
        table.imputed = gaps(rows, estimator.missing_values)
    return with_indicators(estimator, columns, [table], at)


def _filled(estimator: Any, rows: Var) -> Var:
    """The rows with means in the gaps of the columns that fit had values of."""
    asked = flat(op.non_zero(np.any(gaps(rows, estimator.missing_values), axis=1)))
    some = op.gather(rows, asked)
    missing = gaps(some, estimator.missing_values)
    distances = _distances(estimator, some, missing)
    # Without what is rounding of products of rows.
    grid = coarse(np.where(estimator._mask_fit_X, 0.0, estimator._fit_X).astype(np.float64))
    ranks = distances * distances + grid - grid
    begins = asked * width(rows)  # of each row, in memory
    places = []
    means = []
    for place in np.flatnonzero(estimator._valid_mask).tolist():
        own = flat(op.non_zero(missing[:, place]))
        places.append(op.gather(begins, own) + place)
        near = op.gather(distances, own)
        means.append(_mean_of_donors(estimator, place, near, op.gather(ranks, own)))
    done = op.scatter_elements(flat(rows), *map(np.concatenate, (places, means)))
    return done.reshape(-1, width(rows))


def _distances(estimator: Any, rows: Var, missing: Var) -> Var:
    """Distances to the rows of fit over the columns that both have; infinite without any."""
    gone = estimator._mask_fit_X
    known = estimator._fit_X.astype(np.float64)  # in its order in memory
    known[gone] = 0.0
    given = np.where(missing, 0.0, rows)
    squares = given * given
    lengths = np.einsum("ij,ij->i", known, known)
    products = given @ known.T
    own = added_in(squares, lanes(width(rows)))
    found = np.maximum(-2.0 * products + own + lengths, 0.0)
    if gone.any():
        found = found - squares @ gone.T
    without = missing.astype(np.float64) @ (known * known).T
    both = (~missing).astype(np.float64) @ ~gone.T
    mean = np.maximum(found - without, 0.0) / np.maximum(both, 1.0)
    return np.where(both == 0.0, np.inf, np.sqrt(mean * known.shape[1]))


def _mean_of_donors(estimator: Any, place: int, distances: Var, ranks: Var) -> Var:
    """(n,): the weighted mean of a column over the rows of the lowest ranks that have it.

    Rows that share no column are infinitely far, and weigh 0.
    """
    gone = estimator._mask_fit_X[:, place]
    held = estimator._fit_X[:, place]
    if gone.any():
        without = np.where(gone, np.inf, 0.0)[None]
        distances = distances + without
        ranks = ranks + without
    donors = smallest(ranks, min(estimator.n_neighbors, int((~gone).sum())))
    near = np.take_along_axis(distances, donors, axis=1)
    by_distance = estimator.weights == "distance"
    weights = inverse(near) if by_distance else (near < np.inf).astype(np.float64)
    whole = np.sum(weights, axis=1)
    means = np.sum(weights * gathered(np.where(gone, 0.0, held), donors), axis=1) / whole
    return np.where(whole > 0.0, means, float(np.ma.array(held, mask=gone).mean()))

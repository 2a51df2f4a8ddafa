"""Converter of KBinsDiscretizer: values are compared with its edges in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.origins import rounded_columns
from modelkit.convert.estimators.rounding import beyond_rounding
from modelkit.convert.estimators.tensors import Columns, Var, column_stack, converts


@converts("KBinsDiscretizer")
def binned(estimator: Any, columns: Columns, at: Converting) -> Var:
    """KBinsDiscretizer: the number of each value's bin, or a column of 0 and 1 for each bin."""
    dtype = np.float32 if estimator.dtype == np.float32 else at.float_dtype(columns)
    rows = columns.matrix(dtype)
    wide = rows.astype(np.float64)[:, :, None]
    reached = wide >= _edges(estimator, columns, at)
    bins = np.sum(reached.astype(np.float64), axis=2)
    if estimator.encode == "ordinal":
        return bins.astype(dtype)
    pairs = enumerate(estimator.n_bins_.tolist())
    return column_stack(
        [np.take(bins, [at], axis=1) == [range(count)] for at, count in pairs]
    ).astype(dtype)


def _edges(estimator: Any, columns: Columns, at: Converting) -> Array:
    """(columns, edges): the edges between bins, filled up with infinity, which no value reaches.

    Edges are often values of training: edges of columns that are rounded otherwise are lowered.
    """
    inner = [edges[1:-1] for edges in estimator.bin_edges_]
    for place, rounded in enumerate(rounded_columns(columns)):
        if rounded:
            values = at.values_of(columns, place)
            inner[place] = beyond_rounding(inner[place], values, side=-1)
    most = max(1, *(len(edges) for edges in inner))
    filled = np.full((len(inner), most), np.inf)
    for place, edges in enumerate(inner):
        filled[place, : len(edges)] = edges
    return filled

"""Columns whose values are arrays, as the tensors that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.errors import SignatureError
from modelkit.spec import TensorSpec, numpy_dtype


def no_rows(spec: TensorSpec) -> Array:
    """A tensor of zero rows."""
    shape = [0 if isinstance(size, str) else size for size in spec.shape]
    return np.empty(shape, numpy_dtype(spec.dtype))


def stacked(column: Any, spec: TensorSpec) -> Any:
    """A column of a pandas frame as a tensor, where its values are arrays.

    Raises SignatureError for arrays of different shapes, and for missing ones.
    """
    if not len(column):
        return no_rows(spec)
    if all(np.ndim(value) == 0 for value in (column.iloc[0], column.iloc[-1])):
        return column
    shapes = {np.shape(value) for value in column}
    if len(shapes) > 1:
        raise SignatureError(
            f"column {spec.name!r} has arrays of the shapes {sorted(shapes)}; a tensor has one"
        )
    return np.stack(column.to_numpy())

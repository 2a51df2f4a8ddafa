"""Columns whose values are arrays, as the tensors that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.spec import TensorSpec, numpy_dtype


def no_rows(spec: TensorSpec) -> Array:
    """A tensor of zero rows."""
    shape = [0 if isinstance(size, str) else size for size in spec.shape]
    return np.empty(shape, numpy_dtype(spec.dtype))


def stacked(column: Any, spec: TensorSpec) -> Any:
    """A column of a pandas frame as a tensor, where its values are arrays."""
    if not len(column):
        return no_rows(spec)
    several = np.ndim(column.iloc[0]) > 0
    return np.stack(column.to_numpy()) if several else column

"""Arithmetic with tensors of float64."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from modelkit.convert.estimators.tensors import Var, total, width

# Columns from which on numpy adds a row up in an order that its place in memory decides.
PAIRWISE = 8


at_least, at_most, equal, greater, less = (
    operator.ge,
    operator.le,
    operator.eq,
    operator.gt,
    operator.lt,
)
minus, over, plus, times = operator.sub, operator.truediv, operator.add, operator.mul
choose: Any = np.where


def row_sums(matrix: Var) -> Var:
    """(n, 1): the sum of each row, equal to numpy's to the last bit where there are few columns."""
    count = width(matrix)
    if count >= PAIRWISE:
        return np.sum(matrix, axis=1, keepdims=True)
    return total([matrix[:, [place]] for place in range(count)])

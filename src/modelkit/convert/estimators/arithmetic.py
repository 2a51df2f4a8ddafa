"""Arithmetic with tensors, in which numbers stand for tensors of float64 that are always the same."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.estimators.tensors import Var, constant, doubles, op, picked, total, width

# Columns from which on numpy adds a row up in an order that its place in memory decides.
PAIRWISE = 8
Number = Any  # a tensor, or a number or an array of them


def _tensor(value: Number) -> Var:
    return value if isinstance(value, Var) else doubles(value)


def plus(left: Number, right: Number) -> Var:
    """Left + right."""
    return op.add(_tensor(left), _tensor(right))


def minus(left: Number, right: Number) -> Var:
    """Left - right."""
    return op.sub(_tensor(left), _tensor(right))


def times(left: Number, right: Number) -> Var:
    """Left * right."""
    return op.mul(_tensor(left), _tensor(right))


def over(left: Number, right: Number) -> Var:
    """Left / right."""
    return op.div(_tensor(left), _tensor(right))


def less(left: Number, right: Number) -> Var:
    """Left < right."""
    return op.less(_tensor(left), _tensor(right))


def greater(left: Number, right: Number) -> Var:
    """Left > right."""
    return op.greater(_tensor(left), _tensor(right))


def at_most(left: Number, right: Number) -> Var:
    """Left <= right."""
    return op.less_or_equal(_tensor(left), _tensor(right))


def at_least(left: Number, right: Number) -> Var:
    """Left >= right."""
    return op.greater_or_equal(_tensor(left), _tensor(right))


def equal(left: Number, right: Number) -> Var:
    """Left == right."""
    return op.equal(_tensor(left), _tensor(right))


def choose(condition: Var, left: Number, right: Number) -> Var:
    """Left where the condition holds, and right elsewhere."""
    return op.where(condition, _tensor(left), _tensor(right))


def product(rows: Var, weights: Any, shift: Any = None) -> Var:
    """(n, outputs): rows times weights of (columns, outputs), and a shift of each output."""
    if shift is None:
        return op.matmul(rows, doubles(weights))
    return op.gemm(rows, doubles(weights), doubles(shift))


def row_sums(matrix: Var) -> Var:
    """(n, 1): the sum of each row, equal to numpy's to the last bit where there are few columns."""
    count = width(matrix)
    if count >= PAIRWISE:
        return op.reduce_sum(matrix, constant([1], np.int64), keepdims=1)
    return total([picked(matrix, [place]) for place in range(count)])

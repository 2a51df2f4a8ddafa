"""Splits by sets of categories, as columns of zeros and ones in front of the trees.

The operator knows sets of at most 30 whole numbers from 1 on, or long chains of equalities. A table
has a row for each code, and one for all else; a column of it belongs to one set, and is 0 where the
split goes left. So a row looks up one row of the table for each column of categories, and a tree
asks `<= 0.5`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import Var, constant, joined, op
from modelkit.convert.estimators.trees import Tree

HALF = 0.5


class Sets:
    """The sets of codes that splits of one column ask for, each once.

    Args:
        codes: how many codes there are, 0 and up.
    """

    def __init__(self, codes: int) -> None:
        self.codes = codes
        self._found: dict[tuple[bytes, bool], int] = {}

    def number(self, left: Array, *, other_left: bool) -> int:
        """The number of a set: (codes,) whether each goes left, and whether all other values do."""
        key = (np.packbits(left).tobytes(), other_left)
        return self._found.setdefault(key, len(self._found))

    def __len__(self) -> int:
        return len(self._found)

    def table(self) -> Array:
        """(codes + 1, sets), 0 where a code goes left; the last row is for all that is no code."""
        rows = []
        for packed, other_left in self._found:
            left = np.unpackbits(np.frombuffer(packed, np.uint8), count=self.codes).astype(bool)
            rows.append(np.append(left, other_left))
        return 1.0 - np.array(rows, np.float64).T

    def columns(self, codes: Var, dtype: Any) -> Var:
        """(n, sets) for (n, 1) codes of int64, whose last one stands for all that is none."""
        table = self.table()
        return op.reshape(
            op.gather(constant(table, dtype), codes), constant([-1, table.shape[1]], np.int64)
        )


class Beside:
    """Columns side by side, as trees read them: of each feature one of numbers, or those of its sets.

    `home` is the place of each feature that is a number, and `starts` that of the first set of each
    other one.

    Args:
        dtype: that of the rows, float32 or float64.
    """

    def __init__(self, dtype: Any) -> None:
        self.home: dict[int, int] = {}
        self.starts: dict[int, int] = {}
        self._dtype = dtype
        self._parts: list[Var] = []
        self._width = 0

    @property
    def rows(self) -> Var:
        """(n, columns) of all that was added."""
        return joined(self._parts)

    def add_numbers(self, features: Iterable[int], matrix: Var) -> None:
        """Add columns of numbers, one a feature."""
        for feature in features:
            self.home[feature] = self._width
            self._width += 1
        self._parts.append(matrix)

    def add_sets(self, feature: int, sets: Sets, codes: Var) -> None:
        """Add a column for each set of a feature, whose codes are (n, 1)."""
        self.starts[feature] = self._width
        self._width += len(sets)
        self._parts.append(sets.columns(codes, self._dtype))

    def placed(self, tree: Tree) -> Tree:
        """A tree of features over the columns where these are.

        A split by a set of a feature has the column -1 - feature, and the number of the set as its
        threshold.
        """
        by_set = ~tree.leaf & (tree.column < 0)
        by_number = ~tree.leaf & ~by_set
        column = np.zeros(len(tree.column), np.int64)
        column[by_number] = [self.home[feature] for feature in tree.column[by_number].tolist()]
        starts = [self.starts[-1 - asked] for asked in tree.column[by_set].tolist()]
        column[by_set] = np.array(starts, np.int64) + tree.threshold[by_set].astype(np.int64)
        return replace(tree, column=column, threshold=np.where(by_set, HALF, tree.threshold))

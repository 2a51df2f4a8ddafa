"""Splits by sets of categories, as columns of zeros and ones behind the columns of numbers.

The operator knows sets of at most 30 whole numbers from 1 on, or long chains of equalities. A table
has a row for each code that a split lists, one for all other codes, and one for what is not a code;
a column of it belongs to one set, and is 0 where the split goes left. So a row looks up one row of
the table for each column of categories, and a tree asks `<= 0.5`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.tensors import STRING, Columns, Var, constant, op
from modelkit.convert.estimators.trees import Forest

HALF = 0.5


class Sets:
    """The sets of codes that splits ask for, each once for each feature."""

    def __init__(self) -> None:
        self.known: dict[int, dict[Any, int]] = defaultdict(dict)

    def ask(
        self, node: int, column: Array, threshold: Array, codes: Any, *, left: bool, other_left: Any
    ) -> None:
        """Make a node of a forest ask for a set: the sides of its codes and of everything else.

        Its column becomes -1 - feature, and its threshold the number of the set.
        """
        known = self.known[int(column[node])]
        column[node] = -1 - column[node]
        threshold[node] = known.setdefault((tuple(codes), left, bool(other_left)), len(known))

    def table(self, feature: int) -> Array:
        """(codes, sets): of the last two rows, one is for other codes, and one for what is not a code."""
        known = self.known[feature]
        largest = max((code for codes, *_ in known for code in codes), default=-1)
        found = np.zeros((largest + 3, len(known)))
        for (codes, left, other_left), number in known.items():
            found[:, number] = left
            found[list(codes), number] = not left
            found[-1, number] = not other_left
        return found


def read_by(
    forest: Forest,
    sets: Sets,
    columns: Columns,
    numbers: Callable[[Columns], Var],
    codes: Callable[[Columns, int, int], Var],
) -> tuple[Var, Forest, dict[int, int]]:
    """The columns that trees read, a forest over these, and which of them is which feature.

    In the forest that is given a column is a feature. Features have the place of a column of
    numbers, and for -1 - feature the place of their first set.

    Args:
        forest: trees over features.
        sets: those that the forest asks for.
        columns: the features.
        numbers: gives columns of numbers as the trees read them.
        codes: gives the codes, (n, 1) of int64, in the column of a feature: up to the number that
            stands for all codes that no split lists, and one more for what is not a code.
    """
    by_number = ~forest.is_leaf & (forest.column >= 0)
    asked: Sequence[int] = np.unique(forest.column[by_number]).tolist()
    if not sets.known and all(part.dtype != STRING for part in columns.parts):
        asked = range(sum(columns.widths))
    place = {feature: number for number, feature in enumerate(asked)}
    parts = [numbers(columns.take(asked))] if asked else []
    end = len(asked)
    for feature in sorted(sets.known):
        table = sets.table(feature)
        own = codes(columns.take([feature]), feature, len(table) - 2)
        split = op.gather(constant(table, forest.threshold.dtype), own)
        parts.append(split.reshape(-1, table.shape[1]))
        place[-1 - feature] = end
        end += table.shape[1]
    return np.concatenate(parts, axis=1), _over_columns(forest, place), place


def _over_columns(forest: Forest, place: Mapping[int, int]) -> Forest:
    """A forest over the columns where its features, and their sets, are."""
    by_set = forest.column < 0
    first = np.array([place.get(each, 0) for each in forest.column.tolist()])
    number = np.where(by_set, forest.threshold, 0).astype(np.int64)
    threshold = np.where(by_set, HALF, forest.threshold)
    return replace(forest, column=first + number, threshold=threshold)


def codes_of(column: Columns, known: Sequence[Any], other: int) -> Var:
    """The codes of known categories in a column, as `read_by` asks for them."""
    places = np.minimum(np.arange(len(known)), other)
    return looked_up(column.parts[0], known, places, other + 1)

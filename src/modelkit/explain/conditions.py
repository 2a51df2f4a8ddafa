"""The conditions on the way to the leaves of an ensemble, all of them in one set of arrays.

With an object for each condition of each leaf, the garbage collector alone kept other threads
waiting for a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array

# A value is one of the first numbers (None: any number) and none of the second.
AskedSets = tuple[tuple[float, ...] | None, tuple[float, ...]]
ANYTHING: AskedSets = (None, ())


@dataclass(frozen=True)
class Conditions:
    """By number: `low < x <= high` on a column, or a missing x where `missing`.

    `sets` holds what some conditions ask beyond that, by their number.
    """

    column: Array
    low: Array
    high: Array
    missing: Array
    sets: dict[int, AskedSets]

    @staticmethod
    def always(kind: Any) -> Conditions:
        """One condition that always holds, on numbers of the dtype `kind`."""
        low = np.array([-np.inf], kind)
        return Conditions(np.zeros(1, np.intp), low, np.array([np.inf], kind), np.ones(1, bool), {})

    @staticmethod
    def joined(parts: Sequence[Conditions]) -> Conditions:
        """The conditions of several parts, numbered on."""
        sets = {}
        start = 0
        for part in parts:
            for i, asked in part.sets.items():
                sets[start + i] = asked
            start += len(part.column)
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("column", "low", "high", "missing")
        }
        return Conditions(**arrays, sets=sets)

    def met(self, rows: Array) -> Array:
        """Whether each row meets each condition, (n, conditions) of bool.

        The rows must have the dtype of `low`.
        """
        values = rows.take(self.column, axis=1)
        met: Array = values <= self.high
        met &= values > self.low
        if not np.isfinite(rows).all():
            # Minus infinity is above an open bound, though not by "low < x".
            met |= np.isneginf(values) & np.isneginf(self.low)
        for i, asked in self.sets.items():
            met[:, i] &= _in_sets(values[:, i], asked)
        if np.isnan(rows).any():
            met = np.where(np.isnan(values), self.missing, met)
        return met

    def take(self, chosen: Array) -> Conditions:
        """The conditions of the chosen numbers, which are numbered again."""
        numbers = enumerate(chosen.tolist() if self.sets else ())
        sets = {i: self.sets[number] for i, number in numbers if number in self.sets}
        return Conditions(
            self.column[chosen], self.low[chosen], self.high[chosen], self.missing[chosen], sets
        )

    def both(self, other: Conditions) -> Conditions:
        """For each number, the condition that holds where both conditions do.

        The columns are the columns of `other`.
        """
        sets = {
            i: _both_sets(self.sets.get(i, ANYTHING), other.sets.get(i, ANYTHING))
            for i in self.sets.keys() | other.sets.keys()
        }
        low = np.maximum(self.low, other.low)
        high = np.minimum(self.high, other.high)
        return Conditions(other.column, low, high, self.missing & other.missing, sets)

    def first_equal(self) -> Array:
        """For each condition, the number of the first that asks for the same."""
        fields = (self._numbered_sets(), self.missing, self.high, self.low, self.column)
        order = np.lexsort(fields)
        new = np.zeros(len(order), bool)
        new[:1] = True
        for field in fields:
            ordered = field[order]
            new[1:] |= ordered[1:] != ordered[:-1]
        starts = np.where(new, np.arange(len(order)), 0)
        first = np.empty(len(order), np.intp)
        first[order] = order[np.maximum.accumulate(starts)]
        return first

    def _numbered_sets(self) -> Array:
        """A number for what each condition asks of sets; equal numbers ask for the same."""
        seen: dict[AskedSets, int] = {}
        found = np.zeros(len(self.column), np.intp)
        for i, asked in self.sets.items():
            found[i] = seen.setdefault(asked, len(seen) + 1)
        return found


def _in_sets(values: Array, asked: AskedSets) -> Array:
    """Whether each value (n,) is what is asked of sets."""
    among, apart = asked
    found = ~np.isin(values, apart)
    if among is not None:
        found &= np.isin(values, among)
    return found


def _both_sets(one: AskedSets, other: AskedSets) -> AskedSets:
    one_among, one_apart = one
    other_among, other_apart = other
    apart = tuple(sorted({*one_apart, *other_apart}))
    if one_among is None:
        return other_among, apart
    if other_among is None:
        return one_among, apart
    return tuple(sorted({*one_among} & {*other_among})), apart

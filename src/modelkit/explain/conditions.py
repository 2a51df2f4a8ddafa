"""The conditions on the way to the leaves of an ensemble, all of them in one set of arrays.

With an object for each condition of each leaf, the garbage collector alone kept other threads
waiting for a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.cast import Array

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
        high = np.array([np.inf], kind)
        return Conditions(
            np.zeros(1, np.intp),
            low,
            high,
            np.ones(1, bool),
            {},
        )

    @staticmethod
    def joined(parts: Sequence[Conditions]) -> Conditions:
        """The conditions of several parts, numbered on."""
        sets = {}
        start = 0
        for part in parts:
            for i, asked in part.sets.items():
                sets[start + i] = asked
            start += len(part.column)
        return Conditions(
            np.concatenate([part.column for part in parts]),
            np.concatenate([part.low for part in parts]),
            np.concatenate([part.high for part in parts]),
            np.concatenate([part.missing for part in parts]),
            sets,
        )

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
        for i, (among, apart) in self.sets.items():
            if among is not None:
                met[:, i] &= np.isin(values[:, i], among)
            met[:, i] &= ~np.isin(values[:, i], apart)
        if np.isnan(rows).any():
            met = np.where(np.isnan(values), self.missing, met)
        return met

    def take(self, chosen: Array) -> Conditions:
        """The conditions of the chosen numbers, which are numbered anew."""
        sets = {}
        if self.sets:
            for i, number in enumerate(chosen.tolist()):
                if number in self.sets:
                    sets[i] = self.sets[number]
        return Conditions(
            self.column[chosen], self.low[chosen], self.high[chosen], self.missing[chosen], sets
        )

    def both(self, other: Conditions) -> Conditions:
        """For each number, the condition that holds where those of both do.

        The columns are those of `other`.
        """
        sets = {}
        for i in self.sets.keys() | other.sets.keys():
            sets[i] = _both_sets(self.sets.get(i, ANYTHING), other.sets.get(i, ANYTHING))
        low = np.maximum(self.low, other.low)
        high = np.minimum(self.high, other.high)
        return Conditions(
            other.column,
            low,
            high,
            self.missing & other.missing,
            sets,
        )

    def first_equal(self) -> Array:
        """For each condition, the number of the first that asks for the same."""
        fields = (self._numbered_sets(), self.missing, self.high, self.low, self.column)
        order = np.lexsort(fields)
        new = np.ones(len(order), bool)
        new[1:] = np.logical_or.reduce([field[order[1:]] != field[order[:-1]] for field in fields])
        first = np.empty(len(order), np.intp)
        first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
        return first

    def _numbered_sets(self) -> Array:
        """A number for what each condition asks of sets; equal numbers ask for the same."""
        seen: dict[AskedSets, int] = {}
        found = np.zeros(len(self.column), np.intp)
        for i, asked in self.sets.items():
            found[i] = seen.setdefault(asked, len(seen) + 1)
        return found


def _both_sets(one: AskedSets, other: AskedSets) -> AskedSets:
    among = one[0] if other[0] is None else other[0]
    if one[0] is not None and other[0] is not None:
        among = tuple(sorted(set(one[0]) & set(other[0])))
    return among, tuple(sorted({*one[1], *other[1]}))

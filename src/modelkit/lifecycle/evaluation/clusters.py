"""Rows that belong together, of which a test takes each cluster as one observation; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.intervals import Measured
from modelkit.lifecycle.evaluation.sums import Undefined

# As many of one size as clusters have to count as: where none is much larger, and else.
LEAST_ALIKE = 5
LEAST_UNEQUAL = 10
MUCH_LARGER = 2  # times the mean size


@final
@dataclass(frozen=True, eq=False)
class Clusters:
    """Which rows belong together.

    Attributes:
        codes: the number of the cluster of each row, (n,), from 0 on.
        sizes: of each cluster, (G,): its rows, or where rows are ranked its queries.
    """

    codes: Array
    sizes: Array

    @property
    def alike(self) -> float:
        """How many clusters of one size these are, (sum n)^2 / sum n^2 (Kish 1965).

        Where a few clusters have most of the rows, it is about the number of these.
        """
        return alike_of(self.sizes)

    def sums(self, influence: Array) -> Array:
        """What `moved` gives, as sums (G,) whose `standard_error` is `error`; of one cluster its own sum."""
        units = np.count_nonzero(self.sizes)
        if units < 2:
            return np.bincount(self.codes, influence)
        found: Array = self.moved(influence) * ((units - 1) / units)
        return found

    @property
    def least(self) -> int:
        """How many of one size they have to count as, so that a t test keeps its level.

        Where three of a hundred clusters have 60 % of the rows, they count as 8, and 8 % of equal
        candidates would be better at 5 %.
        """
        there = self.sizes[self.sizes > 0]
        unequal = there.max() > MUCH_LARGER * there.mean()
        return LEAST_UNEQUAL if unequal else LEAST_ALIKE

    def error(self, influence: Array) -> float | None:
        """The standard error of a figure from the influence of its rows, (n,).

        It is that of the jackknife by clusters; with clusters of one size it is
        `intervals.standard_error`. None for fewer than two, and where the influence of a row is not
        known.
        """
        moved = self.moved(influence)
        if len(moved) < 2 or not np.isfinite(moved).all():
            return None
        return sqrt((len(moved) - 1) / len(moved) * float(moved @ moved))

    def moved(self, influence: Array) -> Array:
        """By how much each cluster moves a figure, (G,), from the influence of its rows, (n,).

        It is the sum of the influences in the cluster, over the share of the rows that are left
        without it, since a large cluster draws the figure towards itself.
        """
        there = self.sizes > 0
        sums = np.bincount(self.codes, influence, len(self.sizes))[there]
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Array = sums / (1 - self.sizes[there] / self.sizes.sum())
        return found


def alike_of(sizes: Array) -> float:
    """How many clusters of one size clusters of these sizes (G,) are; 0 where all are empty."""
    squares = float(sizes @ sizes)
    return float(sizes.sum()) ** 2 / squares if squares else 0.0


def rests_on(part: Measured, answered: Answered, *kinds: Array) -> Measured:
    """A figure that rests on rows of each of some kinds, 0 or 1 (n,), such as those of a class.

    Where a few clusters have most rows of a kind, it rests on few clusters, however many there are.
    """
    codes = answered.clusters
    if codes is None:
        return part
    alike = [alike_of(np.bincount(codes, kind)) for kind in kinds]
    return replace(part, units=min(part.units, *alike))


def refuse_few(units: float, clusters: Clusters | None) -> None:
    """Raise Undefined where a figure rests on too few clusters to tell anything; see `rests_on`."""
    if clusters is not None and units < clusters.least:
        raise Undefined(
            f"most of the rows that it rests on, such as those of a class, are in few clusters, which "
            f"count as {units:.1f} of one size: it takes {clusters.least}"
        )


def any_clusters(answered: Answered) -> Clusters | None:
    """The clusters of rows that were answered, however few; None where each row is one observation."""
    codes = answered.clusters
    if codes is None:
        return None
    counted = codes
    if answered.queries is not None:
        counted = codes[np.unique(answered.queries, return_index=True)[1]]
    sizes = np.bincount(counted, minlength=int(codes.max()) + 1).astype(np.float64)
    return Clusters(codes, sizes)


def clusters_of(answered: Answered) -> Clusters | None:
    """The same; raises Undefined where they are too few to tell anything."""
    found = any_clusters(answered)
    if found is not None and found.alike < found.least:
        raise Undefined(
            f"{np.count_nonzero(found.sizes):,} clusters, which count as {found.alike:.1f} of one size, "
            f"are too few to tell: it takes {found.least}"
        )
    return found

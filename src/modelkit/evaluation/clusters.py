"""Rows that belong together, of which a test takes each cluster as one observation; pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import final

import numpy as np

from modelkit.cast import Array
from modelkit.evaluation.answered import Answered
from modelkit.evaluation.sums import Undefined

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
        return float(self.sizes.sum()) ** 2 / float(self.sizes @ self.sizes)

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

        It is that of the jackknife by clusters: the sum of the influences in a cluster, over the
        share of the rows that are left without it, since a large cluster draws the figure towards
        itself. With clusters of one size it is `intervals.standard_error`. None for fewer than two,
        and where the influence of a row is not known.
        """
        there = self.sizes > 0
        count = int(np.count_nonzero(there))
        if count < 2:
            return None
        sums = np.bincount(self.codes, influence, len(self.sizes))[there]
        moved = sums / (1 - self.sizes[there] / self.sizes.sum())
        if not np.isfinite(moved).all():
            return None
        return sqrt((count - 1) / count * float(moved @ moved))


def clusters_of(answered: Answered) -> Clusters | None:
    """The clusters of rows that were answered; None where each row is one observation.

    Raises Undefined where they are too few to tell anything.
    """
    codes = answered.clusters
    if codes is None:
        return None
    counted = codes
    if answered.queries is not None:
        counted = codes[np.unique(answered.queries, return_index=True)[1]]
    sizes = np.bincount(counted, minlength=int(codes.max()) + 1).astype(np.float64)
    found = Clusters(codes, sizes)
    if found.alike < found.least:
        raise Undefined(
            f"{np.count_nonzero(sizes):,} clusters, which count as {found.alike:.1f} of one size, "
            f"are too few to tell: it takes {found.least}"
        )
    return found

"""The clusters of rows that were answered; pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.stats.influence import Clusters, Measured, Undefined, alike_of


def rests_on(part: Measured, answered: Answered, *kinds: Array) -> Measured:
    """A figure that rests on rows of each of some kinds, 0 or 1 (n,), such as those of a class.

    Where a few clusters have most rows of a kind, it rests on few clusters, however many there are.
    """
    codes = answered.clusters
    if codes is None:
        return part
    alike = [alike_of(np.bincount(codes, kind)) for kind in kinds]
    return replace(part, units=min(part.units, *alike))


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

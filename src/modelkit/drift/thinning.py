"""Which values a stride keeps: those that are far enough apart to pass as independent."""

from __future__ import annotations

from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.dependence import leave_out


@final
class Thinning:
    """The strides of the features of one stratum: every stride-th value is kept, from a random one on.

    Args:
        features: the d features.
        seed: of the first rows that are kept.
    """

    changing = ("_phases", "_came")

    def __init__(self, features: tuple[Feature, ...], seed: np.random.SeedSequence) -> None:
        strides = [feature.stride for feature in features]
        self._strides = [(j, stride) for j, stride in enumerate(strides) if stride > 1]
        rng = np.random.default_rng(seed.spawn(1)[0])
        self._phases = rng.integers(0, strides)  # the numbers of the first rows that are kept, (d,)
        self._came = 0

    def leave_out(self, cells: Array, rows: Array) -> None:
        """Mark values as absent, in place, that are closer than their feature's stride.

        `rows` are the numbers of the rows of this stratum, in their order of arrival, among
        `cells`, uint8 (n, d).
        """
        for j, stride in self._strides:
            first = int(self._phases[j] - self._came) % stride
            leave_out(cells, rows, j, slice(first, None, stride))
        self._came += len(rows)

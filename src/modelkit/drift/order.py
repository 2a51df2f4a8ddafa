"""The order of rows within a call: none, unless the caller says that it is that of time.

Tables come sorted by a key, an hour or a customer. Rows that are exchangeable are so in any order
that does not depend on their values, so those of one call are put into a random one. And of values
that are dependent over time, those are kept that are far enough apart to pass as independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Literal, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.dependence import leave_out
from modelkit.errors import UsageError

Order = Literal["any", "time"]


def check_order(order: str) -> None:
    """Raise UsageError for an order that is not known."""
    if order not in ("any", "time"):
        raise UsageError(
            'order is "any" (rows of one call have none) or "time" (they are in the order in which '
            f"they came), got {order!r}"
        )


@final
class Shuffle:
    """Random orders of the rows within calls, from a seed.

    A call of one row draws nothing, and several calls draw together what they draw one by one.
    """

    changing = ("_rng",)

    def __init__(self, seed: np.random.SeedSequence) -> None:
        self._rng = np.random.default_rng(seed)

    def within(self, sizes: Sequence[int]) -> Array | None:
        """The numbers of the rows of calls of these sizes, shuffled in each call, int64 (n,).

        None where no call has more than one row, and the order stays.
        """
        if max(sizes, default=0) < 2:
            return None
        call = np.repeat(np.arange(len(sizes), dtype=np.float64), sizes)
        several = np.repeat(np.array(sizes) > 1, sizes)
        call[several] += self._rng.random(int(several.sum()))
        return np.argsort(call, kind="stable")


def check_seed(seed: int) -> int:
    """A seed as it is. Raises UsageError for what is none."""
    if not isinstance(seed, Integral) or seed < 0:
        raise UsageError(f"seed is a whole number, 0 or more; got {seed!r}")
    return int(seed)


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

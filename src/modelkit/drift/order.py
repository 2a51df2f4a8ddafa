"""The order of rows within a call: random, unless the caller says that it is the order of time.

Tables come sorted by a key, an hour or a customer. Rows that are exchangeable are so in any order
that does not depend on their values, so the rows of one call are put into a random one. And of
values that are dependent over time, the ones are kept that are far enough apart to pass as
independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from typing import Literal, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.fields import check_integer
from modelkit.drift.cells import ABSENT, Feature
from modelkit.errors import UsageError
from modelkit.stats.ranks import midranks

Order = Literal["any", "time"]
MOST_APART = 200
FAINT = 0.05  # an autocorrelation below this passes for none
ENOUGH_ROWS = 5000  # of a reference, to notice small changes
FEWEST_LEFT = 1000  # rows of a reference that strides may leave without a word
FEATURES_NAMED = 3  # in a line
FEWEST_SCORES = 8  # from which an autocorrelation is estimated


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

    def within(self, sizes: Sequence[int] | Array) -> Array | None:
        """The numbers of the rows of calls of these sizes, shuffled in each call, int64 (n,).

        None where no call has more than one row, and the order stays.
        """
        if np.max(sizes, initial=0) < 2:
            return None
        call = np.repeat(np.arange(len(sizes), dtype=np.float64), sizes)
        several = np.repeat(np.array(sizes) > 1, sizes)
        call[several] += self._rng.random(several.sum())
        return np.argsort(call, kind="stable")


def check_seed(seed: int) -> int:
    """A seed as it is. Raises UsageError for anything else."""
    check_integer("seed", seed, 0)
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


# The distance at which rows in the order of time may pass as independent.


def rows_apart(cells: Array) -> int:
    """The stride that the cells of a reference in order of time, ints (n,), call for: 1 to 200.

    The first lag at which the autocorrelations of location and scale (the first two Legendre
    polynomials of the mid-ranks of the cells) are both below 0.05; or, where that is more, the lag
    at which they would be if they fell from one row to the next as they do at lag one, for the
    first lag below is found too soon in a short reference.
    """
    n = len(cells)
    ranks = midranks(np.bincount(cells))[cells] / max(n, 1)
    location = 2 * ranks - 1
    scale = 1.5 * location**2 - 0.5
    return max(_stride(location), _stride(scale))


def _stride(score: Array) -> int:
    n = len(score)
    centred = score - score.sum() / max(n, 1)
    power = float(centred @ centred)
    if n < FEWEST_SCORES or power < 1e-9:
        return 1
    noise = 2 / n**0.5  # of an autocorrelation that is 0
    first = float(centred[1:] @ centred[:-1]) / power
    if abs(first) <= max(FAINT, noise):
        return 1
    lag = _first_faint(centred, power)
    implied = ceil(log(FAINT) / log(min(abs(first), 0.999)))
    return min(max(lag, implied), MOST_APART)


def _first_faint(centred: Array, power: float) -> int:
    """The first lag from 2 at which the autocorrelation is faint, or the largest one looked at."""
    most = min(MOST_APART, len(centred) // 4)
    for lag in range(2, most):
        correlation = float(centred[lag:] @ centred[:-lag] / power)
        if abs(correlation) < FAINT:
            return lag
    return most


def every(stride: int, n: int, rng: np.random.Generator) -> slice:
    """Which of n rows are that far apart, from a random one on; at least one where there is any."""
    first = int(rng.integers(0, max(min(stride, n), 1)))
    return slice(first, None, stride)


def thinned(
    cells: Array, strata: Array | None, features: Sequence[Feature], rng: np.random.Generator
) -> Array:
    """Cells (n, d) with the values of each stratum that are as far apart as their feature's stride.

    They are taken from a random one on, and the others are 255. `strata` are the numbers of the
    rows' strata, (n,), -1 for one that is not thinned; None for one stratum.
    """
    left = cells.copy()
    for j, feature in enumerate(features):
        if feature.stride > 1:
            for rows in rows_with_values(cells[:, j], strata):
                leave_out(left, rows, j, every(feature.stride, len(rows), rng))
    return left


def rows_with_values(cells: Array, strata: Array | None) -> list[Array]:
    """For each stratum, the numbers of its rows that have a value of a feature, by its cells (n,)."""
    having = cells != ABSENT
    if strata is None:
        return [np.flatnonzero(having)]
    return [np.flatnonzero(having & (strata == s)) for s in range(int(strata.max(initial=-1)) + 1)]


def leave_out(cells: Array, rows: Array, j: int, kept: slice) -> None:
    """Mark values of feature number `j` as absent, in place: of some `rows`, all but those kept."""
    left = rows[kept]
    values = cells[left, j]
    cells[rows, j] = ABSENT
    cells[left, j] = values


def smallest_text(features: Sequence[Feature], counts: Array) -> str | None:
    """The smallest reference among counts (strata, d, 67), in words; None if all have 5,000 rows."""
    rows = counts.sum(axis=2)
    fewest = int(rows.min())
    if fewest >= ENOUGH_ROWS:
        return None
    feature = features[int(rows.min(axis=0).argmin())]
    of = ""
    if feature.stride > 1:
        of = f" ({feature.name!r} uses one row in {feature.stride})"
    return f"the smallest reference has {fewest:,} rows{of}: noticing small changes takes 5,000"


def sparse_text(features: Sequence[Feature], counts: Array) -> str | None:
    """The features with fewer than 1,000 rows left by their strides, in words; None without any."""
    rows = counts.sum(axis=2).min(axis=0).tolist()
    found = []
    for feature, left in zip(features, rows, strict=True):
        if feature.stride > 1 and left < FEWEST_LEFT:
            found.append(f"{feature.name!r} {left:,} (one in {feature.stride})")
    if not found:
        return None
    named = ", ".join(found[:FEATURES_NAMED])
    more = len(found) - FEATURES_NAMED
    rest = f" and {more} more features" if more > 0 else ""
    return (
        f"ordered=True leaves few rows of the reference: {named}{rest}; below 1,000 only large "
        "changes are noticed: pass a longer reference, or unit= where days or tables differ"
    )


def dependence_text(apart: int, *, ordered: bool) -> str:
    """The finding about the dependence between rows, in words."""
    if apart > 1:
        return (
            f"reference in the order of time: values up to {apart} rows apart are dependent, and "
            "only those further apart are used"
        )
    if ordered:
        return "reference in the order of time: no dependence between neighbouring rows was found"
    return (
        "reference in no known order: dependence between rows was not looked for (ordered=True "
        "looks for it)"
    )

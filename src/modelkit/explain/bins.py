"""The bins of a column, from which LIME draws: one for each value, or one between two quartiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import importing

SMALLEST_SPREAD = 1e-11  # what the library adds to each standard deviation


@dataclass(frozen=True)
class ValueBins:
    """A column of strings, booleans or codes: each value is a bin. `share` (bins,) adds up to 1."""

    kinds: Array
    share: Array

    @staticmethod
    def of(values: Array) -> ValueBins:
        """The bins of a background column."""
        kinds, counts = np.unique(values, return_counts=True)
        return ValueBins(kinds, counts / len(values))

    def find(self, values: Array) -> Array:
        """The bin of each value, (n,); -1 for one that the background lacks."""
        at = {kind: number for number, kind in enumerate(self.kinds.tolist())}
        return np.array([at.get(value, -1) for value in values.tolist()], np.int32)

    def fill(self, bins: Array, rng: np.random.Generator) -> Array:
        """A value in each bin."""
        return self.kinds[bins]


@dataclass(frozen=True)
class QuartileBins:
    """A column of numbers: bins between quartiles of the background, and one for missing values.

    Bins are closed above. Each has its bounds, mean and standard deviation. A bin without finite
    values never uses them, except a bin of infinities alone, which is drawn as its bound. `whole`
    says whether the column holds integers.
    """

    cuts: Array
    low: Array
    high: Array
    mean: Array
    spread: Array
    share: Array
    whole: bool

    @staticmethod
    def of(values: Array) -> QuartileBins:
        """The bins of a background column."""
        whole = values.dtype.kind != "f"
        values = values.astype(np.float64)
        known = values[np.isfinite(values)]
        cuts, least, most = _quartiles(known)
        low = np.array([least, *cuts])
        high = np.array([*cuts, most])
        mean = low.copy()
        spread = np.full(len(low), SMALLEST_SPREAD)
        at = _quartile(cuts, known)
        for i in np.unique(at):
            inside = known[at == i]
            mean[i] = np.mean(inside)
            spread[i] += np.std(inside)
        counts = np.bincount(_quartile(cuts, values), minlength=len(low) + 1)
        return QuartileBins(cuts, low, high, mean, spread, counts / len(values), whole)

    def find(self, values: Array) -> Array:
        """The bin of each value, (n,)."""
        return _quartile(self.cuts, values.astype(np.float64))

    def fill(self, bins: Array, rng: np.random.Generator) -> Array:
        """A value in each bin, from a normal distribution with its mean and spread, within bounds.

        By inversion: with Phi the normal distribution, a and b the standardised bounds and u
        uniform, Phi^-1(Phi(a) + u (Phi(b) - Phi(a))). A mean lies within its bounds, so the tails
        do not matter. Where a bin is one value, the library draws 0 in its place (it forgets to
        scale back); here it is that value.
        """
        with importing("scipy", "method='lime'", "explain"):
            from scipy.special import ndtr, ndtri

        gone = bins == len(self.low)
        at = np.where(gone, 0, bins)
        low = self.low[at]
        high = self.high[at]
        mean = self.mean[at]
        spread = self.spread[at]
        below = ndtr((low - mean) / spread)
        above = ndtr((high - mean) / spread)
        drawn = below + rng.random(len(bins)) * (above - below)
        found: Array = mean + spread * ndtri(drawn)
        if self.whole:
            above_low = np.floor(low) + 1
            low = np.where(at > 0, above_low, low)  # only the first bin is closed below
            high = np.floor(high)
            found = np.rint(found)
        found = np.clip(found, low, high)
        if gone.any():
            found[gone] = np.nan
        return found


def _quartiles(known: Array) -> tuple[Array, float, float]:
    """The different quartiles of finite values, the least and the largest; 0 if there is none."""
    if not len(known):
        return np.empty(0), 0.0, 0.0
    return np.unique(np.percentile(known, (25, 50, 75))), known.min(), known.max()


def _quartile(cuts: Array, values: Array) -> Array:
    """The bin (n,) of each value; the last one is for missing values."""
    missing = len(cuts) + 1
    found: Array = np.searchsorted(cuts, values).astype(np.int32)
    found[np.isnan(values)] = missing
    return found

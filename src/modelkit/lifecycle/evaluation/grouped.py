"""How far a clustering agrees with true groups, with what each row adds; pure.

The figures are those of scikit-learn's functions of these names. A row's influence is by the
jackknife: what the figure would lose without the row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.influence import Measured, Undefined, ratio

GROUPINGS = ("adjusted_rand", "v_measure", "homogeneity", "completeness")
OfSizes = Callable[[Array], Array]


class _Sums(NamedTuple):
    """Sums of one function of sizes: those of the cells, of the true groups and of the clusters.

    A cell is the rows of one group in one cluster. Each sum is a number, or has one for each row
    that is left out, (n,).
    """

    cells: Array
    groups: Array
    found: Array


def grouping_of(name: str, truth: Array, predicted: Array) -> Measured:
    """One of GROUPINGS, of true groups and clusters, (n,) each. Raises Undefined."""
    n = len(truth)
    if n < 2:
        raise Undefined("there are not two rows, which could be together or apart")
    of_sizes = _pairs if name == "adjusted_rand" else _times_log
    whole, without = _sums(truth, predicted, of_sizes)
    value = float(_figure(name, whole, n))
    left_out = _figure(name, without, n - 1)
    return Measured(value, (n - 1) / n * (left_out.mean() - left_out))


def _sums(truth: Array, predicted: Array, of_sizes: OfSizes) -> tuple[_Sums, _Sums]:
    """The sums over all rows, and those without each row."""
    groups = np.unique(truth, return_inverse=True)[1]
    found = np.unique(predicted, return_inverse=True)[1]
    cells = groups * (int(found.max()) + 1) + found
    totals = []
    less = []
    for codes in (cells, groups, found):
        sizes = np.bincount(codes).astype(np.float64)
        own = sizes[codes]
        total = of_sizes(sizes).sum()
        totals.append(total)
        less.append(total - of_sizes(own) + of_sizes(own - 1))
    return _Sums(*totals), _Sums(*less)


def _pairs(sizes: Array) -> Array:
    found: Array = sizes * (sizes - 1) / 2
    return found


def _times_log(sizes: Array) -> Array:
    found: Array = sizes * np.log(np.maximum(sizes, 1))
    return found


def _figure(name: str, sums: _Sums, n: int) -> Array:
    if name == "adjusted_rand":
        return _adjusted_rand(sums, n)
    homogeneity = _explained(sums.groups, sums.found, sums.cells, n)
    if name == "homogeneity":
        return homogeneity
    completeness = _explained(sums.found, sums.groups, sums.cells, n)
    if name == "completeness":
        return completeness
    both = homogeneity + completeness
    return ratio(2 * homogeneity * completeness, both)


def _adjusted_rand(sums: _Sums, n: int) -> Array:
    """Hubert and Arabie 1985; 1 where both put all rows together, or all apart."""
    expected = sums.groups * sums.found / max(n * (n - 1) / 2, 1)
    most = (sums.groups + sums.found) / 2
    return ratio(sums.cells - expected, most - expected, 1.0)


def _explained(own: Array, other: Array, cells: Array, n: int) -> Array:
    """The share of one partition's entropy that the other explains; 1 where there is none.

    With sums of s log s, the entropy is log n - own / n, and what is left of it, given the other,
    (other - cells) / n (Rosenberg and Hirschberg 2007).
    """
    entropy = np.asarray(np.log(n) - own / n)
    left = (other - cells) / n
    return 1 - ratio(left, np.where(entropy > 1e-12, entropy, 0))

"""How far a partition of rows agrees with true groups, with what each row adds; pure.

The figures equal what scikit-learn's functions of these names give. A row's influence is by the
jackknife: what the figure would lose without the row.
"""

from __future__ import annotations

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.influence import Measured, Undefined, ratio
from modelkit.stats.intervals import Domain

AGREEMENTS: dict[str, Domain] = {
    "adjusted_rand": "correlation",
    "v_measure": "share",
    "homogeneity": "share",
    "completeness": "share",
}
LEAST_ENTROPY = 1e-12  # less is none


def agreement_of(name: str, truth: Array, predicted: Array) -> Measured:
    """One of AGREEMENTS, of the true group and the predicted one of each row, (n,). Raises Undefined."""
    n = len(truth)
    if n < 2:
        raise Undefined("there are not two rows, which could be together or apart")
    groups = np.unique(truth, return_inverse=True)[1]
    parts = np.unique(predicted, return_inverse=True)[1]
    cells = groups * (int(parts.max()) + 1) + parts  # the rows of one group in one part
    sizes_of = _pairs if name == "adjusted_rand" else _sizes_times_log
    whole: list[Array] = []
    without: list[Array] = []
    for codes in (cells, groups, parts):
        sizes = np.bincount(codes).astype(np.float64)
        own = sizes[codes]
        total = sizes_of(sizes).sum()
        whole.append(total)
        without.append(total - sizes_of(own) + sizes_of(own - 1))
    left_out = _figure(name, n - 1, *without)
    influence = (n - 1) / n * (left_out.mean() - left_out)
    return Measured(float(_figure(name, n, *whole)), influence)


def _pairs(sizes: Array) -> Array:
    return np.asarray(sizes * (sizes - 1) / 2)


def _sizes_times_log(sizes: Array) -> Array:
    return sizes * np.log(np.maximum(sizes, 1))


def _figure(name: str, n: int, cells: Array, groups: Array, parts: Array) -> Array:
    """An agreement by sums over cells, groups and parts: numbers, or one for each row left out, (n,)."""
    if (
        name == "adjusted_rand"
    ):  # Hubert and Arabie 1985; 1 where both put all rows together, or apart
        expected = groups * parts / max(n * (n - 1) / 2, 1)
        most = (groups + parts) / 2
        return ratio(cells - expected, most - expected, 1.0)
    homogeneity = _explained(groups, parts, cells, n)
    completeness = _explained(parts, groups, cells, n)
    both = ratio(2 * homogeneity * completeness, homogeneity + completeness)
    return {"homogeneity": homogeneity, "completeness": completeness, "v_measure": both}[name]


def _explained(own: Array, other: Array, cells: Array, n: int) -> Array:
    """The share of one partition's entropy that the other explains; 1 where there is none.

    With sums of s log s, the entropy is log n - own / n, and what is left of it, given the other,
    (other - cells) / n (Rosenberg and Hirschberg 2007).
    """
    entropy = np.asarray(np.log(n) - own / n)
    left = (other - cells) / n
    return 1 - ratio(left, np.where(entropy > LEAST_ENTROPY, entropy, 0))

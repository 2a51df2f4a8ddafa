"""Decide which texts are run together, from their numbers of tokens.

No clock, no thread, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class RunCosts(NamedTuple):
    """The cost of a run, where one token, padding included, costs 1.

    `start` is what a run costs whatever it holds. `budget` is the most tokens, padding included,
    that a run of more than one text has. The defaults suit a CPU: beyond this budget the tensors
    between the layers leave the second-level cache, and larger runs are not faster.
    """

    start: float = 8
    budget: int = 256


ALONE = RunCosts(budget=1)  # every text is a run of its own
ON_DEVICE = RunCosts(1024, 16384)  # such as a GPU, which a few hundred tokens leave idle


def choose_runs(lengths: Sequence[int], costs: RunCosts, shares: int = 1) -> list[list[int]]:
    """The texts of each run, as places in `lengths`, so all runs together cost the least.

    A text of length 0 is in no run. The longest texts come first. A run is as wide as its longest
    text. With `shares`, no run is larger than that part of all tokens, so that as many threads have
    work. Texts are sorted by length; what is best then is known for the first texts, and so for one
    more.
    """
    order = sorted((at for at, size in enumerate(lengths) if size), key=lengths.__getitem__)
    cuts = _best_cuts([lengths[at] for at in order], costs, shares)
    runs = []
    stop = len(order)
    while stop:
        runs.append(order[cuts[stop] : stop])
        stop = cuts[stop]
    return runs


def _best_cuts(ascending: Sequence[int], costs: RunCosts, shares: int) -> list[int]:
    """For each number of texts, where the last run begins if these are run at the least cost."""
    budget = min(costs.budget, -(-sum(ascending) // shares))
    best = [0.0]
    cuts = [0]
    for stop, length in enumerate(ascending, 1):
        first = max(0, stop - max(1, budget // length))
        starts = range(first, stop)
        cost, cut = min((best[start] + length * (stop - start), start) for start in starts)
        best.append(cost + costs.start)
        cuts.append(cut)
    return cuts

"""Decide which texts are run together, from their numbers of tokens.

No clock, no thread, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_GAIN = 0.97  # of the best speed: runs differ by as much, so it counts as equally good
MOST_START = 16  # a run has at least this many times the tokens that its start costs


@dataclass(frozen=True)
class RunCosts:
    """The cost of a run, where one token, padding included, costs 1.

    `start` is what a run costs whatever it holds. `budget` is the most tokens, padding included,
    that a run of more than one text has: beyond that the tensors between the layers leave the
    second-level cache, and larger runs are no faster.
    """

    start: float = 8
    budget: int = 256


def choose_runs(lengths: Sequence[int], costs: RunCosts, shares: int = 1) -> list[list[int]]:
    """The texts of each run, as places in `lengths`, so that all runs together cost the least.

    The longest texts come first. A run is as wide as its longest text. With `shares`, no run is
    larger than that part of all tokens, so that as many threads have work. Texts are sorted by
    length; what is best then is known for the first texts, and so for one more.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
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
        width = max(length, 1)
        first = max(0, stop - max(1, budget // width))
        starts = range(first, stop)
        cost, cut = min((best[start] + width * (stop - start), start) for start in starts)
        best.append(cost + costs.start)
        cuts.append(cut)
    return cuts


def fit_costs(points: Sequence[tuple[int, float]]) -> RunCosts:
    """Estimate RunCosts from timed runs, given as (tokens, seconds) in ascending order."""
    fastest = max(tokens / seconds for tokens, seconds in points)
    good = [tokens for tokens, seconds in points if tokens / seconds >= LEAST_GAIN * fastest]
    # Small runs leave more padding.
    enough = (tokens for tokens in good if tokens >= RunCosts.budget)
    budget = next(enough, good[-1])
    few, soonest = points[0]
    many, latest = points[-1]
    token = max(latest - soonest, 1e-9) / (many - few)
    start = min(max(soonest / token - few, 0.0), few)
    return RunCosts(start, max(budget, int(MOST_START * start)))

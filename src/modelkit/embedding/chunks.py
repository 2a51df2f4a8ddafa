"""Which texts are run together, decided from how many tokens they have.

No clock, no thread, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_GAIN = 0.97  # of the best speed, which is as good: runs differ by so much
MOST_START = 16  # a run has at least so many times the tokens that its start costs


@dataclass(frozen=True)
class RunCosts:
    """What a run costs: one for each token, padding included, and `start` whatever it holds, in the same unit.

    `budget` is how many tokens, padding included, a run of more than one text has at most: beyond
    that the tensors between the layers leave the second-level cache, and larger runs are no faster.
    """

    start: float = 8
    budget: int = 256


def choose_runs(lengths: Sequence[int], costs: RunCosts, shares: int = 1) -> list[list[int]]:
    """The texts of each run, as places in `lengths`, so that all runs together cost the least; the longest first.

    A run is as wide as its longest text. With `shares`, no run is larger than that part of all
    tokens, so that as many threads have work. Texts are sorted by length; what is best then is
    known for the first texts, and so for one more.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    budget = min(costs.budget, -(-sum(lengths) // shares))
    best, cuts = [0.0], [0]
    for stop in range(1, len(order) + 1):
        width = max(lengths[order[stop - 1]], 1)
        first = max(0, stop - max(1, budget // width))
        cost, cut = min(
            (best[start] + width * (stop - start), start) for start in range(first, stop)
        )
        best.append(cost + costs.start)
        cuts.append(cut)
    runs, stop = [], len(order)
    while stop:
        runs.append(order[cuts[stop] : stop])
        stop = cuts[stop]
    return runs


def fit_costs(points: Sequence[tuple[int, float]]) -> RunCosts:
    """The costs here, from runs of so many tokens, ascending, that took so many seconds each."""
    fastest = max(tokens / seconds for tokens, seconds in points)
    good = [tokens for tokens, seconds in points if tokens / seconds >= LEAST_GAIN * fastest]
    budget = next(
        (tokens for tokens in good if tokens >= RunCosts.budget), good[-1]
    )  # small ones leave more padding
    (few, soonest), (many, latest) = points[0], points[-1]
    token = max(latest - soonest, 1e-9) / (many - few)
    start = min(max(soonest / token - few, 0.0), few)
    return RunCosts(start, max(budget, int(MOST_START * start)))

"""The evidence of modelkit.lifecycle.rollout over many runs at once: its bets, its recursion and its differences."""

from __future__ import annotations

import numpy as np
from benchmarks.rollout.traffic import MINUTES, Array

from modelkit.lifecycle.rollout.arms import Events, log_gains
from modelkit.stats.betting import ABOVE, BELOW, MarginEvidence
from modelkit.stats.evidence import MOST_LOG_GAIN, Evidence

EVENLY = np.full(len(ABOVE), 1 / len(ABOVE))  # the weights of the bets
ALPHA = 0.01
BLOCK = 100  # differences between two looks


def gains(share: float, margin: float, bets: Array) -> tuple[Array, Array]:
    """The logarithm of what an event in the candidate, and one in the champion, gains each bet."""
    hit = log_gains(Events(share, 1, 0), margin, bets)
    return hit, log_gains(Events(share, 0, 1), margin, bets)


def first_at(reached: Array) -> Array:
    """The first minute at which it holds, for each run; MINUTES if never."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1), MINUTES)


def values(candidate: Array, champion: Array, shares: float | Array, margin: float = 1.0) -> Array:
    """`Worse.value` after each minute, shape (runs, minutes); a tick is a minute.

    The share is one, or one for each minute.
    """
    runs, minutes = candidate.shape
    evidence = Evidence(runs, EVENLY)
    found = np.empty((runs, minutes))
    shares = np.broadcast_to(shares, minutes)
    tables = {share: gains(share, margin, ABOVE) for share in np.unique(shares)}
    for minute, share in enumerate(shares):
        hit, miss = tables[share]
        logs = candidate[:, minute, None] * hit + champion[:, minute, None] * miss
        np.minimum(logs, MOST_LOG_GAIN, out=logs)
        evidence.step(logs, np.exp(logs), np.array([1]))
        found[:, minute] = evidence.value
    return found


def rolled_back(
    candidate: Array,
    champion: Array,
    shares: float | Array,
    margin: float = 1.0,
    alpha: float = ALPHA,
) -> Array:
    """The minute at which each run is rolled back; MINUTES if never."""
    return first_at(values(candidate, champion, shares, margin) >= 1 / alpha)


def mixture(
    candidate: Array, champion: Array, share: float, margin: float, bets: Array = BELOW
) -> Array:
    """The logarithm of the wealth of bets that were all made at the start, after each minute.

    With the bets of a promotion this is `log_better`.
    """
    inside, outside = candidate.cumsum(axis=1), champion.cumsum(axis=1)
    found = np.full(inside.shape, -np.inf)
    for hit, miss, weight in zip(*gains(share, margin, bets), EVENLY, strict=True):
        with np.errstate(invalid="ignore"):  # no event is no loss, even to the bet that loses all
            one = np.where(inside > 0, inside * hit, 0.0) + outside * miss
        found = np.logaddexp(found, one + np.log(weight))
    return found


def promoted(
    candidate: Array, champion: Array, share: float, margin: float, alpha: float = ALPHA
) -> Array:
    """The minute at which each run is promoted by counts of events; MINUTES if never."""
    return first_at(mixture(candidate, champion, share, margin) >= np.log(1 / alpha))


def judged(differences: Array, margin: float, alpha: float = ALPHA) -> tuple[float, float]:
    """After how many differences the mean is shown to be above, and below the margin; inf if never."""
    evidence = MarginEvidence(margin)
    worse = within = np.inf
    for start in range(0, len(differences), BLOCK):
        evidence.update(differences[start : start + BLOCK])
        count = min(start + BLOCK, len(differences))
        if evidence.log_above >= -np.log(alpha):
            worse = min(worse, count)
        if evidence.log_below >= -np.log(alpha):
            within = min(within, count)
    return worse, within


def paired(losses: Array, candidate: Array) -> Array:
    """What `Pairing` makes of losses in their order: each of the candidate's less the mean before it."""
    places = np.flatnonzero(candidate)
    others = np.concatenate([[0], np.cumsum(~candidate)])
    total = np.concatenate([[0.0], np.cumsum(np.where(candidate, 0.0, losses))])
    # A loss of the candidate right after another one has none of the champion's to be compared with.
    counts = others[places] - others[np.concatenate([[0], places[:-1]])]
    sums = total[places] - total[np.concatenate([[0], places[:-1]])]
    compared = counts > 0
    return losses[places][compared] - sums[compared] / counts[compared]

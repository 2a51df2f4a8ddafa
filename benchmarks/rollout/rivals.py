"""Rules of the kinds that others roll back by, written anew from their source or documentation.

Each takes a Day and what the rate of errors is known to be, and returns the minute at which each
run is rolled back, MINUTES if never.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from benchmarks.rollout.ours import first_at
from benchmarks.rollout.traffic import MINUTES, Array, Day
from scipy import stats

FIVE = 5
HOUR = 60
POINTS = 120  # of a metric, which is resampled to at most so many


def windows(counts: Array, minutes: int) -> Array:
    """The sums of windows of so many minutes, shape (runs, windows)."""
    return counts.reshape(len(counts), -1, minutes).sum(axis=2)


def at_end(reached: Array, minutes: int) -> Array:
    """The last minute of the first window in which it holds."""
    found = reached.argmax(axis=1) * minutes + minutes - 1
    return np.where(reached.any(axis=1), found, MINUTES)


def share_of(events: Array, calls: Array) -> Array:
    """Events for each call; 0 without calls."""
    return events / np.maximum(calls, 1)


def argo(day: Day, rate: float, *, failures: int = 0) -> Array:
    """Argo Rollouts: measurements in which the rate is twice the usual one, more than `failures` of them."""
    calls, events = windows(day.candidate, FIVE), windows(day.candidate_events, FIVE)
    failed = (calls > 0) & (events > 2 * rate * calls)
    return at_end(failed.cumsum(axis=1) > failures, FIVE)


def argo_beside(day: Day, _rate: float) -> Array:
    """The same, beside the champion: twice its rate in more than three measurements."""
    calls, events = windows(day.candidate, FIVE), windows(day.candidate_events, FIVE)
    usual = share_of(windows(day.champion_events, FIVE), windows(day.champion, FIVE))
    failed = (calls > 0) & (events > np.maximum(2 * usual, 1e-4) * calls)
    return at_end(failed.cumsum(axis=1) > 3, FIVE)


def flagger(day: Day, rate: float) -> Array:
    """Flagger: five checks of a minute beyond the threshold, or without data, however far apart."""
    failed = (day.candidate == 0) | (day.candidate_events > 2 * rate * day.candidate)
    return first_at(failed.cumsum(axis=1) >= 5)


def alarm(day: Day, rate: float) -> Array:
    """SageMaker: an alarm that is beyond twice the usual rate in two minutes of two."""
    beyond = (day.candidate > 0) & (day.candidate_events > 2 * rate * day.candidate)
    twice = beyond.copy()
    twice[:, 1:] &= beyond[:, :-1]
    twice[:, 0] = False
    return first_at(twice)


def so_far(day: Day, every: int) -> tuple[Array, ...]:
    """Calls and events of both arms since the start, at the end of every window."""
    parts = (day.candidate, day.champion, day.candidate_events, day.champion_events)
    return tuple(windows(part, every).cumsum(axis=1).astype(float) for part in parts)


def z_test(
    day: Day, _rate: float, *, alpha: float = 0.05, least: int = 0, every: int = FIVE
) -> Array:
    """A z test of two rates, every five minutes."""
    calls, others, events, other_events = so_far(day, every)
    with np.errstate(all="ignore"):
        pooled = (events + other_events) / (calls + others)
        deviation = np.sqrt(pooled * (1 - pooled) * (1 / calls + 1 / others))
        z = (events / calls - other_events / others) / deviation
    return at_end((z > stats.norm.isf(alpha)) & (events >= least), every)


def growthbook(
    day: Day, _rate: float, *, alpha: float = 0.05, tuned_to: int = 5000, every: int = FIVE
) -> Array:
    """GrowthBook: an asymptotic confidence sequence of the difference, every five minutes."""
    calls, others, events, other_events = so_far(day, every)
    with np.errstate(all="ignore"):
        mean, other = events / calls, other_events / others
        count = calls + others
        variance = count * (mean * (1 - mean) / calls + other * (1 - other) / others)
        rho = (-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / tuned_to
        scale = count * rho + 1
        width = np.sqrt(2 * scale / (count**2 * rho) * np.log(np.sqrt(scale) / alpha) * variance)
        apart = (mean - other > width) & (calls > 1) & (variance > 0)
    return at_end(apart, every)


def kayenta(day: Day, _rate: float, confidence: float = 0.98, tolerance: float = 0.25) -> Array:
    """Kayenta: Mann-Whitney every hour on the rates by the minute since the start.

    The champion is thinned to the size of the candidate, as a baseline has it; the limit of the
    Hodges-Lehmann estimate must be beyond a quarter of the estimate.
    """
    rng = np.random.default_rng(0)
    size = np.minimum(day.candidate, day.champion)
    events = rng.hypergeometric(day.champion_events, day.champion - day.champion_events, size)
    mine, base = share_of(day.candidate_events, day.candidate), share_of(events, size)
    z = stats.norm.isf((1 - confidence) / 2)
    found = np.full(len(mine), MINUTES)
    for end in range(HOUR, MINUTES + 1, HOUR):
        step = end // min(end, POINTS)
        points = end // step
        one, two = (
            rates[:, : points * step].reshape(-1, points, step).mean(axis=2)
            for rates in (mine, base)
        )
        below = int(points**2 / 2 - z * np.sqrt(points**2 * (2 * points + 1) / 12))
        if below < 0:
            continue
        apart = np.sort((one[:, :, None] - two[:, None, :]).reshape(len(one), -1), axis=1)
        high = apart[:, below] > tolerance * np.abs(np.median(apart, axis=1))
        found[high & (one.mean(axis=1) >= two.mean(axis=1)) & (found == MINUTES)] = end - 1
    return found


def limit_3(day: Day, rate: float) -> Array:
    return argo(day, rate, failures=3)


def z_strict(day: Day, rate: float) -> Array:
    return z_test(day, rate, alpha=0.01, least=5)


RULES: dict[str, Callable[[Day, float], Array]] = {
    "Argo: > 2p in 5 min, limit 0": argo,
    "Argo: > 2p in 5 min, limit 3": limit_3,
    "Argo: > 2 x champion, limit 3": argo_beside,
    "Flagger: > 2p in 5 min of all": flagger,
    "SageMaker: > 2p in 2 of 2 min": alarm,
    "z test 5 %, every 5 min": z_test,
    "z test 1 %, 5 events, every 5 min": z_strict,
    "GrowthBook: asymptotic CS 5 %": growthbook,
}

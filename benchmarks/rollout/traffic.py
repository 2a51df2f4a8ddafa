"""Counts of two arms, minute by minute, for many runs at once; and keys that have events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MINUTES = 1440
QUARTERS = MINUTES // 15
SEASON = 0.6  # of the traffic and of the rate of errors, up and down in a day
BURST, MEMORY = (
    0.5,
    0.95,
)  # of the logarithm of the rate: its deviation, and what is left after a minute
LATE = MINUTES // 2
Array = np.ndarray


@dataclass(frozen=True)
class Day:
    """What two arms served in a day, and how much of it failed; each of shape (runs, minutes)."""

    candidate: Array
    champion: Array
    candidate_events: Array
    champion_events: Array

    def first(self, runs: int) -> Day:
        """The same of some runs."""
        return Day(*(part[:runs] for part in vars(self).values()))


def generator(name: str) -> np.random.Generator:
    """Numbers that are the same for a name in each run of the benchmark."""
    return np.random.default_rng([*name.encode()])


@dataclass(frozen=True)
class World:
    """What a rollout meets in a day.

    Attributes:
        volume: the calls of the day.
        rate: the share of them that fails in the champion.
        share: of the calls that go to the candidate.
        risk: how many times as often the candidate's fail, from the minute `since` on.
        bursty: whether the traffic has a season, and the rate a season and bursts, both in both arms.
    """

    volume: float
    rate: float
    share: float
    risk: float = 1.0
    since: int = 0
    bursty: bool = False


def day_of(rng: np.random.Generator, runs: int, world: World) -> Day:
    """Days in that world."""
    minute = np.arange(MINUTES)
    calls, rates = np.full(MINUTES, world.volume / MINUTES), np.full((runs, MINUTES), world.rate)
    if world.bursty:
        turn = 2 * np.pi * minute / MINUTES
        calls = calls * (1 + SEASON * np.sin(turn))
        noise = level(rng, runs, MEMORY)
        rates = rates * (1 + SEASON * np.sin(turn + 1)) * np.exp(BURST * noise - BURST**2 / 2)
    rates = np.minimum(rates, 0.5)
    worse = np.minimum(rates * np.where(minute >= world.since, world.risk, 1.0), 0.9)
    candidate = rng.poisson(calls * world.share, (runs, MINUTES))
    champion = rng.poisson(calls * (1 - world.share), (runs, MINUTES))
    events = rng.binomial(candidate, worse), rng.binomial(champion, rates)
    return Day(candidate, champion, *events)


def level(rng: np.random.Generator, runs: int, memory: float) -> Array:
    """AR(1) of deviation 1 by the minute, shape (runs, minutes)."""
    steps = rng.normal(size=(runs, MINUTES))
    steps[:, 1:] *= np.sqrt(1 - memory**2)
    for minute in range(1, MINUTES):
        steps[:, minute] += memory * steps[:, minute - 1]
    return steps


# --- keys ---


@dataclass(frozen=True)
class Keys:
    """Keys of a rollout, each in an arm for ever; of shape (runs, keys).

    Attributes:
        calls: the share of each key of all calls.
        rates: the share of a key's calls that fail, in the champion.
        candidate: whether the key goes to the candidate.
    """

    calls: Array
    rates: Array
    candidate: Array


def keys_of(
    rng: np.random.Generator,
    runs: int,
    count: int,
    share: float,
    *,
    frail: float = 0.05,
    frail_rate: float = 0.3,
) -> Keys:
    """Keys with Pareto traffic, of which few send rows that often fail; others fail twice in a thousand."""
    calls = rng.pareto(1.2, (runs, count)) + 0.05
    calls /= calls.sum(axis=1, keepdims=True)
    rates = np.where(rng.random((runs, count)) < frail, frail_rate, 0.002)
    return Keys(calls, rates, rng.random((runs, count)) < share)


def first_events(
    rng: np.random.Generator, keys: Keys, volume: float, rates: Array
) -> tuple[Array, Array]:
    """In each minute of a day, how many keys have their first event, in the candidate and the champion."""
    when = rng.exponential(1.0, keys.calls.shape) / np.maximum(keys.calls * rates * volume, 1e-12)
    return in_minutes(when, keys.candidate), in_minutes(when, ~keys.candidate)


def in_minutes(when: Array, which: Array) -> Array:
    """How many of the times, in days, are in each minute of the first day, shape (runs, minutes)."""
    runs = len(when)
    chosen = which & (when < 1)
    place = (np.arange(runs)[:, None] * MINUTES + when.clip(0, 1) * MINUTES).astype(np.int64)
    return np.bincount(place[chosen], minlength=runs * MINUTES).reshape(runs, MINUTES)


def quarters_of(
    rng: np.random.Generator, keys: Keys, volume: float, risk: float = 1.0, since: int = 0
) -> tuple[Day, Day]:
    """What the keys do in each quarter of an hour: all calls and events; and as events, the first of each key.

    `since` is the quarter from which the candidate's risk is another one.
    """
    risks = np.where(np.arange(QUARTERS) >= since, risk, 1.0)
    calls, firsts = [], []
    for weights, rates, candidate in zip(keys.calls, keys.rates, keys.candidate, strict=True):
        mean = (weights * rates * volume / QUARTERS)[:, None]
        events = rng.poisson(mean * np.where(candidate[:, None], risks, 1.0))
        when = np.where(events.any(axis=1), (events > 0).argmax(axis=1), QUARTERS)
        arms = candidate, ~candidate
        served = [rng.poisson(weights[arm].sum() * volume / QUARTERS, QUARTERS) for arm in arms]
        failed = [events[arm].sum(axis=0) for arm in arms]
        served = [np.maximum(*pair) for pair in zip(served, failed, strict=True)]
        first = [np.bincount(when[arm], minlength=QUARTERS + 1)[:QUARTERS] for arm in arms]
        calls.append([*served, *failed])
        firsts.append([*served, *first])
    return tuple(Day(*np.array(found).transpose(1, 0, 2)) for found in (calls, firsts))

"""How often the evidence of two arms errs, and how soon it finds what is worse, in simulation."""

from __future__ import annotations

import math

import numpy as np

from modelkit.lifecycle.rollout.arms import (
    MOST_SPANS,
    Events,
    EventTimes,
    Worse,
    log_better,
    units_needed,
)
from modelkit.lifecycle.rollout.counts import ByArm, Counts, EventCounts, Unit
from modelkit.lifecycle.rollout.guards import Guard
from modelkit.lifecycle.rollout.keyed import WorseOfKeys
from modelkit.lifecycle.rollout.policy import RolloutPolicy, RolloutStage
from modelkit.lifecycle.rollout.routing import WHOLE, limit_of
from modelkit.lifecycle.rollout.trial import Trial


def found_after(rng, runs, *, risk, ticks=200):
    """After how many units those runs roll back that do, at alpha .01 and a margin of 1.2."""
    margin, share, rate, calls = 1.2, 0.05, 0.01, 500
    found = []
    for _ in range(runs):
        worse = Worse(np.array([margin]))
        rates = rate * (1 + 0.6 * np.sin(np.arange(ticks) / 30)) * rng.lognormal(0, 0.5, ticks)
        for tick in range(ticks):
            to_candidate = rng.binomial(calls, share)
            bad = rng.binomial(to_candidate, min(1, risk * rates[tick]))
            rest = rng.binomial(calls - to_candidate, min(1, rates[tick]))
            worse.tick(Events(share, bad, rest))
            if worse.peak >= 100:
                found.append((tick + 1) * calls)
                break
    return found


def test_an_equal_candidate_is_rolled_back_in_few_runs():
    assert len(found_after(np.random.default_rng(0), 200, risk=1.2, ticks=100)) <= 6


def test_a_worse_candidate_is_found_about_when_planned():
    found = found_after(np.random.default_rng(0), 20, risk=5.0)
    assert len(found) == 20
    assert np.median(found) < 3 * units_needed(0.01, 0.05, 5.0, 1.2, 0.01)


def first_and_all_events(rng, risk, *, keys=2_000, share=0.25, ticks=96, events=6.0):
    """What keys of `events` events each bring in each tick: the first of each key, and all."""
    candidate = rng.random(keys) < share
    rates = np.where(candidate, risk, 1.0) * events / ticks
    counts = rng.poisson(np.broadcast_to(rates[:, None], (keys, ticks)))
    first = counts.cumsum(axis=1).astype(bool) & (counts > 0)
    first &= (counts.cumsum(axis=1) - counts) == 0
    for tick in range(ticks):
        for found in (first[:, tick], counts[:, tick]):
            yield Events(share, int(found[candidate].sum()), int(found[~candidate].sum()))


def test_a_better_candidate_is_kept_though_its_keys_fail_later():
    """First events alone roll it back: the keys of the champion were used up before."""
    rng = np.random.default_rng(0)
    fooled = 0
    for _ in range(10):
        events = first_and_all_events(rng, 0.4)
        firsts, worse = Worse(np.array([1.2])), WorseOfKeys(np.array([1.2]))
        for first in events:
            firsts.tick(first)
            worse.tick(Events(0.25, 0, 0), first, next(events), np.zeros((1, 0)))
        fooled += firsts.peak >= 100
        assert worse.peak < 100
    assert fooled >= 8


def test_a_worse_candidate_is_found_by_first_events_and_all():
    rng = np.random.default_rng(0)
    for _ in range(5):
        events = first_and_all_events(rng, 2.5)
        worse = WorseOfKeys(np.array([1.2]))
        for first in events:
            worse.tick(Events(0.25, 0, 0), first, next(events), np.zeros((1, 0)))
        assert worse.peak >= 100


def keys_of_stages(rng, risk):
    """The evidence of 2,000 keys that all fail in each of two stages, .2 and .6; worse in the second."""
    keys = [int(key) for key in rng.integers(0, WHOLE, 2_000, dtype=np.uint64)]
    policy = RolloutPolicy(
        (RolloutStage(0.2, calls=1), RolloutStage(0.6)), (Guard("errors", floor=0.0),)
    )
    trial = Trial(policy, 0.0)
    for stage, (share, times) in enumerate(((0.2, 1.0), (0.6, risk))):
        for _ in range(40):
            inside = [key < limit_of(share) for key in keys]
            failing = rng.random(len(keys)) < np.where(inside, 0.05 * times, 0.05)
            units = [Unit(keys[i], inside[i]) for i in np.flatnonzero(failing)]
            arms = ByArm(sum(arm for _, arm in units), sum(not arm for _, arm in units))
            happened = EventCounts(keys=tuple(units), keyed=arms)
            trial._weigh(Counts(events={"errors": happened}), stage)  # also when it is over
    return trial.state().guards[0].worse


def test_keys_that_were_used_up_are_evidence_again_in_the_next_stage():
    rng = np.random.default_rng(0)
    assert sum(keys_of_stages(rng, 1.0) >= math.log(100) for _ in range(20)) <= 1
    assert all(keys_of_stages(rng, 3.0) >= math.log(100) for _ in range(5))


def promoted_in(ratio, runs, *, ill=0.01, minutes=0, seed=0):
    """In how many runs the events of a stage of 10 h at .5, after 4 h at .1, speak for a promotion.

    15 calls a minute, 1 % errors, ratio times as many in the candidate; after an hour of the last
    stage, the champion alone fails at the rate `ill` for so many minutes.
    """
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(runs):
        times = EventTimes(1.5)
        for share, span in ((0.1, 240), (0.5, 600)):
            for minute in range(span):
                calls = rng.poisson(15)
                candidate = rng.binomial(calls, share)
                sick = share == 0.5 and 60 <= minute < 60 + minutes
                events = (
                    rng.binomial(candidate, 0.01 * ratio),
                    rng.binomial(calls - candidate, ill if sick else 0.01),
                )
                times.add(share, *map(int, events))
        assert sum(ticks for *_, ticks in times._spans) == 840
        assert len(times._spans) <= MOST_SPANS
        pooled = Events(*np.array(times._spans).T[:3])
        assert times.log_better <= log_better(pooled, 1.5)
        found += times.log_better >= np.log(20)
    return found


def test_what_the_champion_alone_went_through_promotes_no_bad_candidate():
    """30 % errors for half an hour promoted a candidate with twice the errors in .45 and more."""
    assert promoted_in(2.0, 15, ill=0.3, minutes=30) == 0
    assert promoted_in(0.5, 15) >= 14  # a better one is promoted as before
    assert promoted_in(0.5, 15, ill=0.3, minutes=30) >= 13

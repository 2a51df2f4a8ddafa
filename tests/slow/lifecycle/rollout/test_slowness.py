"""Slow answers where CPUs are not free: what a colder arm loses by it, and what a worse candidate does."""

from __future__ import annotations

import random

import numpy as np
import pytest
from benchmarks.rollout import overloaded
from helpers.rollouts import ROWS, Clock, model

import modelkit as mk
from modelkit.lifecycle.rollout.counting import Counters
from modelkit.lifecycle.rollout.latency import Latency
from modelkit.lifecycle.rollout.trial import Trial

MILLISECOND = 1_000_000
SHARE = 0.2
# It asks for an hour, so that nothing is promoted before the run ends.
STAGES = (mk.RolloutStage(SHARE, seconds=3600),)
GUARDS = (mk.Guard("slow"),)


def interrupted(rng, count, usual, chance):
    """Nanoseconds of calls that take `usual` milliseconds, and are interrupted with some chance."""
    took = usual * rng.lognormal(0, 0.2, count)
    took += (rng.random(count) < chance) * rng.exponential(60, count)
    return took * MILLISECOND


def decided(seed, champion, candidate, ticks=25, calls=1500, every_long_call=False):
    """What becomes of two arms, of which (milliseconds, chance of an interruption) is given."""
    rng = np.random.default_rng(seed)
    policy = mk.RolloutPolicy(STAGES, GUARDS, tick=1.0)
    draw = (lambda: 0.0) if every_long_call else random.Random(seed).random
    counters = Counters(policy, Latency(GUARDS, draw))
    trial = Trial(policy, 0.0)
    for tick in range(ticks):
        free = tick % 2 == 0  # thresholds are of a time when the CPUs were free
        chosen = rng.random(calls) < SHARE
        times = np.where(
            chosen,
            interrupted(rng, calls, candidate[0], candidate[1] * (0.01 if free else 1)),
            interrupted(rng, calls, champion[0], champion[1] * (0.01 if free else 1)),
        )
        for in_candidate, took in zip(chosen.tolist(), times.tolist(), strict=True):
            counters.answered(counters.begin(None, in_candidate), {}, int(took))
        trial.tick(counters.collect(), tick + 1.0)
    return trial.decision.kind


def test_a_colder_arm_that_is_interrupted_more_often_is_not_rolled_back():
    """Of equal models, the runs of the colder one take 2.5 times as long: 150 microseconds more."""
    champion, colder = (0.1, 0.1), (0.25, 0.25)
    kinds = [decided(seed, champion, colder) for seed in range(10)]
    assert kinds.count("rollback") == 0
    blamed = [decided(seed, champion, colder, every_long_call=True) for seed in range(5)]
    assert blamed.count("rollback") >= 4


@pytest.mark.parametrize(
    "worse",
    [
        (0.2, 0.6),  # colder, and long in three times as many calls as that explains
        (0.1, 0.3),  # as long in the median, and three times as often long
        (40.0, 0.1),  # longer by what matters
    ],
)
def test_a_candidate_with_more_long_calls_than_that_is_rolled_back(worse):
    kinds = [decided(seed, (0.1, 0.1), worse) for seed in range(3)]
    assert kinds == ["rollback"] * 3


@pytest.mark.parametrize(
    "worse",
    [
        (5.0, 0.4),  # 50 times as long, which does not matter, and long in two calls of ten
        (9.0, 0.8),
    ],
)
def test_a_candidate_whose_long_calls_no_interruption_explains_is_rolled_back(worse):
    """The champion is never interrupted: k times never is never, however long a usual call takes."""
    kinds = [decided(seed, (0.1, 0.0), worse, calls=3000) for seed in range(3)]
    assert kinds == ["rollback"] * 3


def test_a_candidate_that_has_all_calls_is_not_the_colder_one():
    policy = mk.RolloutPolicy((*STAGES, mk.RolloutStage(1.0)), GUARDS, tick=1.0)
    rng = np.random.default_rng(0)
    latency = Latency(GUARDS, random.Random(0).random)
    trial = Trial(policy, 0.0)
    for tick in range(10):
        if tick in (0, 5):
            counters = Counters(policy, latency)
            trial.enter(tick // 5)
        for in_candidate in (rng.random(1000) < policy.stages[trial.stage].share).tolist():
            # 9 ms do not matter, and two seconds do; that is known of no call of the champion.
            usual = 9.0 if trial.stage == 0 else 2000.0
            took = (usual if in_candidate else 0.1) * rng.lognormal(0, 0.02) * MILLISECOND
            counters.answered(counters.begin(None, in_candidate), {}, int(took))
        trial.tick(counters.collect(), tick + 1.0)
    assert latency.part < 0.1
    assert trial.decision.kind == "rollback"


def test_the_benchmark_takes_two_models_through_a_rollout(tmp_path):
    path = overloaded.saved(tmp_path)
    decision, times = overloaded.rollout_of(path, 1.0)
    assert decision in ("continue", "hold")
    assert {candidate for _, candidate, _ in times} == {False, True}
    assert overloaded.replayed(times, 0.01) in ("continue", "hold")
    assert "candidate" in overloaded.about(times, [0.0])


@pytest.mark.parametrize("keys", [0, 900])
def test_a_candidate_that_is_longer_by_less_than_what_matters_is_not_rolled_back(
    clock, monkeypatch, keys
):
    """Each of its calls takes .9 ms more than one of the champion would: 7 ms in the median."""
    now = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.lineup.perf_counter_ns", now)
    rolled_back = {0.0: 0, 0.001: 0}
    for material in rolled_back:
        for seed in range(8):
            rng = np.random.default_rng(seed)

            def takes(longer, rng=rng):
                return lambda feeds: now.go(longer + rng.lognormal(-5, 0.2))

            guards = (mk.Guard("slow", material=material, worse=1.0),)
            rollout = mk.Rollout(
                model(1, takes(0)),
                model(2, takes(0.9e-3)),
                policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards),
                seed=seed,
            )
            for turn in range(6):
                for i in range(300):
                    rollout.run(ROWS, key=f"u{(300 * turn + i) % keys}" if keys else None)
                clock.go(10)
                status = rollout.status()
            rolled_back[material] += status.decision == "rollback"
    assert rolled_back[0.001] == 0
    assert rolled_back[0.0] >= 4

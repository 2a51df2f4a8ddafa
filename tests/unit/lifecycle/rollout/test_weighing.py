"""The evidence of one guard from counts: what speaks for a promotion, and which keys count once."""

from __future__ import annotations

import math

import pytest

import modelkit as mk
from modelkit.lifecycle.rollout.counts import ByArm, CompleteKey, Counts, EventCounts, Unit
from modelkit.lifecycle.rollout.routing import limit_of
from modelkit.lifecycle.rollout.trial import Trial


def trial_of(guard, *shares):
    stages = tuple(mk.RolloutStage(share, calls=1) for share in shares)
    return Trial(mk.RolloutPolicy(stages, (guard,)), 0.0)


def better_of(trial):
    return trial.state().guards[0].better


def test_keys_of_the_candidate_that_are_done_late_count_below_the_floor():
    """Their arms were drawn in the first stage, which ended before they had all their calls."""
    trial = trial_of(mk.Guard("errors", floor=0.1), 0.2, 0.6)
    keys = range(0, limit_of(0.2), limit_of(0.2) // 100)
    arms = ByArm(2000, 2000)
    trial._weigh(Counts(arms), 0)
    done = tuple(CompleteKey(key, True, {}) for key in keys)
    for _ in range(3):  # several processes may have calls of a key
        trial._weigh(Counts(arms, done=done), 1)
    assert math.log(100) < better_of(trial) < len(done) * -math.log(1 - 0.1)


def test_a_promotion_never_goes_by_the_first_events_of_keys():
    """Any number of first events of keys leaves the evidence for a promotion as it is."""
    trial = trial_of(mk.Guard("errors", floor=0.0), 0.5)
    units = tuple(Unit(key, False) for key in range(5000))
    few = ByArm(10, 5000)
    trial._weigh(Counts(few, events={"errors": EventCounts(keys=units)}), 0)
    assert better_of(trial) == pytest.approx(0, abs=1e-9)
    many = ByArm(5000, 5000)
    trial._weigh(Counts(many, many, events={"errors": EventCounts(plain=ByArm(0, 5000))}), 0)
    assert better_of(trial) > 100


def test_a_key_that_several_processes_complete_counts_once():
    trial, once = trial_of(mk.Guard("errors"), 0.5), trial_of(mk.Guard("errors"), 0.5)
    done = (
        CompleteKey(1, False, {}),
        CompleteKey(2, True, {"errors": 0.5}),
        CompleteKey(2, True, {}),
    )
    once._weigh(Counts(done=done[:2]), 0)
    assert once.state().guards[0].now > 0
    for again in (done, done[1:]):
        trial._weigh(Counts(done=again), 0)
        assert trial.state().guards == once.state().guards

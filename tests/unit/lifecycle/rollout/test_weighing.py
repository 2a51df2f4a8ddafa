"""The evidence of one guard from counts: what speaks for a promotion, and which keys count once."""

from __future__ import annotations

import math

import pytest
from helpers.trials import HALF

import modelkit as mk
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened, KeyDone
from modelkit.lifecycle.rollout.guards import Guard
from modelkit.lifecycle.rollout.policy import RolloutStage
from modelkit.lifecycle.rollout.routing import limit_of
from modelkit.lifecycle.rollout.weighing import StreamEvidence


def test_keys_of_the_candidate_that_are_done_late_count_below_the_floor():
    """Their arms were drawn in the first stage, which ended before they had all their calls."""
    evidence = StreamEvidence("errors", Guard("errors", floor=0.1), whole=False)
    keys = range(0, limit_of(0.2), limit_of(0.2) // 100)
    arms = ByArm(2000, 2000)
    evidence.tick(RolloutStage(0.2), Counts(arms))
    done = tuple(KeyDone(key, True, {}) for key in keys)
    for _ in range(3):  # several processes may have calls of a key
        evidence.tick(RolloutStage(0.6), Counts(arms, done=done))
    assert evidence.log_better > math.log(100)
    assert evidence.log_better < len(done) * -math.log(1 - 0.1)


def test_a_promotion_never_goes_by_the_first_events_of_keys():
    """Any number of first events of keys leaves the evidence for a promotion as it is."""
    guard = mk.Guard("errors", floor=0.0)
    evidence = StreamEvidence("errors", guard, whole=False)
    units = tuple((key, False) for key in range(5000))
    few = ByArm(10, 5000)
    evidence.tick(HALF, Counts(few, events={"errors": Happened(keys=units)}))
    assert evidence.log_better == pytest.approx(0, abs=1e-9)
    many = ByArm(5000, 5000)
    evidence.tick(HALF, Counts(many, many, events={"errors": Happened(plain=ByArm(0, 5000))}))
    assert evidence.log_better > 100


def test_a_key_that_several_processes_complete_counts_once():
    evidence = StreamEvidence("errors", mk.Guard("errors"), whole=False)
    done = (KeyDone(1, False, {}), KeyDone(2, True, {"errors": 0.5}), KeyDone(2, True, {}))
    once = StreamEvidence("errors", mk.Guard("errors"), whole=False)
    once.tick(HALF, Counts(done=done[:2]))
    assert once._key_shares.log_above > 0
    for again in (done, done[1:]):
        evidence.tick(HALF, Counts(done=again))
        assert evidence._key_shares.log_above == once._key_shares.log_above

"""A trial from counts to decisions: stages, floors, losses, shadow, and counts that come late or from many."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from helpers.trials import ERRORS, HALF, ONE, STAGES, counts_of, labels_of, run_to_end

import modelkit as mk
from modelkit.lifecycle.rollout.counts import ByArm, CompleteKey, Counts, EventCounts, Label, Unit
from modelkit.lifecycle.rollout.trial import Trial

CANARY = mk.RolloutStage(0.05, seconds=100, calls=50)


def test_without_events_the_floor_promotes():
    kind, _ = run_to_end(ONE, 1.0, 0, rates={"errors": 0.0})
    assert kind == "promote"


def test_a_few_events_where_the_champion_has_none_do_not_roll_back():
    """Three errors in 20,000 calls of the candidate are evidence, and do not matter."""
    trial = Trial(mk.RolloutPolicy((CANARY,), (ERRORS,)), 0.0)
    for tick in range(1, 201):
        errors = EventCounts(ByArm(1 if tick in (50, 100, 150) else 0, 0))
        arms = ByArm(100, 1900)
        decision = trial.tick(
            Counts(calls=arms, plain=arms, events={"errors": errors}), 10.0 * tick
        )
    assert decision.kind != "rollback"


def test_no_traffic_is_no_decision_until_the_time_is_over():
    trial = Trial(ONE, 0.0)
    for tick in range(1, 351):
        decision = trial.tick(Counts(), 10.0 * tick)
        assert decision.kind == ("hold" if tick >= 350 else "continue")
    assert "undecided" in decision.reason


def test_the_counts_of_processes_add_up():
    rng = np.random.default_rng(0)
    parts = []
    for worker in range(3):
        keys = tuple(Unit(int(key), bool(key % 2)) for key in rng.integers(0, 50, 10))
        done = (CompleteKey(worker, True, {"errors": 0.5}),)
        events = {"errors": EventCounts(ByArm(1, 2), keys)}
        arms = ByArm(100, 900)
        parts.append(Counts(arms, arms, keys, events, done, labels=(Label(0.5, worker, True, 0),)))
    whole = parts[0] + parts[1] + parts[2]
    assert whole.calls == ByArm(300, 2700)
    assert whole.events["errors"].plain == ByArm(3, 6)
    one, other = Trial(ONE, 0.0), Trial(ONE, 0.0)
    one.tick(whole, 10.0)
    other.tick(parts[2] + parts[0] + parts[1], 10.0)
    assert one.state() == other.state()


def test_late_counts_of_an_earlier_stage_are_weighed_with_its_share():
    trial = Trial(ONE, 0.0)
    early = counts_of(np.random.default_rng(0), 0.05, 1000, {"errors": 0.01}, 1.0)
    trial.tick(early, 10.0, 0)
    trial.tick(Counts(), 20.0, 1)
    assert (trial.stage, trial.in_stage) == (1, STAGES[1])
    trial.tick(early, 30.0, 0)
    assert trial.stage == 1
    assert trial.state().units == 0
    assert trial.all_calls == early.calls + early.calls


@pytest.mark.parametrize(("gap", "kind"), [(0.2, "rollback"), (0.0, "promote")])
def test_losses_decide(gap, kind):
    trial = Trial(mk.RolloutPolicy((HALF,), (mk.Guard("loss", margin=0.05),)), 0.0)
    rng = np.random.default_rng(2)
    for tick in range(1, 301):
        arms = [bool(arm) for arm in rng.random(100) < 0.5]
        labels = labels_of(rng, tick, arms, gap)
        if trial.tick(Counts(labels=labels), 10.0 * tick).kind == kind:
            return
    pytest.fail(f"undecided: {trial.decision}")


def test_in_shadow_only_pairs_count():
    guards = (ERRORS, mk.Guard("disagreement", floor=0.05), mk.Guard("loss", margin=0.05))
    policy = mk.RolloutPolicy((mk.RolloutStage(0, calls=500), HALF), guards)
    failing = Trial(policy, 0.0)
    bad = Counts(calls=ByArm(0, 100), shadowed=100, shadow_events={"errors": 5})
    kinds = [failing.tick(bad, 10.0 * tick).kind for tick in range(1, 4)]
    assert kinds[-1] == "rollback"
    differing = Trial(policy, 0.0)
    other = Counts(calls=ByArm(0, 100), shadowed=100, shadow_events={"disagreement": 20})
    kinds = [differing.tick(other, 10.0 * tick).kind for tick in range(1, 8)]
    assert kinds[-1] == "hold"
    assert "rollback" not in kinds
    equal = Trial(policy, 0.0)
    same = Counts(calls=ByArm(0, 100), shadowed=100, differences=(0.0,) * 100)
    kinds = [equal.tick(same, 10.0 * tick).kind for tick in range(1, 6)]
    assert kinds == ["continue"] * 4 + ["advance"]


def test_a_mark_that_could_not_be_counted_holds():
    odd = mk.Guard("odd", mark=lambda outputs: False)
    trial = Trial(mk.RolloutPolicy((HALF,), (odd,)), 0.0)
    decision = trial.tick(Counts(missing=("odd",)), 10.0)
    assert decision.kind == "hold"
    assert "raised an error" in decision.reason


def test_where_all_calls_go_to_the_candidate_its_floor_decides():
    """Blue-green: nothing is left to compare with."""
    guard = mk.Guard("errors", floor=0.02)
    for rate, kind in ((0.0, "promote"), (0.2, "rollback"), (0.02, "continue")):
        trial = Trial(mk.RolloutPolicy((mk.RolloutStage(1.0, calls=100),), (guard,)), 0.0)
        for tick in range(1, 21):
            arms = ByArm(100, 0)
            events = {"errors": EventCounts(ByArm(int(100 * rate), 0))}
            decision = trial.tick(Counts(calls=arms, plain=arms, events=events), 10.0 * tick)
            if trial.over:
                break
        assert decision.kind == kind


def test_where_all_calls_go_to_the_candidate_recorded_quantiles_decide():
    """Blue-green: a tenth of the champion's calls were slower than its 90 % quantile."""
    rates = {"slow:50": 0.5, "slow:90": 0.1, "slow:99": 0.01}
    for factor, kind in ((0.9, "promote"), (1.8, "rollback")):
        trial = Trial(
            mk.RolloutPolicy((mk.RolloutStage(1.0),), (mk.Guard("slow", material=0.0),)), 0.0
        )
        rng = np.random.default_rng(0)
        for tick in range(1, 101):
            decision = trial.tick(counts_of(rng, 1.0, 500, rates, factor), 10.0 * tick)
            if trial.over:
                break
        assert decision.kind == kind


def test_slow_calls_of_all_quantiles_decide():
    policy = mk.RolloutPolicy((HALF,), (mk.Guard("slow", material=0.0),))
    rates = {"slow:50": 0.5, "slow:90": 0.1, "slow:99": 0.01}
    assert run_to_end(policy, 1.0, 0, rates, drift=0)[0] == "promote"
    assert run_to_end(policy, 1.8, 0, rates, drift=0)[0] == "rollback"


def test_keys_are_held_once_for_all_guards():
    trial = Trial(mk.RolloutPolicy((HALF,)), 0.0)
    keys = tuple(Unit(2**62 + key, False) for key in range(100))
    done = tuple(CompleteKey(*unit, {"errors": 0.5}) for unit in keys)
    events = {name: EventCounts(keys=keys) for name in ("errors", "slow:50", "blamed:50")}
    trial.tick(Counts(keys=keys, events=events, done=done), 10.0)
    sets = [each for each in gc.get_objects() if type(each) in (dict, set)]
    assert sum(keys[0][0] in each for each in sets) <= 1
    # Further calls of these keys are none of their first ones.
    state = trial.state()
    trial.tick(Counts(keys=keys, done=done), 20.0)
    assert trial.state().split == state.split
    assert [guard.better for guard in trial.state().guards] == [
        guard.better for guard in state.guards
    ]


def test_the_status_says_that_further_keys_that_are_done_do_not_count(monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.keyed.MOST_KEYS", 3)
    trial = Trial(mk.RolloutPolicy((HALF,), (ERRORS,)), 0.0)
    for number, full in ((2, False), (4, True)):
        done = tuple(CompleteKey(key, False, {}) for key in range(number))
        reason = trial.tick(Counts(done=done), 10.0).reason
        assert trial.full == ("there are more keys than are counted" in reason) == full


def test_the_way_of_the_evidence_is_kept_in_bounds(monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.trial.MOST_POINTS", 200)
    trial = Trial(ONE, 0.0)
    for tick in range(1, 501):
        trial.tick(Counts(), 0.001 * tick)
    assert 90 < len(trial.points) <= 201
    seconds = [point.seconds for point in trial.points]
    assert seconds == sorted(seconds)

"""How often trials end wrongly, in simulation: at the margin, with the seasons, and when labels are skew."""

from __future__ import annotations

import numpy as np
from helpers.trials import ERRORS, HALF, ONE, counts_of, labels_of, run_to_end

import modelkit as mk
from modelkit.lifecycle.rollout.counts import Counts
from modelkit.lifecycle.rollout.trial import Trial


def test_an_equal_candidate_is_promoted_through_all_stages_and_a_worse_one_is_rolled_back():
    ends = [run_to_end(ONE, 1.0, seed) for seed in range(20)]
    assert [kind for kind, _ in ends].count("rollback") == 0
    assert [kind for kind, _ in ends].count("promote") >= 18
    ends = [run_to_end(ONE, 3.0, seed) for seed in range(20)]
    assert [kind for kind, _ in ends].count("rollback") == 20


def test_at_the_margin_few_are_promoted():
    ends = [run_to_end(ONE, 1.5, seed, ticks=100)[0] for seed in range(100)]
    assert ends.count("promote") <= 4


def test_a_rise_of_all_errors_with_the_share_is_nobodys_fault():
    """Simpson: the share goes from .05 to .5 while errors rise from .5 to 2 %, in both arms."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        trial = Trial(mk.RolloutPolicy((mk.RolloutStage(0.05, calls=1), HALF), (ERRORS,)), 0.0)
        for tick in range(1, 101):
            rate = 0.005 if tick <= 50 else 0.02
            counts = counts_of(rng, trial.in_stage.share, 1000, {"errors": rate}, 1.0)
            decision = trial.tick(counts, 10.0 * tick)
            assert decision.kind != "rollback"
            if tick == 50:
                trial.enter(1)


def test_labels_that_come_for_one_arm_more_often_are_no_verdict():
    policy = mk.RolloutPolicy((HALF,), (mk.Guard("loss", margin=0.02),))
    for skewed in (False, True):
        trial = Trial(policy, 0.0)
        rng = np.random.default_rng(1)
        for tick in range(1, 201):
            arms = rng.random(60) < (0.7 if skewed else 0.5)
            labels = labels_of(rng, tick, [bool(arm) for arm in arms], 0.0)
            decision = trial.tick(Counts(labels=labels), 10.0 * tick)
        if skewed:
            assert (decision.kind, trial.over) == ("hold", False)
            assert "one arm more often" in decision.reason
        else:
            assert decision.kind != "rollback"
            assert not decision.state.guards[0].void

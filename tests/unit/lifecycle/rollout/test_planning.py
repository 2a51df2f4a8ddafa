"""A plan says how many requests a rollout takes, at which rates, and for any share that it takes."""

from __future__ import annotations

import pytest
from helpers.churn import run_keys
from helpers.rollouts import model

import modelkit as mk
from modelkit.errors import UsageError

ERRORS = (mk.Guard("errors"),)


def test_the_plan_says_how_long_it_takes():
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.05),), ERRORS)
    )
    plan = rollout.plan({"errors": 0.01}, risks=(2.0, 5.0))
    needs = {need.risk: need.requests for need in plan.needs}
    assert needs[5.0] < needs[2.0]
    assert needs[1.0] == pytest.approx(148_000, rel=0.05)
    assert "an equal candidate" in str(plan)
    assert plan._repr_html_()
    with pytest.raises(UsageError, match="rates are of guards"):
        rollout.plan({"latency": 0.1})
    never = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.05),), ERRORS)
    ).plan({"errors": 0.01}, (1.1,))
    assert "never" in str(never)


@pytest.mark.parametrize("share", [1e-9, 0.3, 1 - 1e-9])
def test_any_share_that_is_not_refused_has_a_plan(two, share):
    rollout = mk.Rollout(*two, policy=mk.RolloutPolicy((mk.RolloutStage(share),), tick=1e-9))
    assert len(rollout.plan().needs) == 16
    run_keys(rollout, 20)
    rollout.status()
    assert rollout.failures == 0
    with pytest.raises(UsageError, match=r"0\.9999999999999999 leaves less than"):
        mk.Rollout(*two, share=1 - 1e-16)


def test_a_plan_names_the_rate_it_assumes(two):
    plan = str(
        mk.Rollout(*two, policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), [mk.Guard("slow")])).plan(
            risks=[2, 5]
        )
    )
    assert "2 times the rate of 0.5 is rolled back after about" in plan
    assert "5 times the rate of 0.5 is more than every call" in plan
    assert "an equal candidate, at a rate of 0.5, is promoted after about" in plan

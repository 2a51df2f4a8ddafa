"""What a rollout decides from evidence: a table, and rules that no evidence may break."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from helpers.trials import ERRORS, HALF
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.lifecycle.rollout.decide import GuardEvidence, TrialState, decide

CANARY = mk.RolloutStage(0.05, seconds=100, calls=50)
POLICY = mk.RolloutPolicy((CANARY, HALF), (ERRORS, mk.Guard("refused")), horizon=1000)
ENOUGH = math.log(200) + 0.01  # for each of two guards, at an alpha of .01
NONE = (GuardEvidence("errors", 0, 0), GuardEvidence("refused", 0, 0))
STANDING = TrialState(stage=0, in_stage=10, in_all=10, units=10, split=0, guards=NONE)
GOOD = tuple(replace(guard, better=ENOUGH) for guard in NONE)
LAST = TrialState(stage=1, in_stage=200, in_all=300, units=900, split=0, guards=GOOD)


def errors(**changes):
    return (replace(NONE[0], **changes), NONE[1])


@pytest.mark.parametrize(
    ("state", "kind", "reason"),
    [
        (STANDING, "continue", "90 s of this stage are left; 40 calls of the candidate are left"),
        (replace(STANDING, in_stage=100), "continue", "40 calls"),
        (replace(STANDING, units=50), "continue", "90 s"),
        (replace(STANDING, in_stage=100, units=50), "advance", "no guard objects"),
        (replace(STANDING, guards=errors(worse=ENOUGH)), "rollback", "errors"),
        (replace(STANDING, guards=errors(worse=ENOUGH - 0.1)), "continue", ""),
        (replace(STANDING, guards=errors(worse=99, pauses=True)), "hold", "answers otherwise"),
        (replace(STANDING, guards=errors(worse=99, void="labels")), "hold", "errors: labels"),
        (replace(STANDING, guards=errors(worse=math.nan)), "hold", "not a number"),
        (replace(STANDING, guards=errors(better=math.nan)), "hold", "not a number"),
        (replace(STANDING, split=math.nan), "hold", "not a number"),
        (replace(STANDING, split=5, guards=errors(worse=99)), "hold", "not split"),
        (replace(STANDING, in_all=1000), "hold", "the time is over, undecided: 90 s"),
        (LAST, "promote", "every guard"),
        (replace(LAST, in_all=5000), "promote", "every guard"),
        (replace(LAST, guards=(GOOD[0], NONE[1])), "continue", "refused: too little evidence"),
        (replace(LAST, guards=(GOOD[0], NONE[1]), in_all=1000), "hold", "undecided: refused"),
        (replace(LAST, guards=(GOOD[0], NONE[1]), full=True), "continue", "more keys than are"),
        (replace(LAST, guards=(replace(GOOD[0], now=3), GOOD[1])), "continue", "worse of late"),
        (replace(LAST, guards=(replace(GOOD[0], worse=99), GOOD[1])), "rollback", "errors"),
        (replace(LAST, guards=(replace(GOOD[0], better=None), GOOD[1])), "promote", ""),
    ],
)
def test_the_table_of_decisions(state, kind, reason):
    decision = decide(POLICY, state)
    assert decision.kind == kind
    assert reason in decision.reason
    assert decision.state.guards == state.guards  # the evidence that led to it


@given(
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.integers(0, 1),
    st.floats(0, 5000),
)
def test_nothing_is_promoted_without_the_evidence_of_every_guard(worse, one, other, stage, time):
    guards = (GuardEvidence("errors", worse, one), GuardEvidence("refused", worse, other))
    state = TrialState(stage, time, time, 10**6, 0, guards)
    decision = decide(POLICY, state)
    if decision.kind == "promote":
        assert min(one, other) >= -math.log(POLICY.alpha)
        assert worse < math.log(2 / POLICY.alpha)
    assert (decision.kind == "rollback") == (worse >= math.log(2 / POLICY.alpha))

"""Guards, stages and policies: what is out of range is refused, and a policy can be kept."""

from __future__ import annotations

import math

import pytest
from helpers.trials import ERRORS, HALF

import modelkit as mk
from modelkit.errors import PackageError, UsageError

CANARY = mk.RolloutStage(0.05, seconds=100, calls=50)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: mk.Guard("latency"), "mark="),
        (lambda: mk.Guard("errors", mark=bool), "take none"),
        (lambda: mk.Guard("a:b", mark=bool), "without ':'"),
        (lambda: mk.Guard("errors", worse=0.9), "1 or more"),
        (lambda: mk.Guard("errors", better=1.0), "equal candidate"),
        (lambda: mk.Guard("errors", floor=1.0), "below 1"),
        (lambda: mk.Guard("slow", above=0.0), "seconds"),
        (lambda: mk.Guard("slow", material=-1.0), "material is in seconds"),
        (lambda: mk.Guard("slow", material=math.nan), "material is in seconds"),
        (lambda: mk.Guard("slow", above=0.1, material=0.01), "without above="),
        (lambda: mk.Guard("errors", material=0.01), "is for 'slow'"),
        (lambda: mk.Guard("loss"), "margin"),
        (lambda: mk.Guard("loss", margin=1.0), "between 0 and 1"),
        (lambda: mk.Guard("errors", margin=0.02), "margin= is for the guard 'loss' alone"),
        (lambda: mk.Guard("errors", above=0.5), "above= is for the guard 'slow' alone"),
        (
            lambda: mk.Guard("loss", margin=0.02, tolerance=0.1),
            "for the guard 'disagreement' alone",
        ),
        (lambda: mk.Guard("disagreement"), "floor"),
        (lambda: mk.Guard("disagreement", floor=0.1, tolerance=-1), "tolerance"),
        (lambda: mk.RolloutStage(1.5), "from 0 to 1"),
        (lambda: mk.RolloutStage(0.1, seconds=-1), "0 or more"),
        (lambda: mk.RolloutStage(True), "share is a number, not True"),
        (lambda: mk.RolloutStage(None), "share is a number, not None"),
        (lambda: mk.Guard("errors", worse=None), "worse is a number, not None"),
        (lambda: mk.RolloutStage(0), "shadow stage needs"),
        (lambda: mk.RolloutPolicy(()), "at least one stage"),
        (lambda: mk.RolloutPolicy((HALF, CANARY)), "do not fall"),
        (lambda: mk.RolloutPolicy((HALF,), (ERRORS, ERRORS)), "different names"),
        (lambda: mk.RolloutPolicy((HALF,), ()), "without guards"),
        (lambda: mk.RolloutPolicy((HALF,), alpha=0), "alpha"),
        (lambda: mk.RolloutPolicy((HALF,), tick=0), "tick"),
        (lambda: mk.RolloutPolicy((HALF,), tick=math.inf), "tick is in seconds, .* at most"),
        (lambda: mk.RolloutPolicy((HALF,), (mk.Guard("disagreement", floor=0.1),)), "shadow"),
        (lambda: mk.RolloutPolicy((HALF, HALF)), "stage 1 of 2 .* neither seconds nor calls"),
        (lambda: mk.RolloutStage(1 - 1e-16), "less than 1e-09 of the calls to one of the arms"),
        (lambda: mk.RolloutStage(5e-324), "less than 1e-09"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, why):
    with pytest.raises(UsageError, match=why):
        make()


def test_a_policy_is_written_and_read():
    stages = (mk.RolloutStage(0, calls=9), CANARY, HALF)
    guards = (
        mk.Guard("errors", worse=1.5),
        mk.Guard("slow", material=0.005),
        mk.Guard("loss", margin=0.02),
    )
    policy = mk.RolloutPolicy(stages, guards, alpha=0.02)
    assert mk.RolloutPolicy.from_json(policy.to_json()) == policy
    assert policy.shadow
    with pytest.raises(PackageError, match="cannot be read"):
        mk.RolloutPolicy.from_json('{"stages": 3}')
    twice = policy.to_json().replace('"alpha": 0.02', '"alpha": 0.5, "alpha": 0.02')
    with pytest.raises(PackageError, match="alpha"):
        mk.RolloutPolicy.from_json(twice)
    marked = mk.RolloutPolicy((HALF,), (mk.Guard("odd", mark=lambda outputs: False),))
    with pytest.raises(UsageError, match="no registry can keep"):
        marked.to_json()

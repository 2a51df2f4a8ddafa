"""Which calls are slow, and how many of the long ones count where the candidate is the colder arm."""

from __future__ import annotations

import pytest

import modelkit as mk
from modelkit.lifecycle.rollout.counts import ByArm
from modelkit.lifecycle.rollout.latency import WARM_CALLS, Latency

MICROSECOND = 1_000
GUARD = mk.Guard("slow", material=1e-6)


def latency_of(guard=GUARD, drawn=0.0):
    return Latency([guard], lambda: drawn)


def test_long_calls_count_by_how_much_longer_a_usual_one_takes():
    latency = latency_of()
    assert latency.part == 0  # no call of the candidate is known
    latency.compare([200] * 9, 100)
    assert latency.part == 0.5
    latency.compare([], 2000)
    assert latency.part == 1  # longer by 2000, which matters
    latency.compare([50] * 500, 100)
    assert latency.part == 1  # quicker


@pytest.mark.parametrize(
    ("took", "in_candidate", "drawn", "kinds"),
    [
        (1, False, 0.0, []),
        (11, False, 0.0, ["slow:50", "blamed:50"]),
        (10.5, False, 0.9, ["slow:50"]),
        (20.5, False, 0.9, ["slow:50", "blamed:50", "slow:90"]),  # beyond what explains the first
        (11, True, 0.0, ["slow:50"]),  # longer by a microsecond, which does not matter
        (12, True, 0.9, ["slow:50", "longer:50"]),
        (12, True, 0.0, ["slow:50", "longer:50", "blamed:50"]),
        (32, True, 0.9, ["slow:50", "longer:50", "slow:90", "longer:90", "slow:99", "longer:99"]),
    ],
)
def test_the_kinds_of_a_slow_call(took, in_candidate, drawn, kinds):
    latency = latency_of(drawn=drawn)
    champion = [10 * MICROSECOND] * 80 + [20 * MICROSECOND] * 15 + [30 * MICROSECOND] * 5
    candidate = [10 * MICROSECOND + 200] * 100
    latency.learn(ByArm(100, 100), (champion, candidate))
    assert latency.part == pytest.approx(1 / 1.02)
    latency.part = 0.5
    took *= MICROSECOND
    assert (took > latency.least) == bool(kinds)
    assert [*latency.kinds(took, in_candidate=in_candidate)] == kinds


def test_arms_that_are_not_warm_yet_have_no_slow_calls():
    latency = latency_of(mk.Guard("slow", above=1e-6))
    latency.learn(ByArm(WARM_CALLS - 1, 1000), ([], []))
    assert latency.least > 1e18
    latency.learn(ByArm(1, 0), ([], []))
    assert latency.least == MICROSECOND
    assert "slow" in latency.kinds(2 * MICROSECOND, in_candidate=False)

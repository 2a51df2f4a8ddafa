"""When a model is trained again: the pure decision, and its policy."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.retrainings import DAY, START
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import UsageError
from modelkit.lifecycle.retrain.policy import WINDOW, waited_for
from modelkit.types import RetrainState, StandingAlarm

HOUR = 3600.0
POLICY = mk.RetrainPolicy(rollout=None)
REFUSALS = ("busy", "quiet", "failures", "cooldown", "budget", "persist", "labels")


def standing(*kinds, since=START - 2 * HOUR, tried=0):
    return tuple(StandingAlarm(kind, "age", None, since, since, tried) for kind in kinds)


LABELLED = RetrainState(standing=standing("material"), labelled=5000)
CASES = [
    (LABELLED, POLICY, "material", ""),
    (RetrainState(labelled=5000), POLICY, "", "quiet"),
    (replace(LABELLED, busy="retraining 3 is running"), POLICY, "", "busy"),
    (replace(LABELLED, standing=standing("material", since=START - 60)), POLICY, "", "persist"),
    (
        replace(LABELLED, standing=standing("changed", "material", since=START)),
        POLICY,
        "changed + material",
        "",
    ),
    (replace(LABELLED, standing=standing("performance", since=START)), POLICY, "performance", ""),
    (replace(LABELLED, labelled=999), POLICY, "", "labels"),
    (replace(LABELLED, starts=(START - DAY + 1,)), POLICY, "", "cooldown"),
    (replace(LABELLED, starts=(START - DAY,)), POLICY, "material", ""),
    (replace(LABELLED, starts=tuple(START - n * DAY for n in (20, 9, 5, 2))), POLICY, "", "budget"),
    (replace(LABELLED, starts=tuple(START - n * DAY for n in (30, 9, 5, 2))), POLICY, "material", ""),
    (replace(LABELLED, standing=standing("material", tried=2)), POLICY, "", "failures"),
    (replace(LABELLED, standing=standing("material", tried=1)), POLICY, "material", ""),
    # An old alarm that no training answers hides no new one.
    (
        replace(LABELLED, standing=standing("changed", tried=2) + standing("performance")),
        POLICY,
        "performance",
        "",
    ),
    # And no new one hides a performance that fell and was trained for once.
    (
        replace(LABELLED, standing=standing("changed") + standing("performance", tried=1)),
        POLICY,
        "changed + performance",
        "",
    ),
    (
        replace(LABELLED, standing=standing("changed", tried=1) + standing("material", since=START)),
        POLICY,
        "",
        "persist",
    ),
    (replace(LABELLED, failed=2), replace(POLICY, labels=1), "material", ""),
    (replace(LABELLED, failed=2), replace(POLICY, schedule=DAY), "material", ""),
    (RetrainState(failed=2), replace(POLICY, schedule=DAY), "", "failures"),
    (
        replace(LABELLED, standing=standing("material", tried=2)),
        replace(POLICY, schedule=DAY),
        "schedule",
        "",
    ),
    (replace(LABELLED, failed=9, asked="it was the pump", starts=(START,)), POLICY, "asked for: it was the pump", ""),
    (replace(LABELLED, asked="now", busy="a rollout"), POLICY, "", "busy"),
    (RetrainState(trained=START - DAY), replace(POLICY, schedule=DAY), "schedule", ""),
    (RetrainState(trained=START - DAY + 1), replace(POLICY, schedule=DAY), "", "quiet"),
    (RetrainState(labelled_in_all=400), replace(POLICY, labels=400), "labels", ""),
    (RetrainState(labelled_in_all=399), replace(POLICY, labels=400), "", "quiet"),
    (
        RetrainState(trained=START - DAY, starts=(START,)),
        replace(POLICY, schedule=DAY),
        "",
        "cooldown",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("state", "policy", "reason", "refusal"), CASES)
def test_the_decision(state, policy, reason, refusal):
    answer = policy.due(state, START)
    assert (answer.reason, answer.refusal) == (reason, refusal)
    assert bool(answer.message) == bool(refusal)


def test_every_refusal_is_among_the_cases():
    assert {refusal for *_, refusal in CASES} == {"", *REFUSALS}


@given(
    st.lists(st.floats(0, 60 * DAY), max_size=12),
    st.integers(0, 4),
    st.integers(0, 3000),
    st.lists(st.sampled_from(["changed", "material", "performance"]), max_size=4),
    st.floats(0, 2 * DAY),
)
def test_a_run_needs_a_reason_and_waits_for_cooldown_budget_and_labels(
    ago, failed, labelled, kinds, stood
):
    starts = tuple(sorted(START - each for each in ago))
    state = RetrainState(
        standing=standing(*kinds, since=START - stood, tried=failed),
        labelled=labelled, starts=starts,
    )  # fmt: skip
    answer = POLICY.due(state, START)
    assert bool(answer.reason) != bool(answer.refusal)
    if answer.reason:
        assert kinds
        assert failed < POLICY.failures
        assert labelled >= POLICY.fresh
        assert all(START - start >= POLICY.cooldown for start in starts)
        assert sum(START - start < WINDOW for start in starts) < POLICY.budget


def test_a_month_of_flickering_alarms_is_four_runs_at_most():
    """As of a detector whose alarms come and go every half hour: the figure of the notes is 4."""
    rng = np.random.default_rng(0)
    state = RetrainState(labelled=10_000)
    now = START
    runs = events = 0
    since = None
    while now < START + 30 * DAY:
        now += rng.exponential(30 * DAY / 1402)
        events += 1
        since = now if since is None or rng.random() < 0.1 else since
        kinds = ("material",) if rng.random() < 0.5 else ("changed", "material")
        state = replace(state, standing=standing(*kinds, since=since))
        if POLICY.due(state, now).reason:
            runs += 1
            state = replace(state, starts=(*state.starts, now))
            since = None
    assert 1300 < events < 1500
    assert runs == POLICY.budget


@pytest.mark.parametrize(
    "values",
    [
        {"persist": -1},
        {"persist": float("nan")},
        {"budget": 0},
        {"budget": True},
        {"failures": "2"},
        {"schedule": 0},
        {"labels": 0},
        {"lease": float("inf")},
        {"cooldown": None},
    ],
)
def test_a_number_of_a_policy_that_is_out_of_range_is_refused(values):
    ((name, value),) = values.items()
    with pytest.raises(UsageError, match=name):
        mk.RetrainPolicy(**{"rollout": None} | values)
    assert repr(value)


def test_a_share_is_no_rollout_of_a_policy():
    with pytest.raises(TypeError, match=r"rollout is a mk\.RolloutPolicy"):
        mk.RetrainPolicy(rollout=0.05)


def test_alarms_that_keep_coming_do_not_put_off_a_run_for_a_performance_that_fell():
    changed, fell = standing("changed", "performance")
    assert waited_for((changed, fell)) == (fell,)
    assert waited_for((changed,)) == (changed,)

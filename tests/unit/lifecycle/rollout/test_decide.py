"""What a rollout decides from counts: tables, rules that no evidence may break, and sizes in simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import RolloutError
from modelkit.lifecycle.rollout.alone import Above, Below, log_gains_alone, log_gains_shares
from modelkit.lifecycle.rollout.arms import BETTER, EVENLY, WORSE, Events, log_mean
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened, KeyDone, Label
from modelkit.lifecycle.rollout.decide import Standing, Weighed, decide
from modelkit.lifecycle.rollout.keyed import MOST_KEYS, FirstOfKeys
from modelkit.lifecycle.rollout.policy import stages_of
from modelkit.lifecycle.rollout.split import log_split
from modelkit.lifecycle.rollout.trial import Trial
from modelkit.lifecycle.rollout.weighing import StreamEvidence

ERRORS = mk.Guard("errors")
CANARY = mk.RolloutStage(0.05, seconds=100, units=50)
HALF = mk.RolloutStage(0.5)
POLICY = mk.RolloutPolicy((CANARY, HALF), (ERRORS, mk.Guard("refused")), horizon=1000)
ENOUGH = math.log(200) + 0.01  # for each of two guards, at an alpha of .01
NONE = (Weighed("errors", 0, 0), Weighed("refused", 0, 0))
STANDING = Standing(stage=0, in_stage=10, in_all=10, units=10, split=0, guards=NONE)
GOOD = tuple(replace(guard, better=ENOUGH) for guard in NONE)
LAST = Standing(stage=1, in_stage=200, in_all=300, units=900, split=0, guards=GOOD)


def errors(**changes):
    return (replace(NONE[0], **changes), NONE[1])


@pytest.mark.parametrize(
    ("standing", "kind", "reason"),
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
        (replace(LAST, guards=(replace(GOOD[0], now=3), GOOD[1])), "continue", "worse of late"),
        (replace(LAST, guards=(replace(GOOD[0], worse=99), GOOD[1])), "rollback", "errors"),
        (replace(LAST, guards=(replace(GOOD[0], better=None), GOOD[1])), "promote", ""),
    ],
)
def test_the_table_of_decisions(standing, kind, reason):
    decision = decide(POLICY, standing)
    assert decision.kind == kind
    assert reason in decision.reason
    assert decision.guards == standing.guards  # the evidence that led to it


@given(
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.integers(0, 1),
    st.floats(0, 5000),
)
def test_nothing_is_promoted_without_the_evidence_of_every_guard(worse, one, other, stage, time):
    guards = (Weighed("errors", worse, one), Weighed("refused", worse, other))
    standing = Standing(stage, time, time, 10**6, 0, guards)
    decision = decide(POLICY, standing)
    if decision.kind == "promote":
        assert min(one, other) >= -math.log(POLICY.alpha)
        assert worse < math.log(2 / POLICY.alpha)
    assert (decision.kind == "rollback") == (worse >= math.log(2 / POLICY.alpha))


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
        (lambda: mk.Guard("disagreement"), "floor"),
        (lambda: mk.Guard("disagreement", floor=0.1, tolerance=-1), "tolerance"),
        (lambda: mk.RolloutStage(1.5), "from 0 to 1"),
        (lambda: mk.RolloutStage(0.1, seconds=-1), "0 or more"),
        (lambda: mk.RolloutStage(0), "shadow stage needs"),
        (lambda: mk.RolloutPolicy(()), "at least one stage"),
        (lambda: mk.RolloutPolicy((HALF, CANARY)), "do not fall"),
        (lambda: mk.RolloutPolicy((HALF,), (ERRORS, ERRORS)), "different names"),
        (lambda: mk.RolloutPolicy((HALF,), ()), "without guards"),
        (lambda: mk.RolloutPolicy((HALF,), alpha=0), "alpha"),
        (lambda: mk.RolloutPolicy((HALF,), tick=0), "tick"),
        (lambda: mk.RolloutPolicy((HALF,), (mk.Guard("disagreement", floor=0.1),)), "shadow"),
        (lambda: mk.RolloutPolicy((HALF, HALF)), "stage 1 of 2 .* neither seconds nor units"),
        (lambda: mk.RolloutStage(1 - 1e-16), "less than 1e-09 of the calls to one of the arms"),
        (lambda: mk.RolloutStage(5e-324), "less than 1e-09"),
        (lambda: stages_of(None, None, None), "either share="),
        (lambda: stages_of(0.1, [0.2], None), "either share="),
        (lambda: stages_of(None, ["5 %"], None), "shares from 0 to 1"),
        (lambda: stages_of(0.1, None, HALF), "share 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, why):
    with pytest.raises(RolloutError, match=why):
        make()


def test_a_policy_is_written_and_read():
    stages = (mk.RolloutStage(0, units=9), CANARY, HALF)
    guards = (
        mk.Guard("errors", worse=1.5),
        mk.Guard("slow", material=0.005),
        mk.Guard("loss", margin=0.02),
    )
    policy = mk.RolloutPolicy(stages, guards, alpha=0.02)
    assert mk.RolloutPolicy.from_json(policy.to_json()) == policy
    assert policy.shadow
    assert stages_of(0.05, None, stages[0]) == (stages[0], mk.RolloutStage(0.05))
    with pytest.raises(RolloutError, match="cannot be read"):
        mk.RolloutPolicy.from_json('{"stages": 3}')
    twice = policy.to_json().replace('"alpha": 0.02', '"alpha": 0.5, "alpha": 0.02')
    with pytest.raises(RolloutError, match="alpha"):
        mk.RolloutPolicy.from_json(twice)
    marked = mk.RolloutPolicy((HALF,), (mk.Guard("odd", mark=lambda outputs: False),))
    with pytest.raises(RolloutError, match="no registry can keep"):
        marked.to_json()


@given(st.floats(0.0005, 0.9), st.floats(0, 0.99))
def test_no_bet_on_one_arm_pays_on_its_wrong_side(floor, rate):
    for bets, wrong in ((WORSE, rate <= floor), (BETTER, rate >= floor)):
        if wrong:
            hit = np.exp(log_gains_alone(1, 1, floor, bets))
            miss = np.exp(log_gains_alone(1, 0, floor, bets))
            assert (rate * hit + (1 - rate) * miss <= 1 + 1e-9).all()
            # A key that is bad in part lies between: the gain is linear in its share.
            with np.errstate(divide="ignore"):
                between = np.log(rate * hit + (1 - rate) * miss)
            shares = log_gains_shares(np.array([rate]), floor, bets)
            np.testing.assert_allclose(shares, between, rtol=1e-6, atol=1e-9)


def test_one_arm_shows_a_rate_above_its_floor_and_one_below():
    above = Above(0.01)
    for _ in range(20):
        above.tick(100, 1)
    assert above.peak < 10
    for _ in range(20):
        above.tick(100, 4)
    assert above.peak > 100
    below = Below(0.01)
    below.take_calls(1000, 0)
    below.take_keys(np.zeros(1000))
    assert all(log_mean(part, EVENLY) > math.log(100) for part in below.parts)


def test_a_split_that_is_broken_is_found():
    rng = np.random.default_rng(0)
    sound = [rng.binomial(100_000, 0.05) for _ in range(200)]
    alarms = [log_split([Events(0.05, k, 100_000 - k)]) >= math.log(100) for k in sound]
    assert sum(alarms) <= 2
    # The candidate loses a tenth of its calls before they are counted.
    assert log_split([Events(0.05, 4500, 95_000)]) >= math.log(100)
    both = [Events(0.05, 480, 9500), Events(0.5, 4800, 5000)]
    assert log_split(both) == pytest.approx(sum(log_split([each]) for each in both))
    assert log_split([Events(1.0, 100, 0)]) == 0


def counts_of(rng, share, calls, rates, risk):
    """The counts of a tick whose calls have no keys."""
    to_candidate = int(rng.binomial(calls, share))
    events = {}
    for name, rate in rates.items():
        bad = int(rng.binomial(to_candidate, min(1.0, rate * risk)))
        events[name] = Happened(ByArm(bad, int(rng.binomial(calls - to_candidate, rate))))
    arms = ByArm(to_candidate, calls - to_candidate)
    return Counts(calls=arms, plain=arms, events=events)


def run_to_end(policy, risk, seed, rates=None, *, ticks=400, drift=0.6):
    calls = 1000
    rng = np.random.default_rng(seed)
    trial = Trial(policy, 0.0)
    for tick in range(1, ticks + 1):
        season = 1 + drift * math.sin(tick / 20)
        now = {name: rate * season for name, rate in (rates or {"errors": 0.01}).items()}
        counts = counts_of(rng, trial.in_stage.share, calls, now, risk)
        decision = trial.tick(counts, 10.0 * tick)
        if decision.kind == "advance":
            trial.enter(trial.stage + 1)
        if trial.over:
            return decision.kind, tick
    return decision.kind, ticks


STAGES = (mk.RolloutStage(0.05, units=300), mk.RolloutStage(0.25, units=1000), HALF)
ONE = mk.RolloutPolicy(STAGES, (ERRORS,), horizon=3500)


def test_an_equal_candidate_is_promoted_through_all_stages_and_a_worse_one_is_rolled_back():
    ends = [run_to_end(ONE, 1.0, seed) for seed in range(20)]
    assert [kind for kind, _ in ends].count("rollback") == 0
    assert [kind for kind, _ in ends].count("promote") >= 18
    ends = [run_to_end(ONE, 3.0, seed) for seed in range(20)]
    assert [kind for kind, _ in ends].count("rollback") == 20


def test_at_the_margin_few_are_promoted():
    ends = [run_to_end(ONE, 1.5, seed, ticks=100)[0] for seed in range(100)]
    assert ends.count("promote") <= 4


def test_without_events_the_floor_promotes():
    kind, _ = run_to_end(ONE, 1.0, 0, rates={"errors": 0.0})
    assert kind == "promote"


def test_a_few_events_where_the_champion_has_none_do_not_roll_back():
    """Three errors in 20,000 calls of the candidate are evidence, and do not matter."""
    trial = Trial(mk.RolloutPolicy((CANARY,), (ERRORS,)), 0.0)
    for tick in range(1, 201):
        errors = Happened(ByArm(1 if tick in (50, 100, 150) else 0, 0))
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


def test_a_rise_of_all_errors_with_the_share_is_nobodys_fault():
    """Simpson: the share goes from .05 to .5 while errors rise from .5 to 2 %, in both arms."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        trial = Trial(mk.RolloutPolicy((mk.RolloutStage(0.05, units=1), HALF), (ERRORS,)), 0.0)
        for tick in range(1, 101):
            rate = 0.005 if tick <= 50 else 0.02
            counts = counts_of(rng, trial.in_stage.share, 1000, {"errors": rate}, 1.0)
            decision = trial.tick(counts, 10.0 * tick)
            assert decision.kind != "rollback"
            if tick == 50:
                trial.enter(1)


def keyed_run(seed, *, share, keys, calls, risk, even=False):
    """Pareto keys of which 5 % fail often, by arm; the evidence for a rollback and a promotion."""
    rng = np.random.default_rng(seed)
    guard = mk.Guard("errors", worse=1.2, better=1.5, floor=0.0)
    evidence = StreamEvidence("errors", guard, whole=False)
    weight = np.ones(keys) if even else rng.pareto(1.2, keys) + 0.1
    weight /= weight.sum()
    arm = rng.random(keys) < share
    rate = np.where(rng.random(keys) < 0.05, 0.3, 0.001) * np.where(arm, risk, 1.0)
    made = np.zeros(keys, int)
    bad = np.zeros(keys, int)
    stage = mk.RolloutStage(share)
    for _ in range(20):
        drawn = rng.choice(keys, calls // 20, p=weight)
        failed = rng.random(len(drawn)) < np.minimum(rate[drawn], 1)
        done = []
        for key, fails in zip(drawn.tolist(), failed.tolist(), strict=True):
            if made[key] < 20:
                made[key] += 1
                bad[key] += fails
                if made[key] == 20:
                    done.append(KeyDone(key, bool(arm[key]), {"errors": bad[key] / 20}))
        units = tuple((int(key), bool(arm[key])) for key in np.unique(drawn[failed]))
        failures = np.bincount(arm[drawn[failed]].astype(int), minlength=2).tolist()
        happened = Happened(keys=units, keyed=ByArm(failures[1], failures[0]))
        arms = ByArm(int(arm[drawn].sum()), int((~arm[drawn]).sum()))
        evidence.tick(stage, Counts(arms, events={"errors": happened}, done=tuple(done)))
    return evidence.log_worse, evidence.log_better


def test_keys_that_fail_often_raise_no_alarm():
    ends = [keyed_run(s, share=0.1, keys=2000, calls=20_000, risk=1.0)[0] for s in range(100)]
    assert sum(end >= math.log(100) for end in ends) <= 2


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


def test_means_of_keys_promote_an_equal_candidate_and_none_at_the_margin():
    equal = keyed_run(0, share=0.3, keys=25_000, calls=800_000, risk=1.0, even=True)[1]
    assert equal >= math.log(100)
    margin = [
        keyed_run(s, share=0.5, keys=2000, calls=60_000, risk=1.5, even=True)[1] for s in range(40)
    ]
    assert sum(end >= math.log(100) for end in margin) <= 2


def test_each_key_counts_once():
    firsts = FirstOfKeys()
    assert firsts.take(((1, True), (2, False), (1, True))) == (1, 1)
    assert firsts.take(((1, True), (3, False))) == (0, 1)
    assert firsts.take(tuple((key, False) for key in range(MOST_KEYS + 10))) == (0, MOST_KEYS - 3)
    assert firsts.full
    assert firsts.take(((-1, True),)) == (0, 0)


def test_the_counts_of_processes_add_up():
    rng = np.random.default_rng(0)
    parts = []
    for worker in range(3):
        keys = tuple((int(key), bool(key % 2)) for key in rng.integers(0, 50, 10))
        done = (KeyDone(worker, True, {"errors": 0.5}),)
        events = {"errors": Happened(ByArm(1, 2), keys)}
        arms = ByArm(100, 900)
        parts.append(Counts(arms, arms, keys, events, done, labels=(Label(0.5, worker, True, 0),)))
    whole = parts[0] + parts[1] + parts[2]
    assert whole.calls == ByArm(300, 2700)
    assert whole.events["errors"].plain == ByArm(3, 6)
    one, other = Trial(ONE, 0.0), Trial(ONE, 0.0)
    one.tick(whole, 10.0)
    other.tick(parts[2] + parts[0] + parts[1], 10.0)
    assert one.standing() == other.standing()


def test_late_counts_of_an_earlier_stage_are_weighed_with_its_share():
    trial = Trial(ONE, 0.0)
    early = counts_of(np.random.default_rng(0), 0.05, 1000, {"errors": 0.01}, 1.0)
    trial.tick(early, 10.0, 0)
    trial.tick(Counts(), 20.0, 1)
    assert (trial.stage, trial.in_stage) == (1, STAGES[1])
    trial.tick(early, 30.0, 0)
    assert trial.stage == 1
    assert trial.standing().units == 0
    assert trial.all_calls == early.calls + early.calls


def test_a_key_that_several_processes_complete_counts_once():
    evidence = StreamEvidence("errors", mk.Guard("errors"), whole=False)
    done = (KeyDone(1, False, {}), KeyDone(2, True, {"errors": 0.5}), KeyDone(2, True, {}))
    once = StreamEvidence("errors", mk.Guard("errors"), whole=False)
    once.tick(HALF, Counts(done=done[:2]))
    assert once._key_shares.log_worse > 0
    for again in (done, done[1:]):
        evidence.tick(HALF, Counts(done=again))
        assert evidence._key_shares.log_worse == once._key_shares.log_worse


def labels_of(rng, tick, arms, gap):
    return tuple(
        Label(float(rng.random() < 0.2 + gap * arm), tick * 1000 + i, arm, 0)
        for i, arm in enumerate(arms)
    )


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
            assert not decision.guards[0].void


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
    policy = mk.RolloutPolicy((mk.RolloutStage(0, units=500), HALF), guards)
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
        trial = Trial(mk.RolloutPolicy((mk.RolloutStage(1.0, units=100),), (guard,)), 0.0)
        for tick in range(1, 21):
            arms = ByArm(100, 0)
            events = {"errors": Happened(ByArm(int(100 * rate), 0))}
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


def test_the_way_of_the_evidence_is_kept_in_bounds():
    trial = Trial(ONE, 0.0)
    for tick in range(1, 5001):
        trial.tick(Counts(), 0.001 * tick)
    assert 900 < len(trial.points) <= 2001
    seconds = [point.seconds for point in trial.points]
    assert seconds == sorted(seconds)

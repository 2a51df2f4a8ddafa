"""The evidence of a rollout: no bet pays on the wrong side, by enumeration, and sizes hold in simulation."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.lifecycle.rollout.arms import (
    BETTER,
    MOST_SPANS,
    WORSE,
    Events,
    EventTimes,
    Worse,
    chance,
    log_better,
    log_gains,
    units_needed,
)
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened, KeyDone, Label
from modelkit.lifecycle.rollout.differences import LossDifferences, Pairing
from modelkit.lifecycle.rollout.guards import Guard
from modelkit.lifecycle.rollout.keyed import FreshKeys, WorseOfKeys
from modelkit.lifecycle.rollout.labels import LossEvidence
from modelkit.lifecycle.rollout.policy import RolloutStage
from modelkit.lifecycle.rollout.routing import WHOLE, hash_of, limit_of
from modelkit.lifecycle.rollout.weighing import StreamEvidence

SHARES = st.floats(0.001, 0.999)
MARGINS = st.floats(0.2, 5)


@given(SHARES, MARGINS, st.floats(0, 30))
def test_no_bet_on_arms_pays_on_its_wrong_side(share, margin, risk):
    theta = float(chance(share, np.array(risk)))
    for bets, wrong in ((WORSE, risk <= margin), (BETTER, risk >= margin)):
        in_candidate = np.exp(log_gains(Events(share, 1, 0), margin, bets))
        in_champion = np.exp(log_gains(Events(share, 0, 1), margin, bets))
        means = theta * in_candidate + (1 - theta) * in_champion
        if wrong:
            assert (means <= 1 + 1e-9).all()
        else:
            assert means.max() > 1 - 1e-9 or risk == margin


@given(st.lists(st.tuples(SHARES, st.integers(0, 30), st.integers(0, 30)), max_size=6), MARGINS)
def test_the_counts_of_workers_add_up_in_any_order(stages, margin):
    events = [Events(*stage) for stage in stages]
    whole = log_better(events, margin)
    parts = [Events(e.share, e.candidate, 0) for e in events]
    parts += [Events(e.share, 0, e.champion) for e in events]
    assert log_better(parts[::-1], margin) == pytest.approx(whole, rel=1e-9, abs=1e-9)


def test_no_events_are_no_evidence():
    assert log_better([Events(0.05, 0, 0)], 1.5) == pytest.approx(0)
    worse = Worse(1.2)
    for _ in range(1000):
        worse.tick(Events(0.05, 0, 0))
    assert worse.peak == pytest.approx(1)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.randoms())
def test_the_order_of_events_within_a_tick_does_not_count(arms, rng):
    counts = Events(0.1, sum(arms), len(arms) - sum(arms))
    one, again = Worse(1.2), Worse(1.2)
    one.tick(counts)
    again.tick(counts)
    assert (again.value, again.peak) == (one.value, one.peak)


def test_a_flood_of_events_overflows_nothing():
    worse = Worse(1.0)
    for _ in range(5):
        worse.tick(Events(0.01, 10**7, 0))
    assert math.isfinite(worse.peak)
    assert worse.peak > 1e100
    assert log_better([Events(0.5, 0, 10**7)], 1.5) > 1e6
    assert log_better([Events(0.5, 10**7, 0)], 1.5) < -1e5


def found_after(rng, runs, *, risk, ticks=200):
    """After how many units those runs roll back that do, at alpha .01 and a margin of 1.2."""
    margin, share, rate, calls = 1.2, 0.05, 0.01, 500
    found = []
    for _ in range(runs):
        worse = Worse(margin)
        rates = rate * (1 + 0.6 * np.sin(np.arange(ticks) / 30)) * rng.lognormal(0, 0.5, ticks)
        for tick in range(ticks):
            to_candidate = rng.binomial(calls, share)
            bad = rng.binomial(to_candidate, min(1, risk * rates[tick]))
            rest = rng.binomial(calls - to_candidate, min(1, rates[tick]))
            worse.tick(Events(share, bad, rest))
            if worse.peak >= 100:
                found.append((tick + 1) * calls)
                break
    return found


def test_an_equal_candidate_is_rolled_back_in_few_runs():
    assert len(found_after(np.random.default_rng(0), 200, risk=1.2, ticks=100)) <= 6


def test_a_worse_candidate_is_found_about_when_planned():
    found = found_after(np.random.default_rng(0), 20, risk=5.0)
    assert len(found) == 20
    assert np.median(found) < 3 * units_needed(0.01, 0.05, 5.0, 1.2, 0.01)


def first_and_all_events(rng, risk, *, keys=2_000, share=0.25, ticks=96, events=6.0):
    """What keys of `events` events each bring in each tick: the first of each key, and all."""
    candidate = rng.random(keys) < share
    rates = np.where(candidate, risk, 1.0) * events / ticks
    counts = rng.poisson(np.broadcast_to(rates[:, None], (keys, ticks)))
    first = counts.cumsum(axis=1).astype(bool) & (counts > 0)
    first &= (counts.cumsum(axis=1) - counts) == 0
    for tick in range(ticks):
        for found in (first[:, tick], counts[:, tick]):
            yield Events(share, int(found[candidate].sum()), int(found[~candidate].sum()))


def test_a_better_candidate_is_kept_though_its_keys_fail_later():
    """First events alone roll it back: the keys of the champion were used up before."""
    rng = np.random.default_rng(0)
    fooled = 0
    for _ in range(10):
        events = first_and_all_events(rng, 0.4)
        firsts, worse = Worse(1.2), WorseOfKeys(1.2)
        for first in events:
            firsts.tick(first)
            worse.tick(Events(0.25, 0, 0), first, next(events), np.zeros(0))
        fooled += firsts.peak >= 100
        assert worse.peak < 100
    assert fooled >= 8


def test_a_worse_candidate_is_found_by_first_events_and_all():
    rng = np.random.default_rng(0)
    for _ in range(5):
        events = first_and_all_events(rng, 2.5)
        worse = WorseOfKeys(1.2)
        for first in events:
            worse.tick(Events(0.25, 0, 0), first, next(events), np.zeros(0))
        assert worse.peak >= 100


def test_where_the_share_rises_the_keys_of_the_champion_are_drawn_anew():
    rng = np.random.default_rng(0)
    keys = [int(key) for key in rng.integers(0, WHOLE, 20_000, dtype=np.uint64)]
    fresh = FreshKeys()
    drawn = 0
    for share, expected in ((0.0, 0.0), (0.1, 0.1), (0.1, 0.1), (0.4, 0.3 / 0.9), (0.7, 0.5)):
        fresh.enter(share)
        assert fresh.share == pytest.approx(expected)
        if not share:
            continue
        units = tuple((key, key < limit_of(share)) for key in keys)
        inside, outside = fresh.take(units)
        assert fresh.take(units) == (0, 0)
        if inside:  # not where the share is the one before
            assert inside == pytest.approx(expected * (inside + outside), rel=0.05)
            drawn += 1
    assert drawn == 3
    assert not fresh.enter(0.4)  # counts of a stage before that come late
    fresh.enter(1.0)
    assert fresh.take(tuple((key, True) for key in keys)) == (20_000, 0)


def keys_of_stages(rng, risk):
    """The evidence of 2,000 keys that all fail in each of two stages, .2 and .6; worse in the second."""
    keys = [int(key) for key in rng.integers(0, WHOLE, 2_000, dtype=np.uint64)]
    evidence = StreamEvidence("errors", Guard("errors", floor=0.0), whole=False)
    for share, times in ((0.2, 1.0), (0.6, risk)):
        stage = RolloutStage(share)
        for _ in range(40):
            inside = [key < limit_of(share) for key in keys]
            failing = rng.random(len(keys)) < np.where(inside, 0.05 * times, 0.05)
            units = [(keys[i], inside[i]) for i in np.flatnonzero(failing)]
            arms = ByArm(sum(arm for _, arm in units), sum(not arm for _, arm in units))
            happened = Happened(keys=tuple(units), keyed=arms)
            evidence.tick(stage, Counts(events={"errors": happened}))
    return evidence.log_worse


def test_keys_that_were_used_up_are_evidence_again_in_the_next_stage():
    rng = np.random.default_rng(0)
    assert sum(keys_of_stages(rng, 1.0) >= math.log(100) for _ in range(20)) <= 1
    assert all(keys_of_stages(rng, 3.0) >= math.log(100) for _ in range(5))


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


def test_of_a_key_its_first_loss_counts():
    """2,000 losses of two keys are no more than two: the keys were drawn."""
    half = RolloutStage(0.5)
    evidence = LossEvidence(Guard("loss", margin=0.01), 0.01, (half,))
    for _ in range(1000):
        labels = (Label(0.0, 1, candidate=False, stage=0), Label(1.0, 2, candidate=True, stage=0))
        evidence.tick(half, Counts(labels=labels))
    assert evidence.weighed().worse < 1


def test_the_plan_is_that_of_its_formula():
    assert units_needed(0.01, 0.05, 2, 1.0, 0.01) == pytest.approx(36_000, rel=0.03)
    assert units_needed(0.01, 0.05, 5, 1.0, 0.01) == pytest.approx(3_600, rel=0.03)
    assert units_needed(0.001, 0.05, 2, 1.0, 0.01) == pytest.approx(360_000, rel=0.03)
    assert units_needed(0.01, 0.05, 1.5, 1.5, 0.01) == math.inf


@given(st.floats(0, 0.9), st.floats(0, 1))
def test_no_bet_on_losses_pays_on_its_wrong_side(margin, spread):
    """d is margin +- spread with equal probability, as far as -1 and 1 allow."""
    spread = min(spread, 1 - margin)
    logs = []
    for difference in (margin + spread, margin - spread):
        one = LossDifferences(margin)
        one.update(np.array([difference]))
        logs.append((one._worse, one._within))
    for side in (0, 1):
        mean = (np.exp(logs[0][side]) + np.exp(logs[1][side])) / 2
        assert (mean <= 1 + 1e-12).all()


def test_losses_decide_on_both_sides():
    rng = np.random.default_rng(0)
    for mean, worse, within in ((0.05, True, False), (-0.01, False, True)):
        evidence = LossDifferences(0.01)
        for _ in range(40):
            evidence.update(np.clip(rng.normal(mean, 0.11, 100), -1, 1))
        assert (evidence.log_worse >= math.log(100)) is worse
        assert (evidence.log_within >= math.log(100)) is within
    with pytest.raises(ValueError, match="from 0 to 1"):
        LossDifferences(0.01).update(np.array([1.5]))
    with pytest.raises(ValueError, match="from 0 to 1"):
        LossDifferences(0.01).update(np.array([np.nan]))
    with pytest.raises(ValueError, match="margin"):
        LossDifferences(1.0)


def test_arms_are_paired_in_the_order_of_labels():
    pairing = Pairing()
    assert pairing.take(0.5, candidate=True) is None
    assert pairing.take(0.2, candidate=False) is None
    assert pairing.take(0.4, candidate=False) is None
    assert pairing.take(0.5, candidate=True) == pytest.approx(0.2)
    assert pairing.take(0.5, candidate=True) is None


def test_a_larger_share_holds_the_keys_of_a_smaller_one():
    hashes = np.array([hash_of(f"customer-{i}", b"salt") for i in range(40_000)], dtype=object)
    for share in (0.01, 0.05, 0.25, 1.0):
        inside = (hashes < limit_of(share)).mean()
        assert inside == pytest.approx(share, abs=0.004)
    assert limit_of(0) == 0
    assert limit_of(1) == WHOLE
    tenths = np.bincount([h * 10 // WHOLE for h in hashes], minlength=10)
    assert ((tenths - 4000) ** 2 / 4000).sum() < 27.9  # chi-square of 9, .001


def test_salts_choose_independently():
    keys = [f"user-{i:06d}" for i in range(40_000)]
    limit = limit_of(0.05)
    first = np.array([hash_of(key, b"a") < limit for key in keys])
    second = np.array([hash_of(key, b"b") < limit for key in keys])
    assert (first & second).sum() == pytest.approx(100, abs=40)


def test_a_key_goes_the_same_way_in_every_process():
    keys = ["", "a", "\u00fc\ud800", "k" * 10_000_000]
    code = """
from modelkit.lifecycle.rollout.routing import hash_of
for key in ("", "a", "\\u00fc\\ud800", "k" * 10_000_000):
    print(hash_of(key, b"salt"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [int(line) for line in done.stdout.split()] == [hash_of(key, b"salt") for key in keys]
    assert hash_of("a", b"salt") == 3_101_220_326_410_650_856


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="from 0 to 1"):
        limit_of(share)


def promoted_in(ratio, runs, *, ill=0.01, minutes=0, seed=0):
    """In how many runs the events of a stage of 10 h at .5, after 4 h at .1, speak for a promotion.

    15 calls a minute, 1 % errors, ratio times as many in the candidate; after an hour of the last
    stage, the champion alone fails at the rate `ill` for so many minutes.
    """
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(runs):
        times = EventTimes()
        for share, span in ((0.1, 240), (0.5, 600)):
            for minute in range(span):
                calls = rng.poisson(15)
                candidate = rng.binomial(calls, share)
                sick = share == 0.5 and 60 <= minute < 60 + minutes
                events = (
                    rng.binomial(candidate, 0.01 * ratio),
                    rng.binomial(calls - candidate, ill if sick else 0.01),
                )
                times.add(Events(share, *map(int, events)))
        assert sum(ticks for *_, ticks in times._spans) == 840
        assert len(times._spans) <= MOST_SPANS
        pooled = [Events(*span[:3]) for span in times._spans]
        assert times.log_better(1.5) <= log_better(pooled, 1.5)
        found += times.log_better(1.5) >= np.log(20)
    return found


def test_what_the_champion_alone_went_through_promotes_no_bad_candidate():
    """30 % errors for half an hour promoted a candidate with twice the errors in .45 and more."""
    assert promoted_in(2.0, 15, ill=0.3, minutes=30) == 0
    assert promoted_in(0.5, 15) >= 14  # a better one is promoted as before
    assert promoted_in(0.5, 15, ill=0.3, minutes=30) >= 13


def test_counts_that_come_late_join_the_span_of_their_share():
    times = EventTimes()
    for share in (0.1, 0.1, 0.5, 0.1, 0.5, 0.1):
        times.add(Events(share, 1, 2))
    assert times._spans == [(0.1, 1, 2, 1), (0.1, 3, 6, 3), (0.5, 1, 2, 1), (0.5, 1, 2, 1)]

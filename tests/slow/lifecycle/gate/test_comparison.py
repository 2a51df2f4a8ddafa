"""How often the checks of a gate err, by simulation, and what their pure parts do at the edges."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from benchmarks.gate.worlds import answers, figure_check, right_or_wrong, scored
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.evaluation.paired import PairedDifference
from modelkit.lifecycle.gate.budgets import Measurements, median_check, plain_check, tail_check
from modelkit.lifecycle.gate.claims import Levels, no_harm, no_worse
from modelkit.lifecycle.gate.comparison import Comparison, RightCounts, compare_by
from modelkit.lifecycle.gate.holdout import share_of_alpha
from modelkit.lifecycle.gate.latency import TurnTimes, timed_turns
from modelkit.lifecycle.gate.policy import GateMetric, read_floor

ALPHA = 0.05
LEVELS = Levels(ALPHA, ALPHA, ALPHA)
WORLDS = {"accuracy": right_or_wrong, "roc_auc": scored, "log_loss": scored}


def outcome(metric, rng, n, margin, levels=LEVELS):
    X, y = WORLDS[metric](rng, n)
    return figure_check(metric, answers(X["b"], y), answers(X["a"], y), margin, levels)


@pytest.mark.parametrize("metric", WORLDS)
def test_equal_candidates_are_promoted_as_better_as_seldom_as_stated(metric):
    rng = np.random.default_rng(0)
    found = [outcome(metric, rng, 2000, 0).outcome for _ in range(400)]
    # .05 and three standard errors.
    assert np.mean([each == "pass" for each in found]) <= 0.083
    assert np.mean([each == "fail" for each in found]) <= 0.083


@pytest.mark.parametrize("metric", WORLDS)
def test_as_many_rows_as_are_needed_show_it_as_often_as_is_promised(metric):
    rng = np.random.default_rng(1)
    asked = [outcome(metric, rng, 2500, 0.01).rows_needed for _ in range(20)]
    n = int(np.mean([rows for rows in asked if rows is not None]))
    found = [outcome(metric, rng, n, 0.01).outcome == "pass" for _ in range(300)]
    assert abs(np.mean(found) - 0.8) <= 0.07


@pytest.mark.parametrize("metric", WORLDS)
def test_a_candidate_that_is_worse_by_its_margin_is_promoted_as_seldom_as_stated(metric):
    rng = np.random.default_rng(2)
    gains = {"accuracy": 0.01, "roc_auc": 0.0, "log_loss": 0.0}
    promoted = []
    for _ in range(300):
        if metric == "accuracy":
            X, y = right_or_wrong(rng, 2000, gain=-0.01)
        else:
            X, y = scored(rng, 2000)
        sides = (answers(X["b"], y), answers(X["a"], y))
        check = figure_check(metric, *sides, gains[metric], LEVELS)
        promoted.append(check.outcome == "pass")
    assert np.mean(promoted) <= 0.088


def test_20_candidates_on_one_hold_out():
    rng = np.random.default_rng(3)
    found = {True: [], False: []}
    for _ in range(80):
        better = rng.binomial(2000, 0.04, 20)
        worse = rng.binomial(2000, 0.04, 20)
        for counted, results in found.items():
            passed = False
            for use, (b, c) in enumerate(zip(better, worse, strict=True), start=1):
                counts = RightCounts(int(b), int(c), 2000)
                told = Comparison(PairedDifference((b - c) / 2000, 0.006, 2000), 2000, "", counts)
                levels = Levels(share_of_alpha(ALPHA, use if counted else 0), ALPHA, ALPHA)
                passed |= no_worse("accuracy", lambda told=told: told, 0, levels).outcome == "pass"
            results.append(passed)
    assert np.mean(found[True]) <= 0.12
    assert np.mean(found[False]) > 0.35


def test_20_equal_slices_hardly_ever_block_and_a_harmed_one_does():
    rng = np.random.default_rng(4)
    blocked = []
    for _ in range(60):
        X, y = right_or_wrong(rng, 2000)
        blocked.append(bool(failed(X, y, rng.integers(20, size=2000))))
    assert np.mean(blocked) <= 0.05
    X, y = right_or_wrong(rng, 10_000)
    region = rng.integers(20, size=10_000)
    harmed = (region == 7) & (rng.random(10_000) < 0.12) & ((X["b"] > 0) == y)
    X.loc[harmed, "b"] = -X.loc[harmed, "b"]
    assert failed(X, y, region) == ["7"]


def failed(X, y, region):
    sides = (answers(X["b"], y), answers(X["a"], y))
    cases = []
    for value in range(20):
        own = [side.at(np.flatnonzero(region == value)) for side in sides]
        compared = partial(compare_by, METRICS["binary"]["accuracy"], *own, seed=0)
        cases.append((str(value), "accuracy", 0.01, compared))
    return [check.name for check in no_harm(cases, ALPHA, "slice") if check.outcome == "fail"]


def test_estimates_are_the_differences_of_scikit_learns_figures():
    X, y = scored(np.random.default_rng(5), 3000)
    sides = (answers(X["b"], y), answers(X["a"], y))
    told = [side.answered.scores for side in sides]
    auc = roc_auc_score(y, told[0]) - roc_auc_score(y, told[1])
    loss = log_loss(y, told[1]) - log_loss(y, told[0])
    for metric, expected in (("roc_auc", auc), ("log_loss", loss)):
        check = figure_check(metric, *sides, 0.01, LEVELS)
        assert check.estimate == pytest.approx(expected, abs=1e-9)
        assert check.low < expected < check.high


def test_the_bootstrap_of_ones_own_metric_agrees_with_the_closed_form():
    X, y = scored(np.random.default_rng(6), 800)
    sides = (answers(X["b"], y), answers(X["a"], y))

    def own_loss(truth, outputs):  # called for thousands of draws, and scikit-learn's takes 1 ms
        likely = outputs["probabilities"][:, 1]
        return -np.log(np.where(truth == 1, likely, 1 - likely)).mean()

    own = GateMetric("own", own_loss, higher_is_better=False)
    closed = compare_by(METRICS["binary"]["log_loss"], *sides, seed=0)
    drawn = compare_by(own, *sides, seed=0)
    assert drawn.difference.value == pytest.approx(closed.difference.value)
    assert drawn.difference.error == pytest.approx(closed.difference.error, rel=0.1)
    assert compare_by(own, *sides, seed=0) == drawn  # the same seed, the same draws


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 2000), st.floats(0, 0.2))
@settings(max_examples=examples(200))
def test_shown_and_harm_exclude_each_other(better, worse, others, margin):
    n = better + worse + others + 1
    counts = RightCounts(better, worse, n)
    told = Comparison(PairedDifference((better - worse) / n, 0.01, n), n, "", counts)
    check = no_worse("accuracy", lambda: told, margin, LEVELS)
    exchanged = no_worse("accuracy", told.exchanged, margin, LEVELS)
    assert not (check.outcome == "fail" and exchanged.outcome == "fail")
    if check.outcome == "fail":
        assert exchanged.outcome == "pass"
    # A larger margin is easier to keep.
    wider = no_worse("accuracy", lambda: told, margin + 0.05, LEVELS)
    assert not (check.outcome == "pass" and wider.outcome != "pass")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 500), st.integers(0, 500))
def test_rows_that_both_answer_alike_do_not_change_who_is_better(better, worse, some, more):
    def p(others):
        counts = RightCounts(better, worse, better + worse + others)
        return Comparison(PairedDifference(0.0, 0.1, 9), counts.n, "", counts).p_above(0)

    assert p(some) == p(more)


def test_rows_that_no_unit_tells_apart_are_not_taken_for_proof():
    alike = Comparison(PairedDifference(0.0, 0.0, 20, worst=1 / 20), 20, "")
    assert alike.p_above(-0.01) > 0.3
    many = Comparison(PairedDifference(0.0, 0.0, 2000, worst=1 / 2000), 2000, "")
    assert many.p_above(-0.01) < 1e-4
    assert alike.p_above(0.01) > 0.5


def timed(ours, theirs, tail=0.0):
    rng = np.random.default_rng(7)
    times = [scale * np.exp(0.02 * rng.normal(size=(40, 20))) for scale in (ours, theirs)]
    times[0][:, :1] += tail
    return TurnTimes(*times)


def test_time_is_compared_by_its_ratio():
    outcomes = [
        median_check("p50_ratio", 1.2, timed(scale, 1e-4), LEVELS).outcome
        for scale in (1e-4, 1.2e-4, 1.5e-4)
    ]
    assert outcomes == ["pass", "unclear", "fail"]
    check = median_check("p50_ratio", 1.2, timed(1.1e-4, 1e-4), LEVELS)
    assert check.estimate == pytest.approx(1.1, rel=0.01)
    assert check.low < check.estimate < check.high
    assert median_check("p50_seconds", 2e-4, timed(1e-4, 1e-4), LEVELS).outcome == "pass"
    assert median_check("p50_seconds", 0.5e-4, timed(1e-4, 1e-4), LEVELS).outcome == "fail"


def test_the_slowest_calls_can_fail_and_are_not_required():
    slow = tail_check("p99_ratio", 2, timed(1e-4, 1e-4, tail=9e-4), LEVELS, 0)
    assert (slow.outcome, slow.required) == ("fail", False)
    assert tail_check("p99_ratio", 2, timed(1e-4, 1e-4), LEVELS, 0).outcome == "pass"


def test_sizes_are_compared_as_they_are():
    found = Measurements(300.0, 200.0)
    for name, limit, expected in (
        ("size_ratio", 1.5, "pass"),
        ("size_ratio", 1.4, "fail"),
        ("size_bytes", 300, "pass"),
        ("memory_bytes", 299, "fail"),
    ):
        assert plain_check(name, limit, found, "bytes").outcome == expected


def test_turns_are_timed_by_the_clock_that_is_given(boosting_mk, breast_cancer):
    import modelkit as mk

    with mk.load(boosting_mk) as model:
        feeds = model.signature.coerce(breast_cancer[0].head(3))
        ticks = iter(range(10_000_000))
        found = timed_turns((model, feeds), (model, feeds), lambda: next(ticks) * 1e-3)
    assert found.candidate.shape == found.champion.shape
    assert np.allclose(found.candidate, 1e-3)


def test_floors_are_read_from_texts():
    floor = read_floor("recall>=.6")
    assert (floor.metric, floor.at_least, floor.bound) == ("recall", True, 0.6)
    assert str(read_floor(" log_loss <= 4e-1 ")) == "log_loss <= 0.4"
    assert read_floor("recall") is None

"""How often the comparison of two sides errs, in simulation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from benchmarks.gate.worlds import answers, figure_check, right_or_wrong, scored
from helpers.judged import predicted

from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.claims import Levels, no_harm, no_worse
from modelkit.lifecycle.gate.comparison import Comparison, compare_by
from modelkit.lifecycle.gate.holdout import share_of_alpha
from modelkit.lifecycle.gate.policy import GateMetric
from modelkit.stats.paired import RightCounts

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
                told = Comparison(RightCounts(int(b), int(c), 2000), 2000, "")
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


def with_outliers(rng, n):
    return rng.normal(size=n) * np.where(rng.random(n) < 0.01, 10, 1)


def rarely_wrong(rng, n):
    return (rng.random(n) < 0.01) * 100.0


@pytest.mark.parametrize("errors", [with_outliers, rarely_wrong])
def test_a_root_of_squares_holds_its_level_where_a_few_errors_are_large(errors):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(600):
        sides = predicted(errors(rng, 200)), predicted(errors(rng, 200))
        compared = compare_by(METRICS["regression"]["rmse"], *sides, seed=0)
        found.append(
            (
                compared.difference.p_above(0) <= 0.05,
                compared.difference.exchanged().p_above(0) <= 0.05,
            )
        )
    # .05 and three standard errors; it was .08 and .14.
    assert (np.mean(found, axis=0) <= 0.077).all()

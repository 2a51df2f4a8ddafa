"""Rare rows that were not drawn promote as seldom as stated, in simulation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from helpers.judged import classified

import modelkit as mk
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.claims import Levels, floor_check, no_harm
from modelkit.lifecycle.gate.comparison import JudgedAnswers, compare_by
from modelkit.lifecycle.gate.policy import read_floor

ALPHA = 0.05


LEVELS = Levels(ALPHA, ALPHA, ALPHA)


def rare_group(rng, n):
    """The candidate is the champion, and on 1 row in 200 surely wrong: log loss .06 worse."""
    x = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-2 * x))).astype(np.int64)
    usual = 1 / (1 + np.exp(-2 * x))
    odd = np.where(rng.random(n) < 1 / 200, 1e-6 + (1 - 2e-6) * (1 - y), usual)
    return classified(y, odd), classified(y, usual)


def rare_positives(rng, n):
    """3 % are positive; the candidate finds a third, and the champion half of them."""
    y = (rng.random(n) < 0.03).astype(np.int64)
    found = [y * (rng.random(n) < share) + 0.01 * rng.random(n) for share in (1 / 3, 1 / 2)]
    return tuple(classified(y, np.clip(each, 0.01, 0.99)) for each in found)


def heavy(rng, n):
    """Squares without a variance: on long ways the candidate is farther off."""
    y = 20 * (rng.pareto(2.2, n) + 1)
    base = y + 5 * rng.normal(size=n)
    sides = []
    for told in (np.minimum(base, 400), base):
        answered = Answered("regression", y[:, None], told[:, None])
        sides.append(JudgedAnswers(answered, y, {"prediction": told}))
    return tuple(sides)


def own_share(span=None):
    def surprised(truth, outputs):
        return np.mean(np.abs(outputs["probabilities"][:, 1] - truth) > 0.99)

    return mk.GateMetric("surprised", surprised, higher_is_better=False, bounds=span)


CELLS = {
    "log loss of a rare group": (rare_group, "log_loss", 300, 100),
    "Brier of a rare group": (rare_group, "brier", 600, 100),
    "own metric of a rare group": (rare_group, own_share(), 200, 12),
    "own bounded metric of a rare group": (rare_group, own_share((0, 1)), 200, 12),
    "recall of rare positives": (rare_positives, "recall", 200, 150),
    "balanced accuracy of rare positives": (rare_positives, "balanced_accuracy", 200, 150),
    "area of rare positives": (rare_positives, "roc_auc", 300, 150),
    "rmse without a variance": (heavy, "rmse", 1000, 100),
    "r2 without a variance": (heavy, "r2", 1000, 100),
}


@pytest.mark.parametrize("cell", CELLS)
def test_a_candidate_at_its_margin_is_hardly_ever_promoted(cell):
    world, metric, n, runs = CELLS[cell]
    many = world(np.random.default_rng(0), 100_000)
    if isinstance(metric, str):
        metric = METRICS[many[0].answered.kind][metric]
        worse = -1 if metric.higher_is_better else 1
        figures = [metric.measure(each.answered).value for each in many]
    else:
        worse = 1
        figures = [metric.figure(each.truth, each.outputs) for each in many]
    margin = worse * (figures[0] - figures[1])
    assert margin > 0
    rng = np.random.default_rng(1)
    found = [
        compare_by(metric, *world(rng, n), seed=0).difference.p_above(-margin) <= ALPHA
        for _ in range(runs)
    ]
    assert np.mean(found) <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / runs)  # they were .2 to .6


def test_skewed_losses_of_equal_slices_block_as_seldom_as_stated():
    """The champion's losses are rare and large: slices without one "showed harm" in .5 to .8."""
    rng = np.random.default_rng(3)
    blocked = []
    for _ in range(20):
        y = (rng.random(2000) < 0.02).astype(np.int64)
        sure = classified(y, np.full(2000, 0.001))
        odd = classified(y, np.full(2000, 0.0965))  # the same mean loss
        part = rng.integers(20, size=2000)
        cases = []
        for value in range(20):
            rows = np.flatnonzero(part == value)
            compared = partial(
                compare_by, METRICS["binary"]["log_loss"], odd.at(rows), sure.at(rows), seed=0
            )
            cases.append((str(value), "log_loss", 0.01, compared))
        blocked.append(any(each.outcome == "fail" for each in no_harm(cases, ALPHA, "slice")))
    assert np.mean(blocked) <= 0.05


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_broken_clusters_that_were_not_drawn_are_allowed_for(metric):
    rng = np.random.default_rng(4)
    which = np.repeat(np.arange(40), 10)
    promoted = []
    for _ in range(100):
        y = rng.integers(0, 2, 400)
        usual = np.where(y, 0.8, 0.2)
        broken = np.where((rng.random(40) < 0.05)[which], 1 - usual, usual)
        sides = (classified(y, each, clusters=which) for each in (broken, usual))
        worse = 0.05 * (1 if metric == "accuracy" else np.log(4))
        compared = compare_by(METRICS["binary"][metric], *sides, seed=0)
        promoted.append(compared.difference.p_above(-worse) <= ALPHA)
    assert np.mean(promoted) <= 0.05  # .13: no broken one is drawn


def test_floors_of_what_the_rows_do_not_show():
    rng = np.random.default_rng(5)
    shown = {"rmse": [], "log_loss": []}
    for _ in range(100):
        candidate, _ = heavy(rng, 3000)  # with fewer, none of the capped rows may be there
        floor = read_floor("rmse <= 31.5")  # it is 31.9
        check = floor_check(floor, METRICS["regression"]["rmse"], candidate.answered, LEVELS)
        shown["rmse"].append(check.outcome == "pass")
        candidate, _ = rare_group(rng, 300)
        floor = read_floor("log_loss <= 0.46")  # it is .47
        check = floor_check(floor, METRICS["binary"]["log_loss"], candidate.answered, LEVELS)
        shown["log_loss"].append(check.outcome == "pass")
    assert {name: np.mean(each) <= 0.05 for name, each in shown.items()} == dict.fromkeys(
        shown, True
    )

"""The gap between training rows and others, and how far that tells them apart."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.evaluated import (
    binary,
    checked,
    clustering,
    multiclass,
    multilabel,
    ranking,
    regression,
    saved,
    told,
)
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_curve
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.gap import TrainingGap, membership_advantage, verdict_on_fit


def test_a_gap_has_an_interval_and_a_sentence(evaluation):
    gaps = {gap.name: gap for gap in evaluation.gaps}
    gap = gaps["roc_auc"]
    assert gap.gap == pytest.approx(gap.train - gap.held_out)
    assert gap.low < gap.gap < gap.high
    assert gaps["log_loss"].gap == pytest.approx(gaps["log_loss"].held_out - gaps["log_loss"].train)
    assert "held-out ones" in evaluation.fit


def test_a_tree_that_learned_its_rows_by_heart_looks_overfitted(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = (X[:, 0] + rng.normal(0, 1.5, 600) > 0).astype(int)
    with saved(DecisionTreeClassifier(random_state=0).fit(X[:300], y[:300]), X, tmp_path) as model:
        deep = mk.evaluate(model, X[300:], y[300:], train=(X[:300], y[:300]))
    assert deep.fit.startswith("It looks overfitted: roc_auc 1 on training rows")
    with saved(LogisticRegression().fit(X[:300], y[:300]), X, tmp_path) as model:
        plain = mk.evaluate(model, X[300:], y[300:], train=(X[:300], y[:300]))
    assert plain.fit.startswith("It does not look overfitted")
    noise = rng.integers(2, size=600)
    with saved(LogisticRegression().fit(X[:300], noise[:300]), X, tmp_path) as model:
        none = mk.evaluate(model, X[300:], noise[300:], train=(X[:300], noise[:300]))
    assert none.fit.startswith("It looks underfitted")


@pytest.mark.parametrize(
    ("held_out", "looks"), [(0.98, "does not look"), (0.9, "looks a little"), (0.7, "looks")]
)
def test_a_gap_that_is_sure_and_small_is_not_called_overfitting(held_out, looks):
    """0.985 on training rows and 0.98 on others "looked a little overfitted"."""
    gap = 0.985 - held_out
    found = TrainingGap("r2", 0.985, held_out, gap, 0.9 * gap, 1.1 * gap)
    values = np.zeros(9)
    answered = Answered("regression", values[:, None], values[:, None])
    assert verdict_on_fit((found,), answered).startswith(f"It {looks} overfitted: r2 0.985 on")


def advantage(trained, held_out):
    return membership_advantage(trained, held_out, 0.95)


def by_scikit_learn(trained, held_out, losses):
    """The largest difference of true and false positive rate of an attacker who goes by the losses."""
    before, after = losses(trained), losses(held_out)
    false, true, _ = roc_curve(
        np.repeat([1, 0], [len(before), len(after)]),
        -np.concatenate([before, after]),
        sample_weight=np.concatenate([trained.weight, held_out.weight]),
    )
    return (true - false).max()


@pytest.mark.parametrize(
    ("rows", "losses"),
    [
        (binary, lambda a: a.probabilities[np.arange(len(a)), 1 - a.truth]),
        (multiclass, lambda a: -np.log(a.probabilities[np.arange(len(a)), a.truth])),
        (
            multilabel,
            lambda a: -np.log(np.where(a.truth, a.probabilities, 1 - a.probabilities)).sum(axis=1),
        ),
        (regression, lambda a: np.abs(a.predicted - a.truth)[:, 0]),
    ],
)
def test_the_advantage_is_that_of_the_best_threshold_on_the_loss(rows, losses):
    for seed in range(5):
        sides = rows(80, 2 * seed), rows(120, 2 * seed + 1)
        found = advantage(*sides)
        assert found.value == pytest.approx(by_scikit_learn(*sides, losses))
        assert 0 <= found.low < found.value < found.high <= 1


def test_without_probabilities_scores_tell_and_without_scores_whether_it_is_right():
    sides = [binary(200, seed) for seed in range(2)]
    by_scores = [replace(side, probabilities=None) for side in sides]
    own = by_scikit_learn(*by_scores, lambda a: np.where(a.truth, -a.scores, a.scores))
    assert advantage(*by_scores).value == pytest.approx(own)
    many = [replace(multiclass(200, seed), probabilities=None) for seed in range(2)]
    own = by_scikit_learn(*many, lambda a: -a.scores[np.arange(len(a)), a.truth])
    assert advantage(*many).value == pytest.approx(own)
    for rows in (binary, multiclass, multilabel):
        sides = [replace(rows(200, seed), probabilities=None, scores=None) for seed in range(2)]
        right = [
            np.average((a.truth == a.predicted).reshape(200, -1).all(axis=1), weights=a.weight)
            for a in sides
        ]
        assert advantage(*sides).value == pytest.approx(max(right[0] - right[1], 0))


def test_probabilities_that_round_to_one_are_told_apart():
    """An overfitted network gives float32 of 1 to all; the other class has 1e-12 of some, 1e-9 of others."""
    ones = np.ones(100)
    truth = ones.astype(int)
    both = [np.column_stack([ones * p, ones]) for p in (1e-12, 1e-9)]
    sides = [Answered("binary", truth, truth, each, each[:, 1], (0, 1)) for each in both]
    assert advantage(*sides).value == 1


@pytest.mark.parametrize("kind", [clustering, ranking])
def test_a_task_whose_rows_have_no_loss_says_so(kind):
    found = advantage(kind(seed=0), kind(seed=1))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert str(found) == (
        f"membership_advantage undefined: a loss for each row is not defined for a {kind.__name__} task"
    )


def test_answers_that_are_no_numbers_have_no_advantage():
    rows = binary(weighted=False)
    rows.probabilities[:3] = np.nan
    assert advantage(rows, binary(seed=1)).why == "3 of 400 scores are NaN"


def test_a_model_that_learned_its_rows_by_heart_gives_them_away(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = (X[:, 0] + rng.normal(0, 1.5, 600) > 0).astype(int)
    found = {}
    for fitted in (DecisionTreeClassifier(random_state=0), LogisticRegression(), LinearSVC()):
        with saved(fitted.fit(X[:300], y[:300]), X, tmp_path) as model:
            whole = checked(mk.evaluate(model, X[300:], y[300:], train=(X[:300], y[:300])))
        found[type(fitted).__name__] = whole["membership_advantage"]
    deep, plain, svm = found.values()
    wrong = np.mean(
        DecisionTreeClassifier(random_state=0).fit(X[:300], y[:300]).predict(X[300:]) != y[300:]
    )
    assert deep.value == pytest.approx(wrong)  # its leaves are pure, so it is right or wrong
    assert deep.low > 0.2
    assert plain.low == svm.low == 0
    assert plain.high < 0.2
    assert deep.higher_is_better is False


def test_a_regressor_gives_its_rows_away(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    y = X @ [1, 2, 3] + rng.normal(size=600)
    train = (X[:300], y[:300])
    deep, plain = (
        mk.evaluate(saved(each.fit(*train), X, tmp_path), X[300:], y[300:], train=train)
        for each in (RandomForestRegressor(20, random_state=0), LinearRegression())
    )
    assert deep["membership_advantage"].low > 0.3
    assert plain["membership_advantage"].low == 0


def test_it_is_shown_wherever_figures_are(evaluation, model, held):
    found = evaluation["membership_advantage"]
    line = f"membership_advantage {found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
    assert f"  {line}\n" in str(evaluation)
    assert line.split(" ", 1)[1] in evaluation._repr_html_()
    assert re.search(r"<td>membership_advantage.*?<svg", evaluation.to_html())
    frame = evaluation.to_dataframe().set_index("metric")
    assert frame.loc["membership_advantage", "high"] == found.high
    assert "membership_advantage" not in [
        figure.name for figure in mk.evaluate(model, *held).figures
    ]


def test_rows_of_one_cluster_count_as_one():
    model, X = told(np.tile([[0.3, 0.7], [0.6, 0.4]], (60, 1)))
    rows = pd.DataFrame(X, columns=["p0", "p1"]).assign(person=np.arange(120) // 6)
    y = np.tile([1, 0], 60)
    alone = mk.evaluate(model, rows.drop(columns="person"), y, train=(X, y))
    together = mk.evaluate(model, rows, y, train=(rows, y), clusters="person")
    a, b = (found["membership_advantage"] for found in (alone, together))
    assert (a.value, a.low, b.value, b.low) == (0, 0, 0, 0)
    assert a.high == pytest.approx(0.98 * (2 / 120) ** 0.5, rel=0.02)
    assert b.high == pytest.approx(0.98 * (2 / 20) ** 0.5, rel=0.06)
    # The training rows have no persons here.
    values = mk.evaluate(
        model, rows.drop(columns="person"), y, train=(X, y), clusters=rows["person"]
    )
    found = values["membership_advantage"]
    assert (found.value, found.low, found.high) == (0, None, None)
    assert "name the column of X that holds the clusters of both" in str(found)


def test_weights_stand_for_rows_and_tell_less_than_rows():
    rng = np.random.default_rng(0)
    times = rng.integers(1, 4, 60)
    sides = [binary(60, seed, weighted=False) for seed in (0, 1)]
    repeated = advantage(*(side.at(np.repeat(np.arange(60), times)) for side in sides))
    weighted = advantage(*(replace(side, weights=times.astype(float)) for side in sides))
    assert weighted.value == pytest.approx(repeated.value)
    assert weighted.high - weighted.low > repeated.high - repeated.low


def test_a_shift_between_the_two_sides_is_told_apart_as_well():
    """What the page warns of: test rows of another population look as if the others had been learned."""
    easy, hard = (np.repeat([[1 - p, p]], 400, axis=0) for p in (0.9, 0.6))
    model, X = told(np.concatenate([easy, hard]))
    y = np.ones(800, int)
    found = mk.evaluate(model, X[400:], y[400:], train=(X[:400], y[:400]))
    assert found["membership_advantage"].low > 0.8


@pytest.mark.parametrize(("m", "n"), [(40, 40), (300, 100)])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.5])
def test_the_interval_holds_the_advantage_in_the_population(m, n, shift):
    """Of a fixed model, whose errors are N(0, 1) on training rows and larger by exp(shift) on others."""
    rng = np.random.default_rng(0)
    scale = np.exp(shift)
    at = np.sqrt(2 * shift / (1 - scale**-2)) if shift else 0.0  # where both densities are equal
    true = 2 * (stats.norm.cdf(at) - stats.norm.cdf(at / scale))
    missed = []
    for _ in range(400):
        before, after = rng.normal(size=(m, 1)), scale * rng.normal(size=(n, 1))
        found = advantage(*(Answered("regression", 0 * e, e) for e in (before, after)))
        missed.append((found.low > true, found.high < true))
    # More than this come once in a thousand runs where each end misses with a probability of .025.
    assert (np.sum(missed, axis=0) <= stats.binom.isf(1e-3, 400, 0.025)).all()

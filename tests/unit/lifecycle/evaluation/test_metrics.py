"""Every metric is scikit-learn's, and its influences are what a row adds: derivatives, errors, reasons."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evaluated import (
    binary,
    clustering,
    multiclass,
    multilabel,
    ranking,
    rare_classes,
    regression,
    value,
)
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from modelkit.lifecycle.evaluation.answered import Answered, any_clusters
from modelkit.lifecycle.evaluation.class_metrics import CLIP
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.stats.influence import Undefined, standard_error
from modelkit.stats.ranks import ndcg_by_query, precision_by_query, ranked
from modelkit.stats.tests import bootstrap


@pytest.mark.filterwarnings("ignore:Setting penalty=None")  # of scikit-learn 1.8, for C=np.inf
def test_figures_of_two_classes_are_those_of_sklearn():
    a = binary()
    y, f, p, w = a.truth, a.predicted, a.scores, a.weights
    expected = {
        "accuracy": sk.accuracy_score(y, f, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, f, sample_weight=w),
        "precision": sk.precision_score(y, f, sample_weight=w),
        "recall": sk.recall_score(y, f, sample_weight=w),
        "f1": sk.f1_score(y, f, sample_weight=w),
        "matthews": sk.matthews_corrcoef(y, f, sample_weight=w),
        "roc_auc": sk.roc_auc_score(y, p, sample_weight=w),
        "average_precision": sk.average_precision_score(y, p, sample_weight=w),
        "log_loss": sk.log_loss(y, p, sample_weight=w),
        "brier": sk.brier_score_loss(y, p, sample_weight=w),
    }
    for name, each in expected.items():
        assert value(a, name) == pytest.approx(each, rel=1e-9), name
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(np.log(p / (1 - p))[:, None], y, w)
    assert value(a, "calibration_slope") == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
    assert value(a, "calibration_intercept") == pytest.approx(
        fitted.intercept_[0], rel=1e-4, abs=1e-4
    )
    assert set(METRICS["binary"]) == {
        *expected,
        "calibration_error",
        "calibration_slope",
        "calibration_intercept",
    }


def test_figures_of_many_classes_are_those_of_sklearn():
    a = multiclass()
    y, f, p, w = a.truth, a.predicted, a.probabilities, a.weights
    each = [(y == k, p[:, k]) for k in range(3)]
    expected = {
        "accuracy": sk.accuracy_score(y, f, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, f, sample_weight=w),
        "f1_macro": sk.f1_score(y, f, sample_weight=w, average="macro"),
        "matthews": sk.matthews_corrcoef(y, f, sample_weight=w),
        "roc_auc": np.mean([sk.roc_auc_score(held, told, sample_weight=w) for held, told in each]),
        "average_precision": np.mean(
            [sk.average_precision_score(held, told, sample_weight=w) for held, told in each]
        ),
        "log_loss": sk.log_loss(y, p, sample_weight=w),
        "brier": sk.brier_score_loss(y, p, sample_weight=w),
    }
    for name, figure in expected.items():
        assert value(a, name) == pytest.approx(figure, rel=1e-9), name


def test_figures_of_labels_are_those_of_sklearn():
    a = multilabel()
    y, f, p, w = a.truth, a.predicted, a.probabilities, a.weights
    losses = [sk.log_loss(y[:, k], p[:, k].clip(CLIP, 1 - CLIP), sample_weight=w) for k in range(4)]
    expected = {
        "accuracy": sk.accuracy_score(y, f, sample_weight=w),
        "hamming_loss": sk.hamming_loss(y, f, sample_weight=w),
        "f1_macro": sk.f1_score(y, f, sample_weight=w, average="macro"),
        "f1_micro": sk.f1_score(y, f, sample_weight=w, average="micro"),
        "roc_auc": sk.roc_auc_score(y, p, sample_weight=w),
        "average_precision": sk.average_precision_score(y, p, sample_weight=w),
        "log_loss": np.mean(losses),
    }
    for name, figure in expected.items():
        assert value(a, name) == pytest.approx(figure, rel=1e-9), name


@pytest.mark.parametrize("outputs", [1, 3])
def test_figures_of_numbers_are_those_of_sklearn(outputs):
    a = regression(outputs=outputs)
    y, f, w = a.truth, a.predicted, a.weights
    expected = {
        "mae": sk.mean_absolute_error(y, f, sample_weight=w),
        "rmse": sk.root_mean_squared_error(y, f, sample_weight=w),
        "r2": sk.r2_score(y, f, sample_weight=w),
        "mean_error": np.average((f - y).mean(1), weights=w),
    }
    assert {name: value(a, name) for name in METRICS["regression"]} == pytest.approx(
        expected, rel=1e-9
    )


def test_figures_of_queries_are_those_of_sklearn():
    a = ranking()
    rows = ranked(a.scores, a.truth, a.queries)
    gains, precisions = [], []
    for query in range(30):
        own = a.queries == query
        gains.append(
            sk.ndcg_score([a.truth[own]], [a.scores[own]], k=5) if own.sum() > 1 else np.nan
        )
        precisions.append(sk.average_precision_score(a.truth[own] > 0, a.scores[own]))
    assert ndcg_by_query(rows, 5) == pytest.approx(np.array(gains), abs=1e-9)
    assert precision_by_query(rows) == pytest.approx(np.array(precisions), abs=1e-9)
    assert value(a, "mean_average_precision") == pytest.approx(np.mean(precisions))


def test_a_query_without_relevant_rows_is_left_out():
    gain = np.array([0.0, 0, 1, 0])
    a = Answered("ranking", gain, scores=np.array([2.0, 1, 2, 1]), queries=np.array([0, 0, 1, 1]))
    assert value(a, "ndcg@10") == 1
    with pytest.raises(Undefined, match="no query"):
        value(a.at(np.arange(2)), "ndcg@10")


def test_figures_of_clusterings_are_those_of_sklearn():
    a = clustering()
    expected = {
        "adjusted_rand": sk.adjusted_rand_score(a.truth, a.predicted),
        "v_measure": sk.v_measure_score(a.truth, a.predicted),
        "homogeneity": sk.homogeneity_score(a.truth, a.predicted),
        "completeness": sk.completeness_score(a.truth, a.predicted),
    }
    assert {name: value(a, name) for name in METRICS["clustering"]} == pytest.approx(
        expected, rel=1e-9
    )
    same = Answered("clustering", np.zeros(3, int), np.zeros(3, int))
    assert [value(same, name) for name in METRICS["clustering"]] == [1, 1, 1, 1]


SMOOTH = [
    (answered, name)
    for answered in (binary(60), multiclass(60), multilabel(60), regression(60, outputs=2))
    for name in METRICS[answered.kind]
    if name != "calibration_error"  # what chance adds is taken for fixed, and rows change bins
]


@pytest.mark.parametrize(
    ("answered", "name"), SMOOTH, ids=[f"{a.kind}-{name}" for a, name in SMOOTH]
)
def test_the_influence_is_the_derivative_by_the_weight(answered, name):
    whole = METRICS[answered.kind][name].measure(answered)
    assert whole.influence.sum() == pytest.approx(0, abs=1e-7)
    rel = 0.08 if name == "roc_auc" else 1e-3  # DeLong has n - 1 of each kind of row
    for row in (0, 7, 31):
        times = np.ones(len(answered))
        step = 1e-5
        times[row] = 1 + step
        up = value(answered.weighted(times), name)
        times[row] = 1 - step
        slope = (up - value(answered.weighted(times), name)) / (2 * step)
        assert whole.influence[row] == pytest.approx(slope, rel=rel, abs=1e-8)


@pytest.mark.parametrize(
    "answered", [binary(400, weighted=False), regression(400), clustering(400), ranking(900)]
)
def test_standard_errors_are_those_of_the_bootstrap(answered):
    rng = np.random.default_rng(1)
    for name, each in METRICS[answered.kind].items():
        error = standard_error(each.measure(answered).influence, any_clusters(answered))
        if answered.kind in ("clustering", "ranking"):
            units = len(answered) if answered.clusters is None else answered.clusters.max() + 1

            def drawn(times, each=each):
                return each.measure(answered.at(np.repeat(np.arange(len(times)), times))).value

            if answered.kind == "ranking":
                one = [each.measure(answered.at(answered.queries == q)).value for q in range(units)]
                assert error == pytest.approx(np.std(one, ddof=1) / np.sqrt(units), rel=1e-9)
                continue
            draws = bootstrap(drawn, len(answered), 150, rng)
        else:
            draws = bootstrap(
                lambda times, each=each: each.measure(answered.weighted(times)).value,
                len(answered),
                150,
                rng,
            )
        assert error == pytest.approx(draws.std(), rel=0.3), name


def one_class(kind=1):
    told = np.array([0.2, 0.6, 0.7])
    return Answered(
        "binary",
        np.full(3, kind),
        (told > 0.5).astype(int),
        np.column_stack([1 - told, told]),
        told,
        (0, 1),
    )


@pytest.mark.parametrize(
    ("answered", "name", "reason"),
    [
        (one_class(), "roc_auc", "no row is negative"),
        (one_class(0), "average_precision", "no row is positive"),
        (one_class(0), "recall", "no row has the class"),
        (one_class(), "calibration_slope", "came out the same"),
        (one_class(), "matthews", "all true classes are equal"),
        (
            Answered("binary", np.array([0, 1]), np.array([0, 0]), classes=(0, 1)),
            "precision",
            "predicted to have",
        ),
        (
            Answered("binary", np.array([0, 1]), np.array([0, 0]), classes=(0, 1)),
            "log_loss",
            "no probabilities",
        ),
        (
            Answered("binary", np.array([0, 1]), scores=np.array([np.nan, 1]), classes=(0, 1)),
            "roc_auc",
            "1 of 2 scores",
        ),
        (Answered("regression", np.ones((3, 1)), np.zeros((3, 1))), "r2", "variance is 0"),
        (Answered("regression", np.ones((3, 1)), np.full((3, 1), np.nan)), "mae", "3 of 3 errors"),
        (
            Answered("regression", np.ones((2, 1)), np.ones((2, 1)), weights=np.zeros(2)),
            "mae",
            "every row has the weight 0",
        ),
        (Answered("clustering", np.zeros(1), np.zeros(1)), "adjusted_rand", "not two rows"),
        (
            Answered("clustering", np.zeros(2), np.zeros(2), weights=np.ones(2)),
            "v_measure",
            "cannot be weighted",
        ),
        (Answered("ranking", np.ones(2), scores=np.ones(2)), "ndcg@10", "one query"),
    ],
)
def test_what_is_not_defined_says_why(answered, name, reason):
    with pytest.raises(Undefined, match=reason):
        value(answered, name)


def test_probabilities_that_separate_have_no_slope():
    told = np.array([0.1, 0.2, 0.8, 0.9])
    apart = Answered(
        "binary", np.array([0, 0, 1, 1]), None, np.column_stack([1 - told, told]), told, (0, 1)
    )
    with pytest.raises(Undefined, match="separate"):
        value(apart, "calibration_slope")
    flat = Answered("binary", np.array([0, 1]), None, np.full((2, 2), 0.5), np.full(2, 0.5), (0, 1))
    with pytest.raises(Undefined, match="a slope cannot be fitted"):
        value(flat, "calibration_slope")


@pytest.mark.parametrize("extreme", [0.2, 0.5, 2.0, 3.0])
def test_probabilities_that_are_too_extreme_have_a_low_slope(extreme):
    rng = np.random.default_rng(3)
    logit = rng.uniform(-4, 4, 3000)
    came = (rng.random(3000) < 1 / (1 + np.exp(-logit))).astype(int)

    def slope(times):
        told = 1 / (1 + np.exp(-times * logit))
        rows = Answered("binary", came, None, np.column_stack([1 - told, told]), told, (0, 1))
        return value(rows, "calibration_slope")

    assert slope(1.0) == pytest.approx(1, abs=0.1)
    assert slope(extreme) == pytest.approx(slope(1.0) / extreme, rel=1e-5)


def test_calibrated_probabilities_have_no_calibration_error():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        p = rng.uniform(0.05, 0.95, 500)
        came = (rng.random(500) < p).astype(int)
        found.append(
            value(
                Answered("binary", came, None, np.column_stack([1 - p, p]), p, (0, 1)),
                "calibration_error",
            )
        )
    assert abs(np.mean(found)) < 0.006


def test_a_class_without_rows_leaves_the_average_without_an_interval():
    rows = rare_classes(500, 0)
    rows = rows.at(rows.truth < 3)
    for name in ("balanced_accuracy", "f1_macro"):
        each = METRICS["multiclass"][name]
        with pytest.raises(Undefined, match="no row has the class 3, which belongs to the average"):
            each.interval(each.measure(rows), rows)


def test_a_class_that_is_hardly_predicted_has_a_correlation_without_an_interval():
    truth = (np.arange(1000) < 24).astype(int)
    predicted = np.isin(np.arange(1000), (500, 501)).astype(int)
    rows = Answered("binary", truth, predicted, classes=(0, 1))
    each = METRICS["binary"]["matthews"]
    with pytest.raises(Undefined, match="rests on 2 independent rows"):
        each.interval(each.measure(rows), rows)

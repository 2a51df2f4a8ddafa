"""Every metric is scikit-learn's, and its influences are what a row adds: derivatives, intervals, reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.class_metrics import CLIP
from modelkit.lifecycle.evaluation.intervals import standard_error, wilson
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.evaluation.paired import bootstrap
from modelkit.lifecycle.evaluation.query_ranks import ndcg_by_query, precision_by_query, ranked
from modelkit.lifecycle.evaluation.skewness import unskewed
from modelkit.lifecycle.evaluation.sums import Undefined


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def binary(n=200, seed=0, *, weighted=True):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(np.int64)
    told = np.round(1 / (1 + np.exp(-(rng.normal(size=n) + 2.0 * truth - 1))), 2).clip(0.01, 0.99)
    return Answered(
        "binary",
        truth,
        (told > 0.5).astype(np.int64),
        np.column_stack([1 - told, told]),
        told,
        (0, 1),
        rng.uniform(0.2, 3, n) if weighted else None,
    )


def multiclass(n=200, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=n)
    told = softmax(rng.normal(size=(n, 3)) + 1.3 * np.eye(3)[truth])
    return Answered(
        "multiclass", truth, told.argmax(1), told, told, (0, 1, 2), rng.uniform(0.2, 3, n)
    )


def multilabel(n=200, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 4)) < [0.5, 0.3, 0.2, 0.6]).astype(np.float64)
    told = 1 / (1 + np.exp(-(rng.normal(size=(n, 4)) + 2 * truth - 1)))
    return Answered("multilabel", truth, (told > 0.5) * 1.0, told, told, (), rng.uniform(0.2, 3, n))


def regression(n=200, seed=0, outputs=1):
    rng = np.random.default_rng(seed)
    truth = rng.normal(3, 2, size=(n, outputs))
    return Answered(
        "regression",
        truth,
        truth + rng.normal(0.1, 0.7, (n, outputs)),
        weights=rng.uniform(0.2, 3, n),
    )


def ranking(n=240, seed=0):
    rng = np.random.default_rng(seed)
    queries = np.sort(rng.integers(30, size=n))
    truth = rng.integers(0, 4, size=n).astype(np.float64)
    scores = np.round(truth + rng.normal(0, 2, n), 1)
    return Answered("ranking", truth, scores=scores, queries=queries, clusters=queries)


def clustering(n=200, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=n)
    return Answered(
        "clustering", truth, np.where(rng.random(n) < 0.7, truth, rng.integers(5, size=n))
    )


def value(answered, name):
    return METRICS[answered.kind][name].measure(answered).value


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
        error = standard_error(each.measure(answered).influence, answered.clusters)
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
        (Answered("regression", np.ones((3, 1)), np.zeros((3, 1))), "r2", "no variance"),
        (Answered("regression", np.ones((3, 1)), np.full((3, 1), np.nan)), "mae", "3 of 3 errors"),
        (
            Answered("regression", np.ones((2, 1)), np.ones((2, 1)), weights=np.zeros(2)),
            "mae",
            "weight above 0",
        ),
        (Answered("clustering", np.zeros(1), np.zeros(1)), "adjusted_rand", "not two rows"),
        (
            Answered("clustering", np.zeros(2), np.zeros(2), weights=np.ones(2)),
            "v_measure",
            "no weights",
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
    with pytest.raises(Undefined, match="no slope"):
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


def coverage(make, name, true, runs=250):
    """The share of intervals that hold the true figure; those of at least nine runs of ten are told."""
    held = []
    for seed in range(runs):
        answered = make(seed)
        each = METRICS[answered.kind][name]
        ends = each.interval(each.measure(answered), answered)
        if ends is not None:
            held.append(ends[0] <= true <= ends[1])
    assert len(held) >= 0.9 * runs
    return np.mean(held)


@pytest.mark.parametrize(
    "name", ["accuracy", "f1", "roc_auc", "average_precision", "log_loss", "brier"]
)
def test_intervals_hold_the_true_figure(name):
    true = value(binary(400_000, 99, weighted=False), name)
    assert coverage(lambda seed: binary(150, seed, weighted=False), name, true) >= 0.9


@pytest.mark.parametrize("name", ["mae", "rmse", "r2"])
def test_intervals_of_numbers_hold_the_true_figure(name):
    true = value(regression(400_000, 99), name)
    assert coverage(lambda seed: regression(150, seed), name, true) >= 0.9


def rare_classes(n, seed):
    """Four classes, of which the rarer two are often taken for the commonest."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, n, p=[0.6, 0.3, 0.08, 0.02])
    right = rng.random(n) < np.array([0.95, 0.9, 0.6, 0.5])[truth]
    return Answered("multiclass", truth, np.where(right, truth, 0), classes=(0, 1, 2, 3))


def blundering(n, seed):
    """Of a fifth of the rows the model is certain, and of these one in 40 is not what it says."""
    rng = np.random.default_rng(seed)
    p = np.where(rng.random(n) < 0.2, rng.integers(2, size=n), rng.uniform(0.05, 0.95, n))
    truth = (rng.random(n) < np.clip(p, 0.025, 0.975)).astype(int)
    return Answered("binary", truth, None, np.column_stack([1 - p, p]), p, (0, 1))


def rarely_positive(n, seed):
    rng = np.random.default_rng(seed)
    p = rng.beta(0.6, 50, n)
    truth = (rng.random(n) < p).astype(int)
    return Answered("binary", truth, None, np.column_stack([1 - p, p]), p, (0, 1))


def overconfident(n, seed):
    rng = np.random.default_rng(seed)
    logit = rng.normal(size=n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    p = 1 / (1 + np.exp(-2.5 * logit))
    return Answered("binary", truth, None, np.column_stack([1 - p, p]), p, (0, 1))


def heavy(n, seed):
    rng = np.random.default_rng(seed)
    told = 3 * rng.normal(size=(n, 1))
    return Answered("regression", told + rng.lognormal(size=(n, 1)), told)


@pytest.mark.parametrize(
    ("make", "n", "name", "least"),
    [
        (rare_classes, 500, "balanced_accuracy", 0.93),  # .84 before
        (rare_classes, 500, "f1_macro", 0.93),  # .80
        (rare_classes, 500, "matthews", 0.93),
        (blundering, 300, "log_loss", 0.93),  # .83
        (rarely_positive, 100, "brier", 0.93),  # .63
        (rarely_positive, 100, "log_loss", 0.93),  # .64
        (overconfident, 300, "calibration_error", 0.93),  # .85
        (overconfident, 300, "calibration_slope", 0.93),
        (heavy, 200, "rmse", 0.93),  # .75
        (heavy, 200, "r2", 0.93),  # .79
        (heavy, 200, "mae", 0.93),
    ],
)
def test_intervals_hold_where_few_rows_hold_the_figure(make, n, name, least):
    law = make(400_000, 99)
    measured = METRICS[law.kind][name].measure(law)
    true = measured.value - (measured.bias if name == "calibration_error" else 0)
    assert coverage(lambda seed: make(n, seed), name, true, 200) >= least


@pytest.mark.parametrize("name", ["mae", "rmse", "r2", "mean_error"])
def test_intervals_of_rows_that_are_alike_are_about_those_of_t(name):
    rng = np.random.default_rng(0)
    told = rng.normal(size=(400, 1))
    rows = Answered("regression", told + rng.normal(size=(400, 1)), told)
    each = METRICS["regression"][name]
    measured = each.measure(rows)
    low, high = each.interval(measured, rows)
    assert 1 <= (high - low) / (2 * 1.966 * standard_error(measured.influence)) < 1.3


def test_a_class_without_rows_leaves_the_average_without_an_interval():
    rows = rare_classes(500, 0)
    rows = rows.at(rows.truth < 3)
    for name in ("balanced_accuracy", "f1_macro"):
        each = METRICS["multiclass"][name]
        with pytest.raises(Undefined, match="no row has the class 3, which belongs to the average"):
            each.ends(each.measure(rows), rows)


def test_a_class_that_is_hardly_predicted_has_a_correlation_without_an_interval():
    truth = (np.arange(1000) < 24).astype(int)
    predicted = np.isin(np.arange(1000), (500, 501)).astype(int)
    rows = Answered("binary", truth, predicted, classes=(0, 1))
    each = METRICS["binary"]["matthews"]
    with pytest.raises(Undefined, match="rests on 2 independent rows"):
        each.ends(each.measure(rows), rows)


@pytest.mark.parametrize("skewness", [-0.8, -0.1, 0.0, 1e-9, 0.3, 1.5])
@pytest.mark.parametrize("quantile", [-2.5, -1.96, 1.96, 3.0])
def test_quantiles_of_skew_rows_are_those_of_hall(skewness, quantile):
    t = unskewed(quantile, skewness)
    back = t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6
    assert back == pytest.approx(quantile)


def test_a_figure_at_its_bound_has_an_interval_all_the_same():
    told = np.linspace(0.1, 0.9, 24)
    apart = Answered(
        "binary",
        np.repeat([0, 1], 12),
        (told > 0.5).astype(int),
        np.column_stack([1 - told, told]),
        told,
        (0, 1),
    )
    each = METRICS["binary"]["roc_auc"]
    low, high = each.interval(each.measure(apart), apart)
    assert (low, high) == pytest.approx(wilson(12, 12))


def test_few_positive_rows_tell_little_however_many_are_negative():
    scores = np.linspace(1, 0, 1000)
    each = METRICS["binary"]["roc_auc"]

    def interval(positives):
        truth = (np.arange(1000) < positives).astype(int)
        rows = Answered("binary", truth, scores=scores, classes=(0, 1))
        assert each.measure(rows).value > 0.99
        return each.ends(each.measure(rows), rows)

    assert interval(10)[0] < 0.75
    with pytest.raises(Undefined, match="rests on 9 independent rows"):
        interval(9)
    with pytest.raises(Undefined, match="one row of a kind"):
        interval(1)


@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "log_loss", "f1"])
def test_clusters_hold_the_true_figure_where_rows_alone_do_not(name):
    def clustered(seed, *, known=True, clusters=40):
        rng = np.random.default_rng(seed)
        which = np.repeat(np.arange(clusters), 10)
        truth = (rng.random(clusters) < 0.4)[which].astype(np.int64)
        logit = (1.5 * rng.normal(size=clusters))[which] + rng.normal(size=10 * clusters) * 0.5
        told = 1 / (1 + np.exp(-(logit + 2 * truth - 1)))
        both = np.column_stack([1 - told, told])
        own = which if known else None
        return Answered("binary", truth, (told > 0.5).astype(int), both, told, (0, 1), clusters=own)

    true = value(clustered(99, clusters=40_000), name)
    assert coverage(clustered, name, true, 150) >= 0.88
    assert coverage(lambda seed: clustered(seed, known=False), name, true, 150) < 0.75


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1", "recall", "brier"])
@pytest.mark.parametrize("sizes", [[20] * 19 + [570], [600 // k + 3 for k in range(1, 60)]])
def test_clusters_of_unequal_sizes_hold_the_true_figure(name, sizes):
    def clustered(seed, sizes=sizes):
        rng = np.random.default_rng(seed)
        which = np.repeat(np.arange(len(sizes)), sizes)
        x = rng.normal(size=len(which))
        likely = 1 / (1 + np.exp(0.5 - 2 * x - rng.normal(size=len(sizes))[which]))
        truth = (rng.random(len(which)) < likely).astype(np.int64)
        told = 1 / (1 + np.exp(0.5 - 2 * x))
        both = np.column_stack([1 - told, told])
        found = (told > 0.5).astype(int)
        return Answered("binary", truth, found, both, told, (0, 1), clusters=which)

    true = value(clustered(99, [1] * 100_000), name)
    assert coverage(clustered, name, true, 150) >= 0.9


def test_unequal_weights_tell_less_than_as_many_rows():
    equal = binary(200, weighted=False)
    weights = np.where(np.arange(200) % 10, 0.01, 10.0)
    few = replace(equal, weights=weights)
    for name in ("accuracy", "f1", "log_loss", "roc_auc"):
        each = METRICS["binary"][name]
        widths = []
        for rows in (equal, few):
            low, high = each.interval(each.measure(rows), rows)
            widths.append(high - low)
        assert widths[1] > 1.5 * widths[0], name

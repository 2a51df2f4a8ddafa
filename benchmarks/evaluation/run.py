"""How often the intervals of an Evaluation hold the true figure, and what they cost."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
from benchmarks.common.measure import command, judge, table
from benchmarks.evaluation.intervals import LEAST as LEAST_REAL
from benchmarks.evaluation.intervals import cells
from sklearn.metrics import roc_auc_score

import modelkit as mk
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.metrics import METRICS as KNOWN
from modelkit.stats.tests import bootstrap

LIBRARIES = ("numpy", "scipy", "scikit-learn")
METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "matthews",
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
    "calibration_slope",
)
LEAST = 0.93
LARGE = 2_000_000
BOOTSTRAPPED = 200  # runs, of which each draws 300 times


def answered(rng, clusters: int, size: int, share: float = 0.3, *, known: bool = True) -> Answered:
    """Rows of two classes and slightly too extreme probabilities; rows of a cluster are alike."""
    which = np.repeat(np.arange(clusters), size)
    truth = (rng.random(clusters) < share)[which].astype(np.int64)
    alike = np.sqrt(0.8) if size > 1 else 0.0
    noise = alike * rng.normal(size=clusters)[which]
    noise += np.sqrt(1 - alike**2) * rng.normal(size=len(which))
    told = 1 / (
        1 + np.exp(-1.3 * (1.5 * (noise + 1.5 * truth - 0.75) + np.log(share / (1 - share))))
    )
    both = np.column_stack([1 - told, told])
    own = which if known and size > 1 else None
    return Answered("binary", truth, (told > 0.5).astype(int), both, told, (0, 1), clusters=own)


@cache
def true_figures(size: int) -> dict[str, float]:
    rows = answered(np.random.default_rng(1), LARGE // size, size)
    return {name: KNOWN["binary"][name].measure(rows).value for name in METRICS}


def held(runs: int, clusters: int, size: int, *, known: bool = True) -> dict[str, float]:
    """The share of runs whose interval holds the true figure; undefined ones do not count."""
    rng = np.random.default_rng(2)
    true = true_figures(size)
    found: dict[str, list[bool]] = {name: [] for name in METRICS}
    for _ in range(runs):
        rows = answered(rng, clusters, size, known=known)
        for name in METRICS:
            metric = KNOWN["binary"][name]
            try:
                low, high = metric.interval(metric.measure(rows), rows)
            except ValueError:
                continue
            found[name].append(low <= true[name] <= high)
    return {name: float(np.mean(each)) for name, each in found.items()}


def bootstrapped(runs: int, clusters: int, size: int) -> dict[str, float]:
    """The same of a percentile bootstrap over rows."""
    rng = np.random.default_rng(3)
    true = true_figures(size)
    found: dict[str, list[bool]] = {name: [] for name in METRICS[:-1]}
    for _ in range(runs):
        rows = answered(rng, clusters, size, known=False)
        for name, inside in found.items():
            measure = KNOWN["binary"][name].measure

            def figure(times, measure=measure, rows=rows):
                try:
                    return measure(rows.weighted(times)).value
                except ValueError:
                    return float("nan")

            draws = bootstrap(figure, len(rows), 300, rng)
            if np.isnan(draws).mean() <= 0.1:  # else they do not stand for the rows
                low, high = np.nanquantile(draws, (0.025, 0.975))
                inside.append(low <= true[name] <= high)
    return {name: float(np.mean(each)) for name, each in found.items()}


def independent(args) -> str:
    """Independent rows, 30 % positive: how often intervals of 95 % hold the true figure"""
    small, middle = (held(args.runs, n, 1) for n in (60, 300))
    usual = bootstrapped(BOOTSTRAPPED, 60, 1)
    rows = []
    for name in METRICS:
        shown = [
            f"{small[name]:.3f}",
            f"{usual[name]:.3f}" if name in usual else "",
            f"{middle[name]:.3f}",
        ]
        rows.append([name, *shown, *judge(middle[name], "at least", LEAST)])
    return table(
        "figure | 60 rows | bootstrap of 60 rows | 300 rows | target of 300 | reached", rows
    )


def clustered(args) -> str:
    """40 clusters of 10 rows: how often intervals of 95 % hold the true figure"""
    with_them = held(args.runs, 40, 10)
    without = held(args.runs, 40, 10, known=False)
    usual = bootstrapped(BOOTSTRAPPED, 40, 10)
    rows = []
    for name in METRICS:
        shown = [
            f"{with_them[name]:.3f}",
            f"{without[name]:.3f}",
            f"{usual[name]:.3f}" if name in usual else "",
        ]
        rows.append([name, *shown, *judge(with_them[name], "at least", 0.9)])
    return table("figure | clusters= | without | bootstrap over rows | target | reached", rows)


def told_model(probabilities):
    """A Model that answers the probabilities in its rows."""
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 2)),),
        (
            mk.TensorSpec("label", "int64", ("batch",)),
            mk.TensorSpec("probabilities", "float64", ("batch", 2)),
        ),
        classes=(0, 1),
    )

    def answer(feeds):
        return {"label": feeds["X"].argmax(axis=1), "probabilities": feeds["X"]}

    return mk.FunctionModel(answer, signature), probabilities


def seconds(call) -> float:
    """The least of three turns."""
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return min(spent)


def speed(_) -> str:
    """100,000 rows: seconds of an Evaluation of 13 figures, all with intervals"""
    rows = answered(np.random.default_rng(0), 100_000, 1)
    model, X = told_model(rows.probabilities)
    rng = np.random.default_rng(1)
    slices = {"region": rng.integers(20, size=len(rows))}
    clusters = rng.integers(20_000, size=len(rows))
    places = [rng.integers(len(rows), size=len(rows)) for _ in range(3)]

    def one_bootstrap():
        return [roc_auc_score(rows.truth[at], rows.scores[at]) for at in places]

    calls = {
        "mk.evaluate": lambda: mk.evaluate(model, X, rows.truth),
        "mk.evaluate, 20 slices": lambda: mk.evaluate(model, X, rows.truth, slices=slices),
        "mk.evaluate, 20 slices, 20,000 clusters": lambda: mk.evaluate(
            model, X, rows.truth, slices=slices, clusters=clusters
        ),
        "mk.evaluate, 100,000 training rows": lambda: mk.evaluate(
            model, X, rows.truth, train=(X, rows.truth)
        ),
    }
    found = {name: seconds(call) for name, call in calls.items()}
    found["roc_auc_score alone, 1,000 bootstrap draws (3 timed)"] = (
        seconds(one_bootstrap) * 1000 / 3
    )
    limits = {"mk.evaluate, 20 slices": 2.0}
    shown = [
        [name, f"{spent:.2f}", *judge(spent, "at most", limits.get(name))]
        for name, spent in found.items()
    ]
    return table("what | seconds | target | reached", shown)


def real(args) -> str:
    """Rows drawn from real data: the share of draws with an interval, and of these that hold"""
    rows = [
        [
            name,
            f"{n:,}",
            figure,
            f"{shown:.2f}",
            f"{share:.3f}",
            *judge(share, "at least", LEAST_REAL),
        ]
        for name, n, figure, shown, share, _ in cells(max(args.runs // 5, 1))
        if shown
    ]
    return table("population | rows | figure | shown | held | target | reached", rows)


SECTIONS = {"independent": independent, "clustered": clustered, "real": real, "speed": speed}

if __name__ == "__main__":
    command(__doc__, SECTIONS, LIBRARIES, "evaluation", runs=1000)

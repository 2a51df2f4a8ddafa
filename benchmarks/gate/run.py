"""How often a gate promotes, blocks and stays without an answer, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.common.measure import command, judge, table
from benchmarks.gate.retraining import retraining
from benchmarks.gate.worlds import (
    answers,
    figure_check,
    open_pair,
    right_or_wrong,
    save_reading,
    scored,
)
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.claims import Levels, no_harm
from modelkit.lifecycle.gate.comparison import compare_by
from modelkit.lifecycle.gate.holdout import share_of_alpha
from modelkit.stats.influence import Clusters, Measured, standard_error
from modelkit.stats.paired import PairedDifference, difference_of

LIBRARIES = ("numpy", "scipy", "scikit-learn")
ACCURACY = METRICS["binary"]["accuracy"]
ALPHA = 0.05
POWER = 0.8
PILOTS = 200  # gates that ask for rows, each on 2,000
ROWS = 2000
CANDIDATES = 20
RIVALS = Path(f"{sys.prefix}-bench-gate-rivals/bin/python")  # with mlflow and skore
COMPARED = 300  # runs that rivals are asked about
WORLDS = {"accuracy": right_or_wrong, "roc_auc": scored, "log_loss": scored}


def pair() -> tuple[mk.Model, mk.Model]:
    return open_pair(Path(tempfile.mkdtemp(prefix="modelkit-gate-")))


def rate(values) -> str:
    return f"{np.mean(values):.4f}"


def checked(metric: str, X, y, margin: float, alpha: float = ALPHA):
    """The check of one metric of the candidate, which reads "b", against the champion, which reads "a"."""
    levels = Levels(alpha, ALPHA, alpha)
    return figure_check(metric, answers(X["b"], y), answers(X["a"], y), margin, levels)


def promoted_equals(metric: str, runs: int) -> float:
    """How often an equal candidate is promoted as better."""
    rng = np.random.default_rng(1)
    found = [checked(metric, *WORLDS[metric](rng, ROWS), 0).outcome for _ in range(runs)]
    return float(np.mean([outcome == "pass" for outcome in found]))


def whole(_) -> str:
    """Whole gates of two packages say what the checks alone say, which the other tables are made of"""
    models = pair()
    rng = np.random.default_rng(6)
    same = []
    for at in range(60):
        metric = list(WORLDS)[at % 3]
        margin = 0.01 if at % 2 else 0.0
        X, y = WORLDS[metric](rng, ROWS)
        verdict = mk.gate(*models, X, y, metric=metric, margin=margin)
        found = checked(metric, X, y, margin)
        alike = abs(verdict[metric].estimate - found.estimate) < 1e-9
        same.append(alike and verdict[metric].outcome == found.outcome)
    return table(
        "gates | agree | target | reached",
        [["60", str(sum(same)), *judge(sum(same), "at least", 60)]],
    )


def size(args) -> str:
    """Equal candidates on 2,000 rows: how often each is promoted as better, at alpha .05"""
    lines = []
    for metric in WORLDS:
        found = promoted_equals(metric, args.runs)
        # Three standard errors of a share of so many runs.
        most = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / args.runs)
        lines.append([f"gate, {metric}", f"{found:.4f}", *judge(found, "at most", round(most, 4))])
    rng = np.random.default_rng(1)
    better = []
    for _ in range(args.runs):
        X, y = right_or_wrong(rng, ROWS)
        better.append(np.mean((X["b"] > 0) == y) > np.mean((X["a"] > 0) == y))
    lines.append(["better on the test set, accuracy", rate(better), "", ""])
    return table("rule | promoted | target | reached", lines)


MARGINS = {"accuracy": 0.01, "roc_auc": 0.01, "log_loss": 0.01}


def powers(metric: str, runs: int) -> tuple[int, float]:
    """The rows that a gate asks for, the mean of many, and how often as many promote an equal one."""
    rng = np.random.default_rng(2)
    margin = MARGINS[metric]
    asked = []
    for _ in range(PILOTS):
        X, y = WORLDS[metric](rng, ROWS)
        sides = (answers(X["b"], y), answers(X["a"], y))
        told = compare_by(METRICS["binary"][metric], *sides, seed=0)
        asked.append(told.rows_to_show(margin, ALPHA))
    n = int(np.mean([rows for rows in asked if rows is not None]))
    found = [checked(metric, *WORLDS[metric](rng, n), margin).outcome for _ in range(runs)]
    return n, float(np.mean([outcome == "pass" for outcome in found]))


def powers_after(metric: str, runs: int) -> tuple[int, float]:
    """The same where a first gate was unclear by chance: each is made again on the rows it asked for."""
    rng = np.random.default_rng(7)
    margin = MARGINS[metric]
    asked = []
    promoted = []
    while len(promoted) < runs // 2:
        first = checked(metric, *WORLDS[metric](rng, ROWS), margin)
        if first.outcome == "unclear" and first.rows_needed is not None:
            again = checked(metric, *WORLDS[metric](rng, first.rows_needed), margin)
            asked.append(first.rows_needed)
            promoted.append(again.outcome == "pass")
    return int(np.mean(asked)), float(np.mean(promoted))


def power(args) -> str:
    """An equal candidate with a margin of .01, on as many rows as `rows_needed` asks for: .8 is promised"""
    lines = []
    for metric in WORLDS:
        for named, found_by in (
            ("", powers),
            (", after a gate of 2,000 rows that was unclear", powers_after),
        ):
            n, found = found_by(metric, args.runs)
            target = judge(abs(found - POWER), "at most", 0.03)
            lines.append([f"{metric}{named}", f"{n:,}", f"{found:.4f}", *target])
    return table("metric | rows_needed | promoted | distance to .8 | reached", lines)


CLUSTERS = {
    "20 of one size": [5] * 20,
    "2, one with 9 rows of 10": [9, 1],
    "6, two with 5 rows of 14 each": [5, 5, 1, 1, 1, 1],
    "20, one with 40 %": [13] + [1] * 19,
    "100, one with 40 %": [66] + [1] * 99,
    "100, three with 20 % each": [50] * 3 + [1] * 97,
    "100, one with 25 %": [33] + [1] * 99,
}


def clusters(args) -> str:
    """Clusters whose rows are all alike: how often an equal candidate is better at 5 %"""
    lines = []
    for name, rows in CLUSTERS.items():
        sizes = np.array(rows, float)
        which = Clusters(np.repeat(np.arange(len(rows)), rows), sizes)
        n = len(which.codes)
        zero = Measured(0.0, np.zeros(n))
        rng = np.random.default_rng(8)
        usual, ours = [], []
        for _ in range(args.runs):
            values = rng.normal(size=len(rows))[which.codes]
            measured = Measured(float(values.mean()), (values - values.mean()) / n)
            error = standard_error(np.bincount(which.codes, measured.influence))
            usual.append(PairedDifference(measured.value, error, len(rows)).p_above(0) <= ALPHA)
            told = difference_of(measured, zero, which)
            ours.append(which.alike >= which.least and told.p_above(0) <= ALPHA)
        most = round(ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / args.runs), 4)
        target = judge(float(np.mean(ours)), "at most", most)
        lines.append([name, f"{which.alike:.1f}", rate(usual), rate(ours), *target])
    return table("clusters | of one size | t test by clusters | gate | target | reached", lines)


def slices_of(rng, n: int) -> np.ndarray:
    """20 slices, the largest 20 times the smallest."""
    sizes = np.geomspace(1, 0.05, 20)
    return rng.choice(20, size=n, p=sizes / sizes.sum())


def sliced(runs: int, n: int, worse: float = 0.0) -> tuple[float, float, float]:
    """How often slices block, how often the harmed one does, and how often one looks lower."""
    rng = np.random.default_rng(3)
    blocked = []
    caught = []
    lower = []
    for _ in range(runs):
        X, y = right_or_wrong(rng, n)
        region = slices_of(rng, n)
        if worse:
            harmed = (region == 5) & (rng.random(n) < worse) & ((X["b"] > 0) == y)
            X.loc[harmed, "b"] = -X.loc[harmed, "b"]
        sides = (answers(X["b"], y), answers(X["a"], y))
        cases = []
        for value in range(20):
            rows = np.flatnonzero(region == value)
            own = [side.at(rows) for side in sides]
            cases.append(
                (str(value), "accuracy", 0.01, partial(compare_by, ACCURACY, *own, seed=0))
            )
        failed = [check.name for check in no_harm(cases, ALPHA, "slice") if check.outcome == "fail"]
        blocked.append(bool(failed))
        caught.append("5" in failed)
        gain = ((X["b"] > 0) == y).astype(int) - ((X["a"] > 0) == y).astype(int)
        lower.append((np.bincount(region, gain, 20) < 0).any())
    return float(np.mean(blocked)), float(np.mean(caught)), float(np.mean(lower))


def slices(args) -> str:
    """20 slices of an equal candidate, margin .01: how often some slice blocks"""
    runs = args.runs // 4
    lines = []
    for n in (2000, 10_000):
        blocked, _, lower = sliced(runs, n)
        target = judge(blocked, "at most", 0.01)
        lines.append([f"equal, {n:,} rows", f"{blocked:.4f}", f"{lower:.4f}", *target])
    blocked, caught, lower = sliced(runs, 10_000, worse=0.06)
    lines.append(
        [f"one slice 5 points worse: found {caught:.3f}", f"{blocked:.4f}", f"{lower:.4f}", "", ""]
    )
    return table("candidate | gate blocks | no slice lower blocks | target | reached", lines)


def reused(runs: int, *, counted: bool) -> float:
    """How often one of 20 equal candidates is promoted on one hold-out."""
    names = ["a", *(f"c{at}" for at in range(CANDIDATES))]
    rng = np.random.default_rng(4)
    found = []
    for _ in range(runs):
        X, y = many_rows(rng, names)
        theirs = answers(X["a"], y)
        promoted = False
        for use, name in enumerate(names[1:], start=1):
            levels = Levels(share_of_alpha(ALPHA, use if counted else 0), ALPHA, ALPHA)
            check = figure_check("accuracy", answers(X[name], y), theirs, 0, levels)
            promoted = promoted or check.outcome == "pass"
        found.append(promoted)
    return float(np.mean(found))


def counted_parts() -> list[float]:
    """The part of alpha that each of 20 whole gates has, by a registry that counts them."""
    folder = Path(tempfile.mkdtemp(prefix="modelkit-gate-"))
    names = ["a", *(f"c{at}" for at in range(CANDIDATES))]
    champion = mk.load(save_reading(folder, names, "a", "1.0.0"), threads=1)
    X, y = many_rows(np.random.default_rng(4), names)
    registry = mk.Registry(folder / "models")
    parts = []
    for at, name in enumerate(names[1:]):
        path = save_reading(folder, names, name, f"2.{at}.0")
        with mk.load(path, threads=1) as candidate:
            parts.append(mk.gate(candidate, champion, X, y, margin=0, registry=registry).spent)
    return parts


def many_rows(rng, names: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows on which each candidate differs from the champion on 8 % of the rows by itself."""
    y = rng.integers(0, 2, ROWS)
    sign = np.where(y == 1, 1.0, -1.0)
    champion = rng.random(ROWS) < 0.85
    told = {"a": sign * np.where(champion, 1, -1)}
    for name in names[1:]:
        # As many rows are won as lost: 4 % of all, of those it was wrong and right on.
        chance = np.where(champion, 0.04 / 0.85, 0.04 / 0.15)
        right = champion ^ (rng.random(ROWS) < chance)
        told[name] = sign * np.where(right, 1, -1)
    return pd.DataFrame(told), y


def reuse(args) -> str:
    """20 equal candidates, one after another, on one hold-out: how often one is promoted as better"""
    lines = []
    for counted in (True, False):
        found = reused(args.runs // 2, counted=counted)
        named = "with registry=, which counts" if counted else "without a counter"
        target = judge(found, "at most", ALPHA) if counted else ["", ""]
        lines.append([named, f"{found:.4f}", *target])
    total = sum(counted_parts())
    lines.append(
        ["the parts of 20 whole gates add up to", f"{total:.4f}", *judge(total, "at most", ALPHA)]
    )
    return table("gate | a false promotion | target | reached", lines)


def median_error(y, outputs) -> float:
    return float(np.median(np.abs(outputs["probabilities"][:, 1] - y)))


def price(_) -> str:
    """100,000 rows, two packages on one thread, 20 slices: seconds of the processor"""
    folder = Path(tempfile.mkdtemp(prefix="modelkit-gate-"))
    X, y = make_classification(104_000, 20, n_informative=8, flip_y=0.1, random_state=0)
    kinds = (LogisticRegression(max_iter=200), HistGradientBoostingClassifier(max_iter=50))
    paths = []
    for at, kind in enumerate(kinds):
        fitted = kind.fit(X[:4000], y[:4000])
        paths.append(folder / f"{at}.mk")
        mk.save(fitted, paths[-1], example=X[:4000], name="churn", version=f"1.{at}.0")
    held, truth = X[4000:], y[4000:]
    region = slices_of(np.random.default_rng(0), len(truth))
    margins = {"accuracy": 0.01, "roc_auc": 0.01, "log_loss": 0.01}
    mk.gate(*paths[::-1], held[:1000], truth[:1000], margin=0.1)  # imports
    asked = {"margin": margins, "require": ["roc_auc", "log_loss"], "slices": {"region": region}}
    own = mk.GateMetric("median error", median_error, higher_is_better=False)
    models = [mk.load(path, threads=1) for path in paths[::-1]]
    calls = {
        "predictions of both": lambda: [model.run(held) for model in models],
        "gate: accuracy, roc_auc, log_loss and 20 slices": lambda: mk.gate(
            *models, held, truth, **asked
        ),
        "the same with accuracy on clusters": lambda: mk.gate(
            *models, held, truth, clusters=np.arange(len(truth)) // 5, **asked
        ),
        "the same with a metric of one's own by bootstrap": lambda: mk.gate(
            *models,
            held,
            truth,
            margin={**margins, "median error": 0.01},
            require=["roc_auc", "log_loss", own],
            slices={"region": region},
        ),
    }
    spent = {}
    for name, call in calls.items():
        times = []
        for _ in range(3 if "bootstrap" not in name else 1):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
        spent[name] = min(times)
    answers = spent["predictions of both"]
    lines = []
    for name, seconds in spent.items():
        beside = seconds - answers
        target = judge(beside, "at most", 2.0) if name.startswith("gate:") else ["", ""]
        lines.append([name, f"{seconds:.2f}", f"{max(beside, 0):.2f}", *target])
    return table("what | seconds | beside the predictions | target | reached", lines)


def rivals(args) -> str:
    """The same 300 equal candidates, judged by the thresholds of MLflow and the comparison of skore"""
    if not RIVALS.exists():
        return "skipped: the environment with mlflow and skore is made by make bench NAME=gate"
    rng = np.random.default_rng(5)
    runs = min(COMPARED, args.runs)
    models = pair()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        worlds = [right_or_wrong(rng, ROWS) for _ in range(runs)]
        np.savez(
            path,
            a=np.array([X["a"] for X, _ in worlds]),
            b=np.array([X["b"] for X, _ in worlds]),
            y=np.array([y for _, y in worlds]),
        )
        code = Path(__file__).with_name("others.py")
        done = subprocess.run([str(RIVALS), code, path], capture_output=True, text=True, check=True)
    others = json.loads(done.stdout.splitlines()[-1])
    ours = [mk.gate(*models, X, y, margin=0).decision == "promote" for X, y in worlds]
    no_worse = [mk.gate(*models, X, y, margin=0.01).decision == "promote" for X, y in worlds]
    lines = [
        ["gate, margin 0: shown to be better", rate(ours)],
        ["gate, margin .01: shown to be no worse", rate(no_worse)],
        *([name, f"{found:.4f}"] for name, found in others.items()),
    ]
    return table("rule | promoted", lines)


SECTIONS = {
    "whole": whole,
    "size": size,
    "power": power,
    "clusters": clusters,
    "slices": slices,
    "reuse": reuse,
    "price": price,
    "rivals": rivals,
    "retraining": retraining,
}

if __name__ == "__main__":
    command(__doc__, SECTIONS, LIBRARIES, "gate", runs=2000)

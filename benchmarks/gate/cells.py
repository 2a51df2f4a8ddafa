"""Candidates that are worse by exactly their margin, on real data: how often each rule promotes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from benchmarks.common.measure import command, judge, table
from benchmarks.gate.populations import Population, populations

from modelkit.lifecycle.evaluation.metrics import METRICS
from modelkit.lifecycle.gate.comparison import compare_by
from modelkit.lifecycle.gate.policy import GateMetric
from modelkit.stats.influence import Undefined
from modelkit.stats.paired import PairedDifference

ALPHA = 0.05
MOST = 0.065
SIZES = (200, 1000, 3000)
AGAIN = 10  # times as many draws, others, of a cell that was above MOST
OWN_RUNS = 0.25  # of the draws, since each takes 2,000 figures; and of the first pair only
LEAST_TOLD = 50  # gates that gave a number of rows, for its rate to be told
# How much a candidate is inside its margin, where power is measured: by itself, or as a part of the
# champion's figure.
INSIDE = {
    "accuracy": 0.02,
    "roc_auc": 0.02,
    "log_loss": 0.05,
    "brier": 0.01,
    "f1": 0.05,
    "balanced_accuracy": 0.02,
    "mae": 0.05,
    "rmse": 0.05,
    "r2": 0.02,
    "own": 0.05,
}
OF_FIGURE = ("mae", "rmse")


class Cell(NamedTuple):
    """A metric, a pair of families on some data, and how much worse the candidate is in truth."""

    population: Population
    name: str
    metric: Any
    candidate: str
    champion: str
    margin: float
    inside: float

    @property
    def sides(self):
        answers = self.population.answers
        return answers[self.candidate], answers[self.champion]


def own_metric(population: Population) -> GateMetric:
    """A share of bad rows: the truth is held for unlikely, or the error is large."""
    far = float(np.quantile(np.abs(population.truth - population.truth.mean()), 0.7))

    def bad(truth, outputs) -> float:
        if "probabilities" not in outputs:
            return float(np.mean(np.abs(outputs["prediction"] - truth) > far))
        likely = outputs["probabilities"][np.arange(len(truth)), truth]
        return float(np.mean(likely < 0.2))

    return GateMetric("own", bad, higher_is_better=False, bounds=(0, 1))


def figure_of(metric, answers) -> float:
    """The figure of one model; higher is better."""
    sign = 1 if metric.higher_is_better else -1
    if isinstance(metric, GateMetric):
        return sign * metric.figure(answers.truth, answers.outputs)
    return sign * metric.measure(answers.answered).value


def cells(population: Population) -> Iterator[Cell]:
    """Of each pair the worse one is the candidate, by each metric."""
    for name, inside in INSIDE.items():
        found = "f1_macro" if name == "f1" and population.kind == "multiclass" else name
        metric = own_metric(population) if name == "own" else METRICS[population.kind].get(found)
        pairs = list(population.pairs()) if metric is not None else []
        for pair in pairs[:1] if name == "own" else pairs:
            worse, better = sorted(
                pair, key=lambda each: figure_of(metric, population.answers[each])
            )
            figures = [figure_of(metric, population.answers[each]) for each in (worse, better)]
            near = inside * abs(figures[1]) if name in OF_FIGURE else inside
            yield Cell(population, name, metric, worse, better, figures[1] - figures[0], near)


class Rates(NamedTuple):
    """How often a candidate at its margin is promoted, and one that is inside of it."""

    gate: float
    t: float
    mlflow: float
    better: float
    gate_inside: float
    t_inside: float
    blocked: float


def settled(cell: Cell, n: int, runs: int) -> Rates:
    """The rates; of a cell above the target those of ten times as many other draws.

    The largest of 15 cells at .05 is above .065 by chance with 400 draws.
    """
    runs = max(int(runs * (OWN_RUNS if cell.name == "own" else 1)), 2)
    found = rates(cell, n, runs, n)
    return found if found.gate <= MOST else rates(cell, n, runs * AGAIN, n + 1)


def rates(cell: Cell, n: int, runs: int, seed: int) -> Rates:
    """Of so many draws of n rows, with replacement.

    MLflow's `validate_evaluation_results` lets a candidate pass whose figure is at least the
    champion's less what is allowed. A t test is what the gate was before.
    """
    rng = np.random.default_rng(seed)
    found = []
    at, inside = -cell.margin, -cell.margin - cell.inside
    for _ in range(runs):
        rows = rng.integers(len(cell.population.truth), size=n)
        try:
            sides = [each.at(rows) for each in cell.sides]
            told = compare_by(cell.metric, *sides, seed=0).difference
        except Undefined:
            found.append([False] * len(Rates._fields))
            continue
        value = told.value
        plain = PairedDifference(value, told.error, getattr(told, "units", float(n)))
        found.append(
            [
                told.p_above(at) <= ALPHA,
                plain.p_above(at) <= ALPHA,
                value >= at,
                value > 0,
                told.p_above(inside) <= ALPHA,
                plain.p_above(inside) <= ALPHA,
                told.exchanged().p_above(-at) <= ALPHA,
            ]
        )
    return Rates(*(float(each) for each in np.mean(found, axis=0)))


def margin(args) -> str:
    """10 metrics, 10 real data sets (5 a task), 3 pairs of families: a candidate at its margin"""
    found: dict[tuple[str, int], list[tuple[Cell, Rates]]] = {}
    for population in populations():
        for cell in cells(population):
            for n in SIZES:
                found.setdefault((cell.name, n), []).append((cell, settled(cell, n, args.runs)))
    lines = []
    for (name, n), each in found.items():
        told = [rate for _, rate in each]
        cell, most = max(each, key=lambda one: one[1].gate)
        where = f"{cell.population.name}, {cell.candidate} v. {cell.champion}"
        line = [name, f"{n:,}", str(len(told)), f"{most.gate:.3f} ({where})"]
        line += [f"{max(rate.t for rate in told):.3f}"]
        line += [f"{max(rate.mlflow for rate in told):.3f}"]
        line += [f"{max(rate.better for rate in told):.3f}"]
        line += [f"{max(rate.blocked for rate in told):.3f}"]
        line += [f"{np.median([rate.gate_inside for rate in told]):.2f}"]
        line += [f"{np.median([rate.t_inside for rate in told]):.2f}"]
        lines.append([*line, *judge(round(most.gate, 3), "at most", MOST)])
    return table(
        "metric | rows | cells | gate, most | t test, most | MLflow's, most | better on the test set, most"
        " | blocked, most | gate inside, median | t test inside, median | target | reached",
        lines,
    )


def needed(args) -> str:
    """An equal candidate on as many rows as `rows_needed` asks for, from 1,000: .8 is promised"""
    lines = []
    runs = max(args.runs // 4, 2)
    for population in populations():
        for cell in cells(population):
            if cell.name in ("accuracy", "own"):
                continue
            line = power_of(cell, runs)
            if line is not None:
                lines.append([population.name, cell.name, f"{cell.candidate}", *line])
    return table("data | metric | candidate | rows_needed | told | promoted", lines)


def power_of(cell: Cell, runs: int) -> list[str] | None:
    """The median of rows asked for, how often, and how often each number of them promotes."""
    rng = np.random.default_rng(1)

    def drawn(n: int):
        rows = rng.integers(len(cell.population.truth), size=n)
        return compare_by(cell.metric, *(each.at(rows) for each in cell.sides), seed=0)

    asked, passed = [], []
    for _ in range(runs):
        try:
            n = drawn(1000).rows_to_show(cell.inside, ALPHA)
        except Undefined:
            n = None
        if n is not None and n < 20_000:
            asked.append(n)
            passed.append(drawn(n).difference.p_above(-cell.margin - cell.inside) <= ALPHA)
    if len(asked) < min(LEAST_TOLD, runs // 2):
        return None
    return [f"{np.median(asked):,.0f}", f"{len(asked) / runs:.2f}", f"{np.mean(passed):.3f}"]


SECTIONS = {"margin": margin, "needed": needed}

if __name__ == "__main__":
    command(__doc__, SECTIONS, ("numpy", "scipy", "scikit-learn"), "gate-cells", runs=400)

"""How much better a model does on its training rows, and whether that gives them away."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from math import hypot
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind, any_clusters
from modelkit.lifecycle.evaluation.class_metrics import log_losses, rows_right
from modelkit.lifecycle.evaluation.figures import CLASSIFIED, MetricFigure, interval_text
from modelkit.lifecycle.evaluation.metrics import METRICS, TaskMetric, units_of
from modelkit.stats.influence import Undefined, standard_error
from modelkit.stats.intervals import excess_interval, student
from modelkit.stats.ranks import largest_excess

NEGLIGIBLE = 0.02  # of what was learned: a smaller loss on other rows is not called overfitting
MATERIAL = 0.2  # of what was learned, from which a loss on other rows is called overfitting
LITTLE = 0.2  # of what could be learned, below which a model is called underfitted
OTHER_CLUSTERS = (
    "only the held-out rows have clusters, so how many training rows are independent is unknown; name "
    "the column of X that holds the clusters of both"
)
# The first that is defined is the one that the sentence is about.
JUDGED_BY: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("roc_auc", "accuracy"),
    "multiclass": ("accuracy",),
    "multilabel": ("roc_auc", "f1_macro"),
    "regression": ("r2", "mae"),
    "ranking": ("ndcg@10",),
    "clustering": ("adjusted_rand",),
    "retrieval": ("mean_reciprocal_rank",),
}
OF_A_CONSTANT = {"roc_auc": 0.5, "r2": 0.0, "adjusted_rand": 0.0}  # what a constant answer gets


@final
@dataclass(frozen=True)
class TrainingGap:
    """One metric on training rows and on the others.

    Attributes:
        name: of the metric.
        train: on the rows the model was trained on.
        held_out: on the others.
        gap: how much better it is on training rows: above zero, worse on the others.
        low: the lower end of the interval of the gap; None without an interval.
        high: the upper end.
    """

    name: str
    train: float
    held_out: float
    gap: float
    low: float | None
    high: float | None

    @property
    def figure(self) -> str:
        """The gap and its interval in a few characters."""
        return interval_text(self.gap, self.low, self.high)

    def __str__(self) -> str:
        sides = f"{self.train:.3g} on training rows, {self.held_out:.3g} on held-out ones"
        return f"{self.name} {sides}: gap {self.figure}"


def training_gaps(trained: Answered, held_out: Answered, level: float) -> tuple[TrainingGap, ...]:
    """The gap of each metric that both sets of rows have and that has a better side."""
    found = []
    for metric in METRICS[held_out.kind].values():
        if metric.higher_is_better is not None:
            with suppress(Undefined):
                found.append(_gap(metric, trained, held_out, level))
    return tuple(found)


def _gap(metric: TaskMetric, trained: Answered, held_out: Answered, level: float) -> TrainingGap:
    before = metric.measure(trained)
    after = metric.measure(held_out)
    gap = before.value - after.value if metric.higher_is_better else after.value - before.value
    first = standard_error(before.influence, any_clusters(trained))
    second = standard_error(after.influence, any_clusters(held_out))
    found = TrainingGap(metric.name, before.value, after.value, gap, None, None)
    if first is None or second is None:
        return found
    units = min(trained.units, held_out.units)
    low, high = student(gap, hypot(first, second), units, level)
    return replace(found, low=low, high=high)


def membership_advantage(trained: Answered, held_out: Answered, level: float) -> MetricFigure:
    """How far an attacker who knows the truth can recognise training rows by the model's answers.

    The attacker calls a row a training row where its loss is at most a threshold. The figure is the
    share of training rows that are called so, less the same share of the others, at the best
    threshold (Yeom et al., Privacy risk in machine learning, CSF 2018). The interval allows for the
    threshold being chosen on the same rows.
    """
    figure = MetricFigure("membership_advantage", None, None, None, higher_is_better=False)
    try:
        losses = np.concatenate([_losses(trained), _losses(held_out)])
        ours = np.arange(len(losses)) < len(trained)
        value = largest_excess(losses, ours, np.concatenate([trained.weight, held_out.weight]))
    except Undefined as reason:
        return replace(figure, why=str(reason))
    if (trained.clusters is None) != (held_out.clusters is None):
        return replace(figure, value=value, why=OTHER_CLUSTERS)
    low, high = excess_interval(value, units_of(trained), units_of(held_out), level)
    return replace(figure, value=value, low=low, high=high)


def _losses(answered: Answered) -> Array:
    """What the attacker goes by, (n,): lower where the answer fits the truth. Raises Undefined."""
    if answered.kind == "regression":
        return np.asarray(np.square(answered.answers("predicted") - answered.truth).mean(axis=1))
    if answered.kind not in CLASSIFIED:
        raise Undefined(f"a loss for each row is not defined for a {answered.kind} task")
    probabilities = answered.probabilities
    scores = answered.scores
    several = answered.kind == "multilabel"
    if several and probabilities is not None:
        return log_losses(answered)
    if several or scores is None:
        return 1 - rows_right(answered)
    own = np.arange(len(answered)), answered.truth
    if probabilities is not None:
        # Of the other classes: beside 1 many probabilities of the true one round to the same number.
        others = probabilities.copy()
        others[own] = 0
        return np.asarray(others.sum(axis=1))
    if scores.ndim == 1:
        return np.where(answered.positives, -scores, scores)
    return -scores[own]


def verdict_on_fit(gaps: tuple[TrainingGap, ...], trained: Answered) -> str:
    """A sentence on whether the model looks over- or underfitted."""
    by_name = {gap.name: gap for gap in gaps}
    judged = [by_name[name] for name in JUDGED_BY[trained.kind] if name in by_name]
    if not judged:
        return "Whether it is over- or underfitted is unknown: no metric is defined on both sides."
    gap = judged[0]
    constant = _constant(gap.name, trained)
    learned = None if constant is None else gap.train - constant
    if constant is not None and learned is not None and learned < LITTLE * (1 - constant):
        return (
            f"It looks underfitted, or the columns say little: {gap}. On training rows a constant "
            f"answer has {constant:.3g}."
        )
    if gap.low is None:
        return f"The gap lacks an interval, so it may be chance: {gap}."
    if gap.low <= 0:
        return f"It does not look overfitted: {gap}; a gap of 0 is within the interval."
    if learned is None:
        return f"It does better on its training rows: {gap}."
    share = gap.gap / learned
    looks = "looks" if share >= MATERIAL else "looks a little"
    if share < NEGLIGIBLE:
        looks = "does not look"
    lost = f"{100 * share:.2g}% of what it learned does not carry over to held-out rows"
    return f"It {looks} overfitted: {gap}; {lost}."


def _constant(name: str, trained: Answered) -> float | None:
    """What the best constant answer gets on training rows, of a metric whose best is 1."""
    if name == "accuracy" and trained.kind != "multilabel":
        mass = np.bincount(trained.truth, trained.weight)
        return float(mass.max() / mass.sum())
    return OF_A_CONSTANT.get(name)

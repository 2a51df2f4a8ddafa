"""How much one row that was not drawn could take away from a candidate; pure.

A sample of n rows misses what happens in fewer than 3 / n of the rows to come with a probability of
.05 and more. So a test needs to know how bad such a row can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered, clusters_of
from modelkit.lifecycle.evaluation.figures import CLASSIFIED
from modelkit.lifecycle.evaluation.metrics import TaskMetric
from modelkit.lifecycle.gate.policy import GateMetric
from modelkit.stats.influence import Undefined, alike_of
from modelkit.stats.paired import Unseen, tail_of

Figure = Callable[[Answered], float]
# The least index of a tail that a test is trusted with: below 2 there is no variance. Squares of
# errors of 2 in truth look like 2.6 in one sample of twenty.
HEAVY = 2.0
HEAVY_SQUARES = 2.6
SQUARED = ("rmse", "r2")
LEFT_OUT = 1000  # units at most that are left out in turn
STEADY_TAIL = 3.0  # the least index of a tail from which rows are counted ahead
STEADY = 50  # rows that the variance rests on, at least: it is then known to some 14 %


def worst_unit(
    metric: TaskMetric, candidate: Answered, champion: Answered | None, added: Array
) -> Unseen:
    """How much a further row, or cluster, takes away at most.

    Where nothing bounds a row, as of a regressor, the tail of the rows that were seen tells it; and
    nothing does, so it is infinity, where the tail is so heavy that they do not.

    Args:
        metric: of the task.
        candidate: its answers.
        champion: the other's; None for a figure of the candidate alone.
        added: what each row or cluster adds to the figure.
    """
    if candidate.kind == "regression":
        far, index = tail_of(added)
        least = HEAVY_SQUARES if metric.name in SQUARED else HEAVY
        return Unseen(far if index > least else inf, index)
    clusters = clusters_of(candidate)
    sizes = np.ones(len(candidate)) if clusters is None else clusters.sizes
    largest = float(sizes.max())
    if candidate.kind in CLASSIFIED:
        sign = 1 if metric.higher_is_better else -1
        taken = worst_row(lambda rows: sign * metric.measure(rows).value, candidate, champion)
        return Unseen(largest * taken)
    return Unseen(largest / float(sizes.sum()) * (2 if metric.domain == "correlation" else 1))


def worst_row(figure: Figure, candidate: Answered, champion: Answered | None) -> float:
    """How much a further row takes away on which the candidate is wholly wrong and the champion right.

    Of the rows of the two rarest classes, or with all labels and with none, it is the larger. Of a
    class of which the rows have none it is taken from the figure with the class. Without a champion
    it is what the candidate alone loses. Infinity where a further row lacks a figure.

    Args:
        figure: of some rows; higher is better. Raises Undefined.
        candidate: a classifier's answers.
        champion: the other's to the same rows.
    """
    taken = []
    for place in (0, 1):
        try:
            lost = figure(candidate) - figure(_with_row(candidate, place, right=False))
            if champion is not None:
                lost += figure(_with_row(champion, place, right=True)) - figure(champion)
        except Undefined:
            return inf
        taken.append(lost)
    return max(*taken, 0.0) * _by_class(candidate)


def _by_class(answered: Answered) -> float:
    """A row that is added to c of its class counts 1 / (c + 1) of a figure of the class: 1 / c is meant."""
    counts = _counts(answered)
    least = max(float(counts.min()), 1.0)
    return (least + 1) / least


def _counts(answered: Answered) -> Array:
    if answered.kind == "multilabel":
        held = answered.truth.sum(axis=0)
        fewer: Array = np.minimum(held, len(answered) - held)
        return fewer
    return np.bincount(answered.truth, minlength=len(answered.classes))


def _with_row(answered: Answered, place: int, *, right: bool) -> Answered:
    """The rows and one more, of which the answer is as right, or as wrong, as can be."""
    if answered.kind == "multilabel":
        truth = np.full(answered.truth.shape[1], float(place))
        predicted = truth if right else 1 - truth
        likely = predicted
    else:
        rarest = np.argsort(_counts(answered), kind="stable")[:2]
        truth = rarest[place]
        predicted = truth if right else rarest[1 - place]
        likely = np.eye(len(answered.classes))[predicted]
    scores = np.where(likely > 0, inf, -inf)
    row = {
        "truth": truth,
        "predicted": predicted,
        "probabilities": likely,
        "scores": scores[answered.positive] if answered.kind == "binary" else scores,
        "clusters": 0,
    }
    longer: dict[str, Any] = {}
    for name, value in row.items():
        values = getattr(answered, name)
        if values is not None:
            longer[name] = np.append(values, np.asarray(value, values.dtype)[None], axis=0)
    return replace(answered, **longer)


@final
@dataclass(frozen=True, eq=False)
class OwnFigure:
    """The difference of two models by a metric of the caller; above zero, the candidate is better."""

    metric: GateMetric
    truth: Array
    candidate: Mapping[str, Array]
    champion: Mapping[str, Array]

    def drawn(self, times: Array) -> float:
        """The difference on rows that were drawn so many times, (n,)."""
        rows = np.repeat(np.arange(len(times)), times)
        return self._at(rows, rows, rows)

    def with_copy(self, ours: int, theirs: int, true: int) -> float:
        """The same with a further row.

        It has the candidate's outputs, the champion's and the truth of rows at three places.
        """
        every = np.arange(len(self.truth))
        return self._at(*(np.append(every, place) for place in (ours, theirs, true)))

    def _at(self, ours: Array, theirs: Array, true: Array) -> float:
        truth = self.truth[true]
        figures = [
            self.metric.figure(truth, {name: values[rows] for name, values in outputs.items()})
            for rows, outputs in ((ours, self.candidate), (theirs, self.champion))
        ]
        difference = figures[0] - figures[1]
        return difference if self.metric.higher_is_better else -difference


def worst_of_own(own: OwnFigure, candidate: Answered, champion: Answered, seed: int) -> Unseen:
    """How much a further row, or cluster, takes away at most by a metric of the caller.

    Of a classifier that is a row with the worst answer that was seen of the candidate for one of the
    two rarest classes, and the best of the champion. Where the caller bounds no row, it is also what
    the tail of the rows says; see `worst_unit`.
    """
    n = len(candidate)
    clusters = clusters_of(candidate)
    largest = 1.0 if clusters is None else float(clusters.sizes.max())
    value = own.drawn(np.ones(n, np.int64))
    places = _copies(candidate, champion)
    taken = max([value - own.with_copy(*each) for each in places], default=0.0)
    if places:
        taken *= largest * _by_class(candidate)
    bounds = own.metric.bounds
    if bounds is not None:
        return Unseen(max(taken, largest * (bounds[1] - bounds[0]) / n))
    codes = np.arange(n) if candidate.clusters is None else candidate.clusters
    far, index = _tail_left_out(own, value, codes, seed)
    if places and not index:
        return Unseen(taken)
    return Unseen(max(taken, far) if index > HEAVY else inf, index)


def _tail_left_out(own: OwnFigure, value: float, codes: Array, seed: int) -> Unseen:
    """The tail of what units add, each left out in turn: of all, or of `LEFT_OUT` drawn at random."""
    units = int(codes.max()) + 1
    chosen = np.random.default_rng(seed).permutation(units)[:LEFT_OUT]
    added = np.array([value - own.drawn((codes != unit).astype(np.int64)) for unit in chosen])
    if not np.isfinite(added).all():
        return Unseen(inf, 0.0)
    far, index = tail_of(added)
    # The largest of more units is farther by this much, where the tail falls as x^-index.
    return Unseen(far * (units / len(chosen)) ** (1 / index) if index else far, index)


def _copies(candidate: Answered, champion: Answered) -> list[tuple[int, int, int]]:
    """Places of the candidate's answer that fits a class worst, the champion's that fits it best, and a row."""
    if candidate.kind not in ("binary", "multiclass") or candidate.predicted is None:
        return []
    counts = _counts(candidate)
    present = np.flatnonzero(counts)
    rarest = present[np.argsort(counts[present], kind="stable")[:2]]
    return [
        (
            int(_likely(candidate, k).argmin()),
            int(_likely(champion, k).argmax()),
            int(np.argmax(candidate.truth == k)),
        )
        for k in rarest
    ]


def _likely(answered: Answered, k: int) -> Array:
    """How much each answer speaks for a class, (n,)."""
    if answered.probabilities is None:
        return np.equal(answered.answers("predicted"), k).astype(np.float64)
    return answered.probabilities[:, k]


def is_steady(added: Array, tail: float) -> bool:
    """Whether the variance of what units add, (n,), rests on enough of them to be relied on."""
    return alike_of(np.square(added)) >= STEADY and tail > STEADY_TAIL

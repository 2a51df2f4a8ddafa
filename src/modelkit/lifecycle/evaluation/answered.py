"""Labelled rows, what a model answered to them, and their clusters: what every metric is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.influence import Clusters, Measured, Undefined, alike_of

TaskKind = Literal[
    "binary", "multiclass", "multilabel", "regression", "ranking", "clustering", "retrieval"
]
LACKING = {
    "predicted": "the model does not give predictions of this kind",
    "probabilities": "the model gives no probabilities",
    "scores": "the model gives neither scores nor probabilities",
}
BY_ROW = ("truth", "predicted", "probabilities", "scores", "weights", "clusters", "queries")


@final
@dataclass(frozen=True, eq=False)
class Answered:
    """Rows with their truth, and the answers of one model; n rows, C classes, L labels.

    Attributes:
        kind: of task.
        truth: places in `classes`, int64 (n,); for "multilabel" 0 or 1, float64 (n, L); for
            "regression" float64 (n, outputs); for "ranking" how relevant each row is, (n,).
        predicted: as the truth; for "retrieval" None.
        probabilities: float64 (n, C) or (n, L), or None.
        scores: what rows are ranked by, float64: (n,) for "binary" and "ranking", else (n, C) or
            (n, L); or None. Of a "binary" task high ones speak for the positive class.
        classes: of a classifier, in the order of the model's; of several labels their names.
        weights: float64 (n,), or None for equal ones.
        clusters: numbers from 0 on (n,): rows of one cluster count as one observation; or None. For
            "ranking" they are at least the queries.
        queries: numbers from 0 on (n,), for "ranking".
        gains: ready figures of each row, by metric, float64 (n,); for "retrieval".
        positive: the place of the positive class of a "binary" task.
    """

    kind: TaskKind
    truth: Array
    predicted: Array | None = None
    probabilities: Array | None = None
    scores: Array | None = None
    classes: tuple[Any, ...] = ()
    weights: Array | None = None
    clusters: Array | None = None
    queries: Array | None = None
    gains: Mapping[str, Array] = field(default_factory=dict)
    positive: int = 1

    def __len__(self) -> int:
        return len(self.truth)

    def at(self, rows: Array) -> Answered:
        """The rows that a mask or places (m,) choose."""
        chosen: dict[str, Any] = {}
        for name in BY_ROW:
            values = getattr(self, name)
            chosen[name] = None if values is None else values[rows]
        gains = {name: values[rows] for name, values in self.gains.items()}
        return replace(self, **chosen, gains=gains)

    def answers(self, name: Literal["predicted", "probabilities", "scores"]) -> Array:
        """An attribute that holds answers. Raises Undefined where the model gave none."""
        values: Array | None = getattr(self, name)
        if values is None:
            raise Undefined(LACKING[name])
        return values

    @property
    def names(self) -> tuple[Any, ...]:
        """The classes, or the labels, which are numbers from 0 on where you did not name them."""
        several = self.kind == "multilabel" and not self.classes
        return tuple(range(self.truth.shape[1])) if several else self.classes

    def by_class(self) -> Iterator[Answered]:
        """For each class against the rest, or each label, the same rows as a "binary" task.

        That class, or label, is the positive one.
        """
        return map(self._of_class, range(len(self.names)))

    def _of_class(self, k: int) -> Answered:
        def has(values: Array) -> Array:
            own = values[:, k] == 1 if self.kind == "multilabel" else values == k
            return np.asarray(own, np.int64)

        scores = self.scores
        if scores is not None and scores.ndim == 2:
            scores = scores[:, k]
        elif scores is not None and k != self.positive:
            scores = -scores
        return replace(
            self,
            kind="binary",
            truth=has(self.truth),
            predicted=None if self.predicted is None else has(self.predicted),
            probabilities=None,
            scores=scores,
            classes=("the rest", self.names[k]),
            positive=1,
        )

    def weighted(self, times: Array) -> Answered:
        """The same rows with their weights multiplied, as a bootstrap draws them."""
        return replace(self, weights=self.weight * times)

    @property
    def positives(self) -> Array:
        """Whether each row of a "binary" task is positive, bool (n,)."""
        return np.asarray(self.truth == self.positive)

    @property
    def positive_class(self) -> Any:
        """The positive class of a "binary" task."""
        return self.classes[self.positive]

    @property
    def units(self) -> int:
        """How many independent observations the rows are: clusters, where there are some."""
        codes = self.clusters
        return len(self) if codes is None else int(np.count_nonzero(np.bincount(codes)))

    @property
    def weight(self) -> Array:
        """The weight of each row, (n,)."""
        return np.ones(len(self)) if self.weights is None else self.weights


def rests_on(part: Measured, answered: Answered, *kinds: Array) -> Measured:
    """A figure that rests on rows of each of some kinds, 0 or 1 (n,), such as the rows of a class.

    Where a few clusters have most rows of a kind, it rests on few clusters, however many there are.
    """
    codes = answered.clusters
    if codes is None:
        return part
    alike = [alike_of(np.bincount(codes, kind)) for kind in kinds]
    return replace(part, units=min(part.units, *alike))


def any_clusters(answered: Answered) -> Clusters | None:
    """The clusters of rows that were answered, however few; None where each row is one observation."""
    codes = answered.clusters
    if codes is None:
        return None
    counted = codes
    if answered.queries is not None:
        counted = codes[np.unique(answered.queries, return_index=True)[1]]
    return Clusters(codes, np.bincount(counted, minlength=int(codes.max()) + 1).astype(np.float64))


def clusters_of(answered: Answered) -> Clusters | None:
    """The same; raises Undefined where they are too few to decide."""
    found = any_clusters(answered)
    if found is not None and found.alike < found.least:
        raise Undefined(
            f"{np.count_nonzero(found.sizes):,} clusters, which count as {found.alike:.1f} of one size, "
            f"are too few to tell: it takes {found.least}"
        )
    return found

"""Where a change is: joint counts of the features and of a few columns that part the rows.

A segment is a category of such a column, or a range of its numbers. The reference and the latest
rows are counted in each segment by themselves, so that after an alarm an exact test and an effect
size say in which of them the change is. No row is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, GONE, UNKNOWN_CATEGORY, Feature
from modelkit.drift.counts import count_by
from modelkit.drift.effects import row_effects
from modelkit.drift.values import Alarm, SegmentDrift
from modelkit.errors import UsageError
from modelkit.stats.exact import lasting_test
from modelkit.stats.tests import holm

MOST_SEGMENTS = 24  # of one column
GENERATION_ROWS = 2048  # rows after which the oldest counts are dropped
GENERATIONS = 4
MOST_FEATURES = 10  # that are looked at in segments, the first to be alarmed


@final
@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segments by one column, and the reference in them.

    `labels` (k,) name the segments, and `of_cells`, uint8 (67,), has the number of the segment of
    each cell of the column. `counts` is int64 (k, features, 67).
    """

    name: str
    labels: tuple[str, ...]
    of_cells: Array
    counts: Array


def members(of_cells: Array, cells: Array) -> Array:
    """The number of the segment of each row, (rows,), by the cells of the column, uint8 (rows,).

    A row without a value was not asked for it, and is counted with the missing ones.
    """
    return of_cells[np.minimum(cells, GONE)]


def fit_segments(
    names: Sequence[str], features: Sequence[Feature], cells: Array
) -> tuple[Segmentation, ...]:
    """The segments by each of these columns, with the joint counts of the reference.

    Args:
        names: of columns.
        features: of the profile.
        cells: of the reference, uint8 (n, d), 255 where a row is not counted of a feature.

    Raises:
        UsageError: for names that are not columns.
    """
    if len(set(names)) < len(names):
        raise UsageError(f"segments names a column twice: {list(names)}")
    places = {feature.name: j for j, feature in enumerate(features) if not feature.output}
    found = []
    for name in names:
        if name not in places:
            raise UsageError(
                f"segments names {name!r}, which is not a column; there are {sorted(places)}"
            )
        labels, of_cells = _parted(features[places[name]])
        counts = count_by(cells, members(of_cells, cells[:, places[name]]), len(labels))
        found.append(Segmentation(name, labels, of_cells, counts))
    return tuple(found)


def _parted(feature: Feature) -> tuple[tuple[str, ...], Array]:
    """The labels of the segments by a feature, and the number of the segment of each cell.

    The most frequent categories are segments by themselves; then come the others, new and missing
    ones.
    """
    words = feature.labels()
    groups, used = feature.groups, np.flatnonzero([word != "" for word in words])
    if feature.kind == "category":
        single = min(len(feature.categories), MOST_SEGMENTS - 3)
        groups, used = np.minimum(np.arange(CELLS), single), np.arange(CELLS)
        groups[[UNKNOWN_CATEGORY, GONE]] += [1, 2]
    kept, renumbered = np.unique(groups[used], return_inverse=True)
    of_cells = np.zeros(CELLS, np.uint8)
    of_cells[used] = renumbered
    labels = []
    for k in range(len(kept)):
        inside = [words[cell] for cell in used[renumbered == k].tolist()]
        labels.append(_joined(inside) if feature.ordered else inside[-1])
    return tuple(labels), of_cells


def _joined(words: Sequence[str]) -> str:
    """One label for neighbouring cells: "1 to 2" and "2 to 5" are "1 to 5"."""
    first = words[0]
    last = words[-1]
    if len(words) == 1:
        return first
    low = first.partition(" to ")[0] if " to " in first else first
    if last.startswith("above ") or last == "+inf":
        return f"above {low.removeprefix('up to ')}"
    high = last.rpartition(" to ")[2]
    if first == "-inf" or first.startswith("up to "):
        return f"up to {high.removeprefix('up to ')}"
    return f"{low} to {high}"


@final
class Segmented:
    """The joint counts of the latest rows, in four generations of 2,048.

    Args:
        segmentations: of the profile.
        features: of the profile.
    """

    changing = ("rows", "_counts")

    def __init__(self, segmentations: Sequence[Segmentation], features: Sequence[Feature]) -> None:
        names = [feature.name for feature in features]
        self.by = tuple(segmentations)
        self.rows = 0
        self._places = [names.index(segmentation.name) for segmentation in self.by]
        shapes = [(GENERATIONS, *segmentation.counts.shape) for segmentation in self.by]
        self._counts = [np.zeros(shape, np.uint16) for shape in shapes]

    def count(self, cells: Array) -> None:
        """Count rows, uint8 (n, d)."""
        start = 0
        while start < len(cells):
            generation, inside = divmod(self.rows, GENERATION_ROWS)
            end = min(start + GENERATION_ROWS - inside, len(cells))
            slot = generation % GENERATIONS
            if not inside:
                for counts in self._counts:
                    counts[slot] = 0
            self._add(slot, cells[start:end])
            self.rows += end - start
            start = end

    def _add(self, slot: int, cells: Array) -> None:
        for segmentation, place, counts in zip(self.by, self._places, self._counts, strict=True):
            member = members(segmentation.of_cells, cells[:, place])
            counts[slot] += count_by(cells, member, len(segmentation.labels)).astype(np.uint16)

    def since(self, row: int, j: int) -> tuple[int, list[Array]]:
        """Feature number j in the latest generations of rows: the first's number, and their counts.

        There are counts (g, k, 67) for each segmentation, of the generations that began after the
        first `row` rows, or of the latest one.
        """
        if not self.rows:
            return 0, [counts[:1, :, j] * 0 for counts in self._counts]
        latest = (self.rows - 1) // GENERATION_ROWS
        oldest = max(latest - GENERATIONS + 1, 0)
        first = min(max(-(-row // GENERATION_ROWS), oldest), latest)
        slots = [number % GENERATIONS for number in range(first, latest + 1)]
        return first, [counts[:, :, j][slots].astype(np.int64) for counts in self._counts]


# Where a change is.


class Latest(NamedTuple):
    """Feature number j in the latest generations of rows; `first` is the number of the first one.

    `counts` are (generations, k, 67) for each segmentation.
    """

    j: int
    first: int
    counts: list[Array]


def latest_of(
    features: Sequence[Feature], segmented: Segmented, alarms: Sequence[Alarm], counted: int
) -> list[Latest]:
    """The features with an alarm, since their change began.

    Args:
        features: of the profile.
        segmented: the latest rows.
        alarms: those so far; the first of a feature says when its change began.
        counted: the number of the last row in `segmented`, as alarms count.
    """
    names = [feature.name for feature in features]
    began: dict[int, int] = {}
    for alarm in alarms:
        if alarm.feature in names and len(began) < MOST_FEATURES:
            began.setdefault(names.index(alarm.feature), alarm.began or 0)
    before = segmented.rows - counted
    return [Latest(j, *segmented.since(before + row, j)) for j, row in began.items()]


def segment_drifts(
    features: Sequence[Feature], segmentations: Sequence[Segmentation], latest: Sequence[Latest]
) -> tuple[SegmentDrift, ...]:
    """Features in segments that have rows on both sides: by feature and column, the largest first.

    p-values hold whenever a report is made, and are adjusted by Holm over all of them.
    """
    found = []
    for lately in latest:
        feature = features[lately.j]
        for by, counts in zip(segmentations, lately.counts, strict=True):
            if by.name != feature.name:
                found += _in_segments(feature, by, by.counts[:, lately.j], lately.first, counts)
    adjusted = holm(np.array([drift.p for drift in found])).tolist()
    drifts = [replace(drift, p=p) for drift, p in zip(found, adjusted, strict=True)]
    return tuple(sorted(drifts, key=_order))


def _in_segments(
    feature: Feature, by: Segmentation, reference: Array, first: int, latest: Array
) -> list[SegmentDrift]:
    """A feature in the segments of one column, each with the p-value of its test alone."""
    before = reference.sum(axis=1)
    recent = latest.sum(axis=0)
    now = recent.sum(axis=1)
    ordered = feature.ordered
    return [
        SegmentDrift(
            feature=feature.name,
            by=by.name,
            segment=by.labels[k],
            rows=int(now[k]),
            share=(float(before[k] / before.sum()), float(now[k] / now.sum())),
            p=lasting_test(latest[:, k], reference[k], first, ordered=ordered),
            effect=row_effects(recent[k], reference[k], ordered=ordered)[0],
        )
        for k in np.flatnonzero((now > 0) & (before > 0)).tolist()
    ]


def _order(drift: SegmentDrift) -> tuple[str, str, float, float]:
    return drift.feature, drift.by, drift.p, -drift.effect.low

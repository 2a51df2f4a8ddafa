"""Where a change is: joint counts of the features and of a few columns that part the rows.

A segment is a category of such a column, a range of its numbers, or an hour of the day. The
reference and the latest rows are counted in each segment by themselves, so that after an alarm an
exact test and an effect size say in which of them the change is. No row is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, GONE, REST, UNKNOWN_CATEGORY, Feature
from modelkit.drift.counts import count_by
from modelkit.drift.effects import row_effects
from modelkit.drift.values import Alarm, SegmentDrift
from modelkit.errors import UsageError
from modelkit.stats.exact import lasting_test
from modelkit.stats.tests import holm

HOUR_OF_DAY = "hour"  # where the profile has a column of times, and no column of this name
MOST_SEGMENTS = 24  # of one column
GENERATION_ROWS = 2048  # rows after which the oldest counts are dropped
GENERATIONS = 4
MOST_FEATURES = 10  # that are looked at in segments, the first to be alarmed


@final
@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segments by one column, and the reference in them.

    `labels` (k,) name the segments, `of_cells`, uint8 (67,), has the number of the segment of each
    cell of the column, and is empty for hours of the day. `counts` is int64 (k, features, 67).
    """

    name: str
    labels: tuple[str, ...]
    of_cells: Array
    counts: Array


def members(of_cells: Array, cells: Array | None, times: Array | float | None, rows: int) -> Array:
    """The number of the segment of each row, (rows,).

    Args:
        of_cells: the segment of each cell of the column, uint8 (67,).
        cells: of the column, uint8 (rows,); None for hours of the day.
        times: in POSIX seconds, (rows,) or of all; None where only cells count.
        rows: their number.
    """
    if cells is None:
        hours = np.floor_divide(times, 3600) % 24  # type: ignore[arg-type]  # there are times
        return np.broadcast_to(np.asarray(hours, np.int64), rows)
    # A row without a value was not asked for it, and is counted with the missing ones.
    found: Array = of_cells[np.minimum(cells, GONE)]
    return found


def fit_segments(
    names: Sequence[str], features: Sequence[Feature], cells: Array, times: Array | None
) -> tuple[Segmentation, ...]:
    """The segments by each of these columns, with the joint counts of the reference.

    Args:
        names: of columns, or "hour".
        features: of the profile.
        cells: of the reference, uint8 (n, d), 255 where a row is not counted of a feature.
        times: of the rows, in POSIX seconds (n,); None without.

    Raises:
        UsageError: for names that are no columns, and "hour" without times.
    """
    if len(set(names)) < len(names):
        raise UsageError(f"segments names a column twice: {list(names)}")
    places = {feature.name: j for j, feature in enumerate(features) if not feature.output}
    found = []
    for name in names:
        place = places.get(name)
        if place is not None:
            labels, of_cells = _parted(features[place])
        elif name != HOUR_OF_DAY:
            raise UsageError(
                f"segments names {name!r}, which is not a column; there are {sorted(places)}, and "
                f"{HOUR_OF_DAY!r} with time="
            )
        elif times is None:
            raise UsageError('segments=("hour",) needs to know when rows were: pass time= as well')
        else:
            labels = tuple(f"{hour:02d}:00" for hour in range(24))
            of_cells = np.empty(0, np.uint8)
        column = None if place is None else cells[:, place]
        counts = count_by(cells, members(of_cells, column, times, len(cells)), len(labels))
        found.append(Segmentation(name, labels, of_cells, counts))
    return tuple(found)


def _parted(feature: Feature) -> tuple[tuple[str, ...], Array]:
    """The labels of the segments by a feature, and the number of the segment of each cell."""
    words = feature.labels()
    if feature.kind == "category":
        return _parted_by_category(feature, words)
    groups = feature.groups
    used = np.flatnonzero([bool(word) for word in words])
    kept, renumbered = np.unique(groups[used], return_inverse=True)
    of_cells = np.zeros(CELLS, np.uint8)
    of_cells[used] = renumbered
    labels = []
    for group in range(len(kept)):
        inside = [words[cell] for cell in used[renumbered == group].tolist()]
        labels.append(_joined(inside))
    return tuple(labels), of_cells


def _parted_by_category(feature: Feature, words: Sequence[str]) -> tuple[tuple[str, ...], Array]:
    """The most frequent categories by themselves, then the others, new and missing ones."""
    own = min(len(feature.categories), MOST_SEGMENTS - 3)
    of_cells = np.full(CELLS, own, np.uint8)
    of_cells[:own] = np.arange(own)
    of_cells[UNKNOWN_CATEGORY] = own + 1
    of_cells[GONE] = own + 2
    last = [words[REST], words[UNKNOWN_CATEGORY], words[GONE]]
    return (*words[:own], *last), of_cells


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
        places: the number of the feature that each is by; None for hours of the day.
    """

    changing = ("rows", "_counts")

    def __init__(self, segmentations: Sequence[Segmentation], features: Sequence[Feature]) -> None:
        names = [feature.name for feature in features]
        self.by = tuple(segmentations)
        self.rows = 0
        self._places = [names.index(own.name) if len(own.of_cells) else None for own in self.by]
        shapes = [(GENERATIONS, *own.counts.shape) for own in self.by]
        self._counts = [np.zeros(shape, np.uint16) for shape in shapes]

    def count(self, cells: Array, times: Array | float) -> None:
        """Count rows, uint8 (n, d), of these times, in POSIX seconds: (n,) or of all."""
        start = 0
        while start < len(cells):
            generation, inside = divmod(self.rows, GENERATION_ROWS)
            end = min(start + GENERATION_ROWS - inside, len(cells))
            slot = generation % GENERATIONS
            if not inside:
                for counts in self._counts:
                    counts[slot] = 0
            part = slice(start, end)
            own_times = times if np.ndim(times) == 0 else np.asarray(times)[part]
            self._add(slot, cells[part], own_times)
            self.rows += end - start
            start = end

    def _add(self, slot: int, cells: Array, times: Array | float) -> None:
        for own, place, counts in zip(self.by, self._places, self._counts, strict=True):
            column = None if place is None else cells[:, place]
            member = members(own.of_cells, column, times, len(cells))
            counts[slot] += count_by(cells, member, len(own.labels)).astype(np.uint16)

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
    for alarm in alarms if segmented.by else ():
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

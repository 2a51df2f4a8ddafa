"""Counts of rows by cell, by a group of rows: all that an exact test needs, and they add up.

Strata, units, segments, hours and whole calls are all groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.drift import codec
from modelkit.drift.cells import CELLS
from modelkit.drift.layout import Rows
from modelkit.drift.units import UnitRows, count_of
from modelkit.errors import UsageError

COUNTED_AT_ONCE = 1 << 16  # cells, so that those of many rows stay in cache
TALLY_SCHEMA = "modelkit.tally/1"
MOST_ROWS = 1 << 48  # of one group, so that sums over groups and cells stay below 2**63
STRANGE = -1  # the number of a stratum that the reference does not have

Group = tuple[int | str | None, int]  # the key of a unit, None where there are none; and a stratum


@final
@dataclass(frozen=True, eq=False)
class Tally:
    """How many rows fall into each cell of a Profile; it stores no rows.

    Tallies of the parts of some rows add up to the tally of all, exactly, whatever the parts and
    their order. Make one with `Profile.tally`, and test it with `Detector.test`.

    `profile` is the digest of the Profile. `groups` are the strata that the rows are of, or their
    units: each a unit's key (None without units) and the number of a stratum, -1 for one that the
    reference does not have. `counts` is int64 (groups, features, 67).
    """

    profile: str
    groups: tuple[Group, ...]
    counts: Array

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.group_rows.sum())

    @property
    def strangers(self) -> int:
        """The number of rows of a stratum that the reference does not have."""
        strange = [stratum == STRANGE for _, stratum in self.groups]
        return int(self.group_rows[strange].sum())

    @property
    def group_rows(self) -> Array:
        """The number of rows of each group, int64 (groups,)."""
        values: Array = self.counts.sum(axis=2).max(axis=1, initial=0)
        return values

    @property
    def counted(self) -> Array:
        """The features that the rows had, bool (features,); others are of scores not given."""
        return np.asarray(self.counts.any(axis=(0, 2)))

    @staticmethod
    def total(tallies: Sequence[Tally]) -> Tally:
        """The tally of all rows of several tallies.

        Raises UsageError for no tallies, tallies of different profiles, more than 2**48 rows of one
        group, and where some rows had scores and others had none.
        """
        if not tallies:
            raise UsageError("the list of tallies is empty: pass at least one")
        of = {tally.profile for tally in tallies}
        if len(of) > 1:
            raise UsageError(
                f"the tallies are of {len(of)} profiles, whose cells differ; count all rows by one"
            )
        having = {tuple(tally.counted.tolist()) for tally in tallies if tally.groups}
        if len(having) > 1:
            raise UsageError(
                "some tallies have scores that others lack; give the scores of all rows, or of none"
            )
        found: dict[Group, Array] = {}
        for tally in tallies:
            for group, counts in zip(tally.groups, tally.counts, strict=True):
                found[group] = found[group] + counts if group in found else counts
                if found[group].max(initial=0) > MOST_ROWS:
                    raise UsageError(f"the tallies have more than {MOST_ROWS:,} rows of one group")
        return _tally(tallies[0].profile, found, tallies[0].counts.shape[1])

    def __add__(self, other: object) -> Tally:
        if not isinstance(other, Tally):
            return NotImplemented
        return Tally.total([self, other])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tally):
            return NotImplemented
        same = self.profile == other.profile and self.groups == other.groups
        return same and np.array_equal(self.counts, other.counts)

    def __hash__(self) -> int:
        return hash((self.profile, self.groups, self.counts.tobytes()))

    def to_bytes(self) -> bytes:
        """The tally as an npz of plain arrays; equal tallies give equal bytes."""
        counts = self.counts.astype(np.min_scalar_type(int(self.counts.max(initial=0))))
        about = {"profile": self.profile, "groups": self.groups}
        return codec.pack(TALLY_SCHEMA, about, {"counts": counts})

    @staticmethod
    def from_bytes(data: bytes | memoryview) -> Tally:
        """The inverse of `to_bytes`. Raises PackageError for anything else."""
        about, arrays = codec.unpack(TALLY_SCHEMA, data, "tally")
        with codec.reading("tally"):
            found = fields.read_object(Tally, {**about, **arrays}, "tally")
            _check_whole(found)
        return replace(found, counts=found.counts.astype(np.int64))

    def __reduce__(self) -> tuple[Any, ...]:
        return Tally.from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        groups = count_of(len(self.groups), "group")
        return f"<Tally of {count_of(self.rows, 'row')} in {groups}>"


def _check_whole(tally: Tally) -> None:
    """Raise ValueError unless keys are of one type, each group is there once, and counts are theirs."""
    groups, counts = tally.groups, tally.counts
    strange = any(stratum < STRANGE for _, stratum in groups)
    if strange or len({type(key) for key, _ in groups}) > 1 or len({*groups}) < len(groups):
        raise ValueError("its groups are not units and strata, or one is there twice")
    fits = counts.ndim == 3 and counts.shape[::2] == (len(groups), CELLS)
    if not fits or counts.dtype.kind != "u" or counts.max(initial=0) > MOST_ROWS:
        raise ValueError(f"its counts are {counts.dtype} {counts.shape}, or too large")


def _tally(profile: str, found: Mapping[Group, Array], features: int) -> Tally:
    groups = tuple(sorted(found))
    counts = np.zeros((len(groups), features, CELLS), np.int64)
    for i, group in enumerate(groups):
        counts[i] = found[group]
    return Tally(profile, groups, counts)


def tally_of(profile: str, rows: Rows) -> Tally:
    """Count encoded rows by stratum, or by unit and stratum; `profile` is its digest."""
    units = [UnitRows(None, np.arange(len(rows)))] if rows.units is None else rows.units
    strata = np.zeros(len(rows), np.int64) if rows.strata is None else rows.strata
    width = int(strata.max(initial=0)) - STRANGE + 1
    pairs = strata - STRANGE
    for number, own in enumerate(units):
        pairs[own.rows] += number * width
    found = np.flatnonzero(np.bincount(pairs))
    place = np.zeros(len(units) * width, np.int64)
    place[found] = np.arange(len(found))
    counts = count_by(rows.cells, place[pairs] if len(found) > 1 else None, len(found))
    groups = [(units[pair // width].key, pair % width + STRANGE) for pair in found.tolist()]
    return _tally(profile, dict(zip(groups, counts, strict=True)), rows.cells.shape[1])


def refuse_tally(rows: object) -> None:
    """Raise UsageError for a Tally where rows are watched one after the other."""
    if isinstance(rows, Tally):
        raise UsageError(
            "a Tally has counts and no rows that could be watched one after the other: "
            "Detector.test(tally) compares it as one batch; for a stream, give each worker a "
            "Detector and merge their states"
        )


def count_by(cells: Array, group: Array | None = None, groups: int = 1) -> Array:
    """The number of values in each cell, by group of rows: int64 (groups, d, 67).

    Args:
        cells: uint8 (n, d), 255 where a row lacks a value, which is not counted.
        group: the number of each row's group, integers (n,), negative for a row of none; None
            where all rows are of one.
        groups: their number.
    """
    d = cells.shape[1]
    width = CELLS + 1
    size = groups * d * width
    lanes = np.arange(0, d * width, width)
    if group is not None and group.min(initial=0) < 0:
        cells = cells[group >= 0]
        group = group[group >= 0]
    total = np.zeros(size, np.int64)
    step = max(COUNTED_AT_ONCE, size) // max(d, 1) + 1
    for start in range(0, len(cells), step):
        part = slice(start, start + step)
        at = np.minimum(cells[part], CELLS) + lanes
        if group is not None:
            at += (group[part].astype(np.int64) * (d * width))[:, None]
        total += np.bincount(at.ravel(), minlength=size)
    return total.reshape(groups, d, width)[:, :, :CELLS]

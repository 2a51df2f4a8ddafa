"""Counts of rows by cell: all that an exact test needs, and they add up over any number of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import codec
from modelkit.drift.call_marks import call_columns, marks_of
from modelkit.drift.cells import CELLS
from modelkit.drift.encoding import stratum_numbers
from modelkit.drift.fitted import Fitted
from modelkit.drift.units import UnitRows
from modelkit.errors import PackageError, UsageError

TALLY_SCHEMA = "modelkit.tally/1"
MOST_ROWS = 1 << 48  # of one group, so that sums over groups and cells stay below 2**63
STRANGE = -1  # the number of a stratum that the reference does not have

Group = tuple[int | str | None, int]  # the key of a unit, None where there are none; and a stratum


@final
@dataclass(frozen=True, eq=False)
class Tally:
    """How many rows fall into each cell of a Profile; it holds no row.

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
            raise UsageError("there are no tallies to add up")
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
        try:
            groups = tuple((key, stratum) for key, stratum in about["groups"])
            stored = arrays["counts"]
            profile = str(about["profile"])
        except (KeyError, TypeError, ValueError) as error:
            raise PackageError(f"this is not a tally: {error!r}") from error
        _check_groups(groups)
        fits = stored.ndim == 3 and stored.shape[::2] == (len(groups), CELLS)
        if not fits or stored.dtype.kind != "u" or stored.max(initial=0) > MOST_ROWS:
            raise PackageError(
                f"this is not a tally: its counts are {stored.dtype} {stored.shape}, or too large"
            )
        return Tally(profile, groups, stored.astype(np.int64))

    def __reduce__(self) -> tuple[Any, ...]:
        return Tally.from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        return f"<Tally of {self.rows:,} rows in {len(self.groups)} groups>"


def _check_groups(groups: Sequence[tuple[Any, Any]]) -> None:
    """Raise PackageError unless all keys are of one type, and each group is there once."""
    kinds = {type(key) for key, _ in groups}
    strata = [stratum for _, stratum in groups]
    numbered = all(type(stratum) is int and stratum >= STRANGE for stratum in strata)
    of_one_kind = len(kinds) <= 1 and kinds <= {int, str, type(None)}
    if not of_one_kind or not numbered or len(set(groups)) < len(groups):
        raise PackageError(
            "this is not a tally: its groups are not units and strata, or one is there twice"
        )


def _tally(profile: str, found: Mapping[Group, Array], features: int) -> Tally:
    groups = tuple(sorted(found))
    counts = np.zeros((len(groups), features, CELLS), np.int64)
    for i, group in enumerate(groups):
        counts[i] = found[group]
    return Tally(profile, groups, counts)


def tally_rows(profile: Fitted, X: Any, scores: Any, at: Any) -> Tally:
    """Count the rows of one call. Raises what `Profile.tally` says."""
    check_adds_up(profile)
    marks = marks_of(profile, call_columns(profile, X, scores), at)
    n, strata = stratum_numbers(profile, marks.columns)
    parts = [UnitRows(None, np.arange(n))] if marks.parts is None else marks.parts
    found: dict[Group, Array] = {}
    for part in parts:
        for stratum, rows in _by_stratum(strata, part.rows):
            whole = len(rows) == n
            found[part.key, stratum] = _counted(profile, marks.columns, None if whole else rows)
    return _tally(profile.digest, found, len(profile.features))


def check_adds_up(profile: Fitted) -> None:
    """Raise UsageError for a profile that counts of unordered rows cannot be tested against."""
    if profile.epsilon is not None:
        raise UsageError(
            "the counts of this profile have noise for privacy, which an exact test would take for "
            "drift; merge the states of Detectors, which allow for it"
        )
    if profile.units is None and any(feature.stride > 1 for feature in profile.features):
        raise UsageError(
            "neighbouring rows of this profile's reference are dependent, and workers do not keep "
            'their order; fit the profile with unit="day" or another unit, which a tally counts '
            "apart"
        )


def _by_stratum(strata: Array | None, rows: Array) -> list[tuple[int, Array]]:
    """The numbers of strata, and the rows of each."""
    if not len(rows):
        return []
    if strata is None:
        return [(0, rows)]
    own = strata[rows]
    return [(stratum, rows[own == stratum]) for stratum in np.unique(own).tolist()]


def _counted(profile: Fitted, columns: Mapping[str, Array], rows: Array | None) -> Array:
    """The counts (d, 67) of some rows, None for all; 0 for a feature that they lack."""
    counts = np.zeros((len(profile.features), CELLS), np.int64)
    for j, feature in enumerate(profile.features):
        values = columns.get(feature.name)
        if values is not None:
            counts[j] = feature.count(values if rows is None else values[rows])
    return counts

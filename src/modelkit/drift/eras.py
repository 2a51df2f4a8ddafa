"""The references of a Detector one after the other, each with its buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import codec
from modelkit.drift.buckets import Buckets
from modelkit.drift.profile import Profile
from modelkit.errors import PackageError

MOST_ERAS = 16


@final
@dataclass(eq=False)
class Era:
    """One reference and the rows that were compared with it.

    `alpha` is its probability of a false alarm, and `until` when another took its place, in POSIX
    seconds; infinity for the one in force.
    """

    profile: Profile
    buckets: Buckets
    alpha: float
    until: float = inf

    @staticmethod
    def of(profile: Profile, alpha: float, most_bytes: int) -> Era:
        """An era without rows."""
        features = len(profile.features) + (profile.target is not None)
        return Era(profile, Buckets(len(profile.strata), features, most_bytes), alpha)

    def copy(self) -> Era:
        """The era as it is now."""
        return replace(self, buckets=self.buckets.copy())

    @property
    def size(self) -> int:
        """The bytes of its counts."""
        return sum(bucket.counts.nbytes for bucket in self.buckets.all())


def trimmed(eras: Sequence[Era], most_bytes: int) -> list[Era]:
    """The latest eras, of which the older ones forget their oldest buckets to stay within a size."""
    kept = list(eras)[-MOST_ERAS:]
    over = sum(era.size for era in kept) - most_bytes
    while len(kept) > 1:
        oldest = kept[0].buckets
        if over > 0:
            over -= oldest.forget()
        elif oldest.all():
            break
        if not oldest.all():
            del kept[0]
    return kept


def state_of(eras: Sequence[Era]) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Everything that changes: values that JSON can hold, and arrays."""
    plain = []
    arrays: dict[str, Array] = {}
    for i, era in enumerate(eras):
        changing, rest = era.buckets.state()
        arrays |= {f"era {i} {name}": array for name, array in changing.items()}
        if era.until < inf:
            arrays[f"era {i} profile"] = np.frombuffer(era.profile.to_bytes(), np.uint8)
            rest["until"] = era.until
        plain.append(rest | {"alpha": era.alpha})
    return plain, arrays


def restored(
    current: Era, plain: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array], most_bytes: int
) -> list[Era]:
    """The inverse of `state_of`; `current` is the era in force, without rows.

    Raises PackageError for a state that does not fit.
    """
    found = []
    for i, own in enumerate(plain):
        era = current
        of_era = codec.under(f"era {i} ", arrays)
        if "until" in own:
            profile = Profile.from_bytes(of_era["profile"].tobytes())
            era = Era.of(profile, own["alpha"], most_bytes)
            era.until = own["until"]
        elif i < len(plain) - 1:
            raise PackageError("this is not a state of a Detector: an older reference has no end")
        era.buckets.restore(of_era, own)
        found.append(era)
    return found


def joined_eras(workers: Sequence[Sequence[Era]], most_bytes: int) -> list[Era]:
    """The eras of several workers in the order of time, those of one reference added up."""
    found: dict[str, Era] = {}
    for eras in workers:
        for era in eras:
            digest = era.profile.digest
            if digest not in found:
                found[digest] = Era.of(era.profile, era.alpha, most_bytes)
                found[digest].until = era.until
            found[digest].buckets.join(era.buckets)
            found[digest].until = max(found[digest].until, era.until)
    return trimmed(sorted(found.values(), key=lambda era: era.until), most_bytes)

"""The state of a Detector: everything that changes, as bytes, and back bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import codec
from modelkit.drift.alarms import with_effect
from modelkit.drift.buckets import Era
from modelkit.drift.notes import Notes, OnAlarm, check_hook
from modelkit.drift.profile import Profile, check_profile
from modelkit.drift.tracker import Tracker
from modelkit.errors import UsageError

STATE_SCHEMA = "modelkit.detector/1"
STATE = "state of a Detector"
NOTHING: Mapping[str, Any] = {}
ARGUMENTS = ("alpha", "tolerance", "guarantee", "seed")


class Frozen(NamedTuple):
    """What a Tracker knew: values that JSON can hold, arrays, notes, and references with their counts.

    To make bytes of it needs no lock.
    """

    about: dict[str, Any]
    arrays: dict[str, Array]
    notes: Notes
    eras: list[Era]

    @staticmethod
    def of(tracker: Tracker) -> Frozen:
        """What a Tracker knows now, with copies of what changes."""
        arrays: dict[str, Array] = {}
        about = {name: getattr(tracker, name) for name in ARGUMENTS} | {
            "history": tracker.most_bytes,
            "tracker": codec.freeze(tracker, arrays),
        }
        kept = {name: array.copy() for name, array in arrays.items()}
        return Frozen(about, kept, copy(tracker.notes), [era.shared() for era in tracker.eras])

    def packed(self, beside: Mapping[str, Any] = NOTHING) -> bytes:
        """The bytes for `resume`, and values that are kept `beside` them."""
        arrays = dict(self.arrays)
        for i, era in enumerate(self.eras[:-1]):
            arrays[f"reference {i}"] = np.frombuffer(era.profile.to_bytes(), np.uint8)
        about = {
            "profile": self.eras[-1].profile.digest,
            "notes": codec.freeze(self.notes, arrays),
            "alphas": [era.alpha for era in self.eras],
            "eras": codec.freeze(self.eras, arrays, "eras"),
        }
        return codec.pack(STATE_SCHEMA, self.about | about | dict(beside), arrays)


def resume(
    profile: Profile,
    state: bytes,
    clock: Callable[[], float] = time.time,
    on_alarm: OnAlarm | None = None,
) -> tuple[Tracker, dict[str, Any]]:
    """The inverse of `Frozen.packed`, bit for bit, and what was packed beside it.

    Raises PackageError for any other bytes, and UsageError for the state of another profile.
    """
    check_profile(profile)
    check_hook(on_alarm)
    about, arrays = codec.unpack(STATE_SCHEMA, state, STATE)
    if about.get("profile") != profile.digest:
        raise UsageError(
            "this is the state of a Detector of another profile, and the counts would not mean the "
            "same: pass the one that it had, which after a rebase is the new one"
        )
    with codec.reading(STATE):
        options = {name: about[name] for name in (*ARGUMENTS, "history")}
        tracker = Tracker(profile, clock=clock, on_alarm=on_alarm, **options)
        _restore(tracker, about, arrays)
    return tracker, about


def resume_all(profile: Profile, states: Sequence[bytes]) -> list[Tracker]:
    """What several workers know. Raises UsageError for none, and for those with other arguments."""
    if not states:
        raise UsageError("there are no states to merge")
    trackers = [resume(profile, state)[0] for state in states]
    first = trackers[0]
    for other in trackers[1:]:
        for name in ("alpha", "tolerance", "guarantee"):
            mine = getattr(first, name)
            theirs = getattr(other, name)
            if mine != theirs:
                raise UsageError(f"the states differ in {name}: {mine}, {theirs}")
    return trackers


def _restore(tracker: Tracker, about: Mapping[str, Any], arrays: dict[str, Array]) -> None:
    codec.thaw(tracker, about["tracker"], arrays)
    notes = codec.thaw(tracker.notes, about["notes"], arrays)
    notes.alarms = tuple(with_effect(tracker.profile, alarm) for alarm in notes.alarms)
    earlier = []
    for i, alpha in enumerate(about["alphas"][:-1]):
        profile = Profile.from_bytes(arrays[f"reference {i}"].tobytes())
        earlier.append(Era.of(profile, alpha, tracker.most_bytes))
    tracker.eras = codec.thaw([*earlier, *tracker.eras], about["eras"], arrays, "eras")

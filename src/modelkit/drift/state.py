"""The state of a Detector: everything that changes, as bytes, and back bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.drift import codec
from modelkit.drift.alarms import Notes, OnAlarm, check_hook, with_effect, without_effect
from modelkit.drift.buckets import Era
from modelkit.drift.profile import Profile, check_profile
from modelkit.drift.tracker import Tracker
from modelkit.errors import UsageError

STATE_SCHEMA = "modelkit.detector/1"
STATE = "state of a Detector"
ARGUMENTS = ("alpha", "tolerance", "guarantee", "seed", "history")


def frozen(tracker: Tracker) -> Callable[..., bytes]:
    """A function that makes the bytes for `resume` of what a Tracker knows now.

    It takes values by name that are kept beside, and needs no lock: what changes was copied.
    """
    arrays: dict[str, Array] = {}
    about = {name: getattr(tracker, name) for name in ARGUMENTS}
    about["tracker"] = codec.freeze(tracker, arrays)
    copies = {name: array.copy() for name, array in arrays.items()}
    notes = replace(tracker.notes, alarms=tuple(map(without_effect, tracker.notes.alarms)))
    return partial(_packed, about, copies, notes, [era.now() for era in tracker.eras])


def _packed(
    about: dict[str, Any],
    arrays: dict[str, Array],
    notes: Notes,
    eras: Sequence[Era],
    **beside: Any,
) -> bytes:
    for i, era in enumerate(eras[:-1]):
        arrays[f"reference {i}"] = np.frombuffer(era.profile.to_bytes(), np.uint8)
    about |= {
        "profile": eras[-1].profile.digest,
        "notes": codec.freeze(notes, arrays),
        "alphas": [era.alpha for era in eras],
        "eras": codec.freeze(eras, arrays, "eras"),
    }
    return codec.pack(STATE_SCHEMA, about | beside, arrays)


def resume(
    profile: Profile,
    state: bytes,
    clock: Callable[[], float] = time.time,
    on_alarm: OnAlarm | None = None,
) -> tuple[Tracker, dict[str, Any]]:
    """The inverse of `frozen`, bit for bit, and what was packed beside it.

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
        arguments = {name: about[name] for name in ARGUMENTS}
        tracker = Tracker(profile, clock=clock, on_alarm=on_alarm, **arguments)
        codec.thaw(tracker, about["tracker"], arrays)
        notes = fields.read_object(Notes, about["notes"], "notes")
        alarms = [with_effect(profile, alarm) for alarm in notes.alarms]
        tracker.notes = replace(notes, alarms=tuple(alarms))
        eras = []
        for i, alpha in enumerate(about["alphas"][:-1]):
            earlier = Profile.from_bytes(arrays[f"reference {i}"].tobytes())
            eras.append(Era.of(earlier, alpha, tracker.history))
        tracker.eras = codec.thaw([*eras, *tracker.eras], about["eras"], arrays, "eras")
    return tracker, about


def resume_all(profile: Profile, states: Sequence[bytes]) -> list[Tracker]:
    """What several workers know. Raises UsageError for none, for units, and for other arguments."""
    if not states:
        raise UsageError("the list of states is empty: pass at least one")
    if profile.units is not None:
        raise UsageError(
            "units are judged as wholes, and each worker has a part of their rows: count these by "
            "Profile.tally, whose tallies add up, and pass the sum to Detector.test"
        )
    trackers = [resume(profile, state)[0] for state in states]
    first = trackers[0]
    for other in trackers[1:]:
        for name in ("alpha", "tolerance", "guarantee"):
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                raise UsageError(f"the states differ in {name}: {mine}, {theirs}")
    return trackers

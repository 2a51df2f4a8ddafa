"""A Watch that goes on: from its state, or with another reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from modelkit.drift import codec
from modelkit.drift.profile import Profile, check_profile
from modelkit.drift.refusals import check_same_columns
from modelkit.drift.untold import OnAlarm, check_hook
from modelkit.drift.watch import STATE_SCHEMA, Watch
from modelkit.errors import PackageError, UsageError


def resume(
    profile: Profile,
    state: bytes,
    clock: Callable[[], float] = time.time,
    on_alarm: OnAlarm | None = None,
) -> tuple[Watch, dict[str, Any]]:
    """The inverse of `Watch.state`, bit for bit, and what was packed beside it.

    Raises PackageError for any other bytes, and UsageError for the state of another profile.
    """
    check_profile(profile)
    check_hook(on_alarm)
    about, arrays = codec.unpack(STATE_SCHEMA, state, "state of a Detector")
    if about.get("profile") != profile.digest:
        raise UsageError(
            "this is the state of a Detector of another profile, and the counts would not mean the "
            "same: pass the one that it had, which after a rebase is the new one"
        )
    try:
        names = ("alpha", "tolerance", "guarantee", "seed", "history")
        options = {name: about[name] for name in names}
        watch = Watch(profile, clock=clock, on_alarm=on_alarm, **options)
        watch.restore(about, arrays)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise PackageError(f"this is not a state of a Detector: {error!r}") from error
    return watch, about


def resume_all(profile: Profile, states: Sequence[bytes]) -> list[Watch]:
    """What several workers know. Raises UsageError for none, and for those with other arguments."""
    if not states:
        raise UsageError("there are no states to merge")
    watches = [resume(profile, state)[0] for state in states]
    first = watches[0]
    for other in watches[1:]:
        for name in ("alpha", "tolerance", "guarantee"):
            mine = getattr(first, name)
            theirs = getattr(other, name)
            if mine != theirs:
                raise UsageError(f"the states differ in {name}: {mine}, {theirs}")
    return watches


def rebased(before: Watch, profile: Profile, reason: str, alpha: float | None) -> Watch:
    """What goes on with another reference; the history, the notes and the alarms come along.

    Raises UsageError where the new profile does not watch the same columns and outputs.
    """
    profile = check_profile(profile).without(before.ignored)
    check_same_columns(before.profile, profile)
    chronicle = before.chronicle
    before.settle()
    new = Watch(
        profile,
        alpha=before.alpha if alpha is None else alpha,
        tolerance=before.tolerance,
        guarantee=before.guarantee,
        seed=before.seed + 1,  # its random ranks are independent of the past
        history=chronicle.most_bytes,
        clock=chronicle.clock,
    )
    new.ignored = before.ignored
    new.place = before.place
    new.counted = before.counted
    for _, stream in new.streams() if new.units is None else ():
        stream.begin_after(before.place)
    new.labels.follow(before.labels)
    if before.units is not None and new.units is not None:
        new.units.follow(before.units)
    new.chronicle.follow(chronicle, reason, before.rows)
    return new

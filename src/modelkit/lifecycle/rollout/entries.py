"""The queue of what is rare, from which each tick takes what came since the last one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, final

from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened, KeyDone, Unit

NEW_KEY, EVENT, KEY_COMPLETE, SHADOWED, MISSING = range(5)


@final
class TickEntries:
    """What one tick takes from the queue."""

    def __init__(self, bad: dict[int, Counter[str]], key_calls: int) -> None:
        self._bad = bad
        self._key_calls = key_calls
        self._keys: list[Unit] = []
        self._keyed: dict[str, dict[Unit, None]] = defaultdict(dict)
        self._done: list[KeyDone] = []
        self._shadowed = 0
        self._shadow_events: Counter[str] = Counter()
        self._missing: set[str] = set()

    def take(self, entry: tuple[Any, ...]) -> None:
        """Take one entry of the queue."""
        what, *about = entry
        if what == EVENT:
            self._take_event(*about)
        elif what == NEW_KEY:
            self._keys.append((about[0], bool(about[1])))
        elif what == KEY_COMPLETE:
            self._take_key(*about)
        elif what == SHADOWED:
            self._shadowed += 1
            self._shadow_events.update(about[0])
        else:
            self._missing.add(about[0])

    def _take_event(self, kind: str, unit: int, in_candidate: bool, number: int) -> None:
        self._keyed[kind][unit, bool(in_candidate)] = None
        if number:
            self._bad[unit][kind] += 1

    def _take_key(self, unit: int, in_candidate: bool) -> None:
        counts = self._bad.pop(unit, Counter())
        bad = {kind: min(count / self._key_calls, 1.0) for kind, count in counts.items()}
        self._done.append(KeyDone(unit, bool(in_candidate), bad))

    def counts(
        self,
        calls: ByArm,
        plain: ByArm,
        plain_events: Mapping[str, ByArm],
        keyed_events: Mapping[str, ByArm],
    ) -> Counts:
        """All of it."""
        events = {}
        for kind, count in plain_events.items():
            keys = tuple(self._keyed.get(kind, ()))
            events[kind] = Happened(count, keys, keyed_events[kind])
        return Counts(
            calls=calls,
            plain=plain,
            keys=tuple(self._keys),
            events=events,
            done=tuple(self._done),
            shadowed=self._shadowed,
            shadow_events=dict(self._shadow_events),
            missing=tuple(sorted(self._missing)),
        )

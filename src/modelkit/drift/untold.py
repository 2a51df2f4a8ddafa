"""Alarms on their way from the lock under which they are raised to whoever listens for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import final

from modelkit.drift.values import Alarm
from modelkit.events import Alarmed, emit


@final
class Untold:
    """Alarms of which no event was emitted yet.

    `name` and `version` are those of the model whose rows are watched, or empty.
    """

    __slots__ = ("_alarms", "name", "version")

    def __init__(self) -> None:
        self._alarms: deque[Alarm] = deque()
        self.name = ""
        self.version = ""

    def add(self, alarms: Iterable[Alarm]) -> None:
        """Keep alarms until `tell` is called."""
        self._alarms.extend(alarms)

    def tell(self) -> None:
        """Emit each alarm once. No lock may be held here, since listeners may ask the Detector."""
        while self._alarms:
            try:
                alarm = self._alarms.popleft()
            except IndexError:  # another thread tells of it
                return
            emit(self._event(alarm))

    def _event(self, alarm: Alarm) -> Alarmed:
        return Alarmed(
            name=self.name,
            version=self.version,
            kind=alarm.kind,
            feature=alarm.feature,
            p=alarm.p,
            level=alarm.level,
            row=alarm.row,
            began=alarm.began,
        )

"""Alarms on their way from the lock under which they are raised to whoever listens for them."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import final

from modelkit._internal.logs import WARNING, takes, write_record
from modelkit.drift.values import Alarm
from modelkit.events import Alarmed, emit

OnAlarm = Callable[[Alarm], object]


@final
class Untold:
    """Alarms of which nobody was told yet.

    `name` and `version` are those of the model whose rows are watched, or empty, and `on_alarm` is
    the host's hook.
    """

    __slots__ = ("_alarms", "name", "on_alarm", "version")

    def __init__(self, on_alarm: OnAlarm | None) -> None:
        self._alarms: deque[Alarm] = deque()
        self.on_alarm = check_hook(on_alarm)
        self.name = ""
        self.version = ""

    def add(self, alarms: Iterable[Alarm]) -> None:
        """Keep alarms until `tell` is called."""
        self._alarms.extend(alarms)

    def tell(self) -> None:
        """Tell of each alarm once: an event, and the hook.

        No lock may be held here, since listeners and the hook may ask the Detector.
        """
        while self._alarms:
            try:
                alarm = self._alarms.popleft()
            except IndexError:  # another thread tells of it
                return
            emit(self._event(alarm))
            self._call(alarm)

    def _call(self, alarm: Alarm) -> None:
        if self.on_alarm is None:
            return
        try:
            self.on_alarm(alarm)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # it must not reach whoever sent the rows
            _complain(alarm, error)

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
            unit=alarm.unit,
        )


def _complain(alarm: Alarm, error: BaseException) -> None:
    what = type(error).__name__
    message = (
        f"on_alarm raised {what} at the alarm {alarm.kind!r} of {alarm.feature!r}; the alarm stands"
    )
    with suppress(Exception):  # of a filter or a handler of the application
        if takes(WARNING):
            values = {"event": "on_alarm", "feature": alarm.feature, "error": what}
            write_record(WARNING, message, values, error=error)


def check_hook(on_alarm: OnAlarm | None) -> OnAlarm | None:
    """The hook as it is. Raises TypeError for one that cannot be called, or that is async."""
    if on_alarm is None:
        return None
    if not callable(on_alarm) or inspect.iscoroutinefunction(on_alarm):
        raise TypeError(f"on_alarm is a plain function of one alarm; got {on_alarm!r}")
    return on_alarm

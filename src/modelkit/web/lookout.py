"""What ends a request from outside: its time is over, or its client left.

A timer for each request would cost as much as a tenth of an answer, and so would a task that waits for
the client to leave. So one timer a loop looks at all of its requests twenty times a second, while there
are some: what it finds a second time, it begins to listen to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from time import monotonic
from typing import final

from modelkit.web.reply import Refused
from modelkit.web.statuses import CLOSE
from modelkit.web.visit import Visit

PERIOD = 0.05  # seconds


@final
class Lookout:
    """Looks after the requests of one event loop.

    Args:
        loop: the event loop, on which all of this runs.
        visits: the requests of every loop.
    """

    __slots__ = ("_loop", "_seen", "_visits", "looking")

    def __init__(self, loop: asyncio.AbstractEventLoop, visits: Collection[Visit]) -> None:
        self._loop = loop
        self._visits = visits
        self._seen: set[Visit] = set()
        self.looking = False

    def begin(self) -> None:
        """Look from now on, until there is nothing to look at."""
        self.looking = True
        self._loop.call_later(PERIOD, self._look)

    def _look(self) -> None:
        mine = {visit for visit in list(self._visits) if visit.loop is self._loop}
        now = monotonic()
        for visit in mine:
            if now >= visit.deadline:
                cut(visit, _late(visit))
            elif visit in self._seen and visit.receive is not None and visit.listener is None:
                visit.listener = self._loop.create_task(_listen(visit))
        self._seen = mine
        if mine:
            self._loop.call_later(PERIOD, self._look)
        else:
            self.looking = False


def gone() -> Refused:
    """What is noted of a request whose client left: nobody reads it."""
    return Refused(499, "the client closed the connection", headers=[CLOSE])


async def _listen(visit: Visit) -> None:
    """Wait for the client to leave, once its body is read whole."""
    message = await visit.receive()
    if message["type"] == "http.disconnect":
        cut(visit, gone())


def _late(visit: Visit) -> Refused:
    if visit.reading and visit.receive is None:
        return Refused(408, "the body of the request did not come in time", headers=[CLOSE])
    return Refused(504, "the deadline passed before the answer came")


def cut(visit: Visit, why: Refused) -> None:
    """End a request, if it still waits for something."""
    if visit.task is not None and visit.cut is None:
        visit.cut = why
        visit.task.cancel()

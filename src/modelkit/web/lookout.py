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

from modelkit.web.replies import CLOSE, Refused
from modelkit.web.request import Request

PERIOD = 0.05  # seconds


@final
class Lookout:
    """Looks after the requests of one event loop.

    Args:
        loop: the event loop, on which all of this runs.
        requests: the requests of every loop.
    """

    __slots__ = ("_loop", "_requests", "_seen", "looking")

    def __init__(self, loop: asyncio.AbstractEventLoop, requests: Collection[Request]) -> None:
        self._loop = loop
        self._requests = requests
        self._seen: set[Request] = set()
        self.looking = False

    def begin(self) -> None:
        """Look from now on, until there is nothing to look at."""
        self.looking = True
        self._loop.call_later(PERIOD, self._look)

    def _look(self) -> None:
        mine = {request for request in list(self._requests) if request.loop is self._loop}
        now = monotonic()
        for request in mine:
            if now >= request.deadline:
                request.cut(_late(request))
            elif request in self._seen and request.receive is not None and request.listener is None:
                request.listener = self._loop.create_task(_listen(request))
        self._seen = mine
        if mine:
            self._loop.call_later(PERIOD, self._look)
        else:
            self.looking = False


def gone() -> Refused:
    """What is noted of a request whose client left: nobody reads it."""
    return Refused(499, "the client closed the connection", headers=[CLOSE])


async def _listen(request: Request) -> None:
    """Wait for the client to leave, once its body is read whole."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        request.cut(gone())


def _late(request: Request) -> Refused:
    if request.reading and request.receive is None:
        return Refused(408, "the body of the request did not come in time", headers=[CLOSE])
    return Refused(504, "the deadline passed before the answer came")

"""The memory of long bodies and answers: how much there is, and who leaves for others."""

from __future__ import annotations

import threading
from typing import final

from modelkit.web.replies import CLOSE, SOON, Refused
from modelkit.web.request import Request

PART = 1 << 16  # bytes of an answer that are sent at once; what is no longer is not counted


@final
class Memory:
    """The bytes that long bodies and answers may take together.

    A request that waits for its client, to send more or to take more, leaves for others if its
    client is the one that was still for the longest. What is with a model stays.

    Args:
        most: the bytes that there may be. One request alone may have more.
    """

    __slots__ = ("_lock", "_most", "_still", "_taken")

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._still: dict[Request, None] = {}  # in the order in which their clients last moved
        self._lock = threading.Lock()

    def moved(self, request: Request, size: int = 0) -> None:
        """Note that a client moved, and that its request has so many bytes more.

        Raises Refused where all bytes are those of requests that are with a model.
        """
        with self._lock:
            self._still.pop(request, None)
            request.size += size
            self._taken += size
            while self._taken > max(self._most, request.size):
                if not self._still:
                    request.size -= size  # it is refused, and ends no answer of another one
                    self._taken -= size
                    raise Refused(
                        429,
                        f"long bodies and answers take all of the {self._most:,} bytes that they may",
                        headers=[CLOSE, (b"retry-after", SOON)],
                    )
                stillest = next(iter(self._still))
                self._leave(stillest)
                stillest.loop.call_soon_threadsafe(stillest.cut, _stood_still())
            self._still[request] = None

    def busy(self, request: Request) -> None:
        """Note that a request waits for its client no more."""
        with self._lock:
            self._still.pop(request, None)

    def leave(self, request: Request) -> None:
        """Note that a request has no bytes any more."""
        with self._lock:
            self._leave(request)

    def _leave(self, request: Request) -> None:
        self._still.pop(request, None)
        self._taken -= request.size
        request.size = 0


def _stood_still() -> Refused:
    return Refused(
        408,
        "the body of the request came too slowly, and others need its memory; send it again",
        headers=[CLOSE],
    )

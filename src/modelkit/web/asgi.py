"""A request of ASGI: how its messages look, and what ends it from outside.

Its time may be over, its client may have left, or stand still while others need its memory. A timer
for each request would cost as much as a tenth of an answer, and so would a task that waits for the
client to leave. So one timer a loop looks at all of its requests twenty times a second, while there
are some: what it finds a second time, it begins to listen to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import RLock
from time import monotonic
from typing import Any, TypeVar, final

from modelkit.web.query import Limits
from modelkit.web.replies import CLOSE, SOON, HeaderList, Headers, Refused, Reply
from modelkit.web.request import PART, BodyParts, Pool, Request, Turns, too_large
from modelkit.web.routes import below
from modelkit.web.threads import Threads

AsgiMessage = MutableMapping[str, Any]
AsgiScope = AsgiMessage
AsgiReceive = Callable[[], Awaitable[AsgiMessage]]
AsgiSend = Callable[[AsgiMessage], Awaitable[None]]
T = TypeVar("T")
_WITH_CONNECTIONS = ("1.0", "1.1")  # of HTTP; the others lack a header of that name
PERIOD = 0.05  # seconds from one look at the requests of a loop to the next
_LINGER = 2.0  # seconds that a client has to end a body that is too large
_LINGER_BODIES = 4  # and how much of it is taken, in the limits of a body


def headers_of(scope: AsgiScope) -> Headers:
    """The headers of a request by name; the values of one that came several times are joined.

    As HTTP and WSGI have it, so no server's habit decides which of two credentials counts.
    """
    pairs = list(scope["headers"])
    headers = dict(pairs)
    if len(headers) < len(pairs):
        values: dict[bytes, list[bytes]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        for name, its in values.items():
            headers[name] = (b"; " if name == b"cookie" else b", ").join(its)
    return headers


@final
class AsgiRequest(Request):
    """A request of ASGI. Whoever makes one ends it, whatever happens.

    Attributes:
        loop: the event loop that it is answered on.
        reading: whether its body is being read.
        waiting: whether its body is read, and its answer is not there: nothing comes from the client
            meanwhile, but that it left.
        listener: what waits for that, if something does.
        size: the bytes of its body and answer, if these are long.
    """

    __slots__ = (
        "_limits",
        "_memory",
        "_receive",
        "_scope",
        "_send",
        "_task",
        "_threads",
        "listener",
        "loop",
        "reading",
        "size",
        "waiting",
    )

    def __init__(
        self,
        scope: AsgiScope,
        receive: AsgiReceive,
        send: AsgiSend,
        limits: Limits,
        threads: Threads,
        memory: Memory,
    ) -> None:
        root = scope.get("root_path", "")
        path = below(root, scope["path"]) if root else scope["path"]
        super().__init__(scope["method"], root, path, headers_of(scope), limits.seconds)
        self.closes = scope.get("http_version", "1.1") in _WITH_CONNECTIONS
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limits = limits
        self._threads = threads
        self._memory = memory
        self.loop = asyncio.get_running_loop()
        self._task: Any = asyncio.current_task(self.loop)
        self.reading = False
        self.waiting = False
        self.listener: asyncio.Task[None] | None = None
        self.size = 0

    async def body(self, most: int) -> bytes:
        """The body, in one message as most come, or in several. Raises Refused."""
        self.reading = True
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > most:
                raise too_large(most)
            if len(body) > PART:
                self.grow(len(body))
        else:
            body = await self._rest(message, most)
        if self.size:
            self._memory.busy(self)
        self.reading = False
        self.waiting = True
        return body

    async def _rest(self, message: AsgiMessage, most: int) -> bytes:
        gathered = BodyParts(most)
        while True:
            if message["type"] == "http.disconnect":
                raise _gone()
            part = message.get("body", b"")
            gathered.add(part)
            self.grow(len(part))
            if not message.get("more_body", False):
                return gathered.whole()
            message = await self._receive()

    async def in_thread(self, pool: Pool, work: Callable[[], T]) -> T:
        """In a thread of the App."""
        work = partial(copy_context().run, work)  # the thread asks policies for the same principal
        future: Future[T] = getattr(self._threads, pool).submit(work)
        return await asyncio.wrap_future(future)

    async def in_turns(self, steps: Turns[T]) -> T:
        """Other tasks of the loop have a turn after each step."""
        try:
            while True:
                next(steps)
                await asyncio.sleep(0)
        except StopIteration as end:
            value: T = end.value
            return value

    def grow(self, size: int = 0) -> None:
        """Note that its client did something, and that it takes so many bytes more. Raises Refused."""
        self._memory.grow(self, size)

    async def send(self, reply: Reply, headers: HeaderList) -> None:
        """Send the answer, for which the client has as long again. Whoever is around sees whose it was."""
        unread = not self.waiting
        if self.aborted is not None:
            self._task.uncancel()
            self.aborted = None
        self._listen_no_more()
        self.deadline = monotonic() + self._limits.seconds
        if self.principal is not None:
            self._scope.setdefault("state", {})["principal"] = self.principal
        body = b"" if self.method == "HEAD" else reply.body
        head = {"type": "http.response.start", "status": reply.status, "headers": headers}
        await self._send(head)
        if reply.status == 413 and unread and b"expect" not in self.headers:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            await self._discard()
            body = b""
        if len(body) > PART:
            await self._send_parts(memoryview(body))
            body = b""
        await self._send({"type": "http.response.body", "body": body})

    async def _send_parts(self, body: memoryview) -> None:
        """Send a long body in parts, so the server keeps no more than a few of them.

        An empty one follows: a server waits before it until the client has taken the others.
        """
        for start in range(0, len(body), PART):
            self.grow()
            part = bytes(body[start : start + PART])
            await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def _discard(self) -> None:
        """Take what a client still sends for a while, since it reads no answer before it is done.

        The socket would be closed on it, and what it gets were an error of the connection. The time
        of the request is never used up by that: its answer would be cut off.
        """
        most = _LINGER_BODIES * self._limits.body
        self.deadline += _LINGER
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_LINGER, self._limits.seconds)):
                while most > 0:
                    message = await self._receive()
                    most -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def client_left(self, error: BaseException) -> bool:
        """Whether an error is how its end looks from within: the client left, or takes nothing."""
        if isinstance(error, asyncio.CancelledError):
            if self.aborted is None:
                return False
            self._task.uncancel()  # it did not take its answer: the server closes the connection
            return True
        # The text is uvloop's.
        return isinstance(error, OSError) or "handler is closed" in str(error)

    def end(self) -> None:
        """Let go of its memory and its client; nobody cuts what comes after the answer."""
        self._task = None
        if self.waiting:
            self._listen_no_more()
        if self.size:
            self._memory.release(self)

    def abort(self, why: Refused) -> None:
        """End it from outside with this answer, if it still waits for something."""
        if self._task is not None and self.aborted is None:
            self.aborted = why
            self._task.cancel()

    def _listen_no_more(self) -> None:
        """End what waits for the client to leave: its answer is on the way."""
        self.waiting = False
        if self.listener is not None:
            self.listener.cancel()
            self.listener = None

    async def listen(self) -> None:
        """Wait for the client to leave, once its body is read whole."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.abort(_gone())


@final
class Watchdog:
    """Ends the requests of one event loop whose time is over, or whose client left.

    Args:
        loop: the event loop, on which all of this runs.
        requests: the requests of every loop.
    """

    __slots__ = ("_loop", "_requests", "_seen", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop, requests: Collection[Request]) -> None:
        self._loop = loop
        self._requests = requests
        self._seen: set[AsgiRequest] = set()
        self.running = False

    def start(self) -> None:
        """Look from now on, until there is nothing to look at."""
        self.running = True
        self._loop.call_later(PERIOD, self._look)

    def _look(self) -> None:
        mine = {
            request
            for request in list(self._requests)
            if isinstance(request, AsgiRequest) and request.loop is self._loop
        }
        now = monotonic()
        for request in mine:
            if now >= request.deadline:
                request.abort(_late(request))
            elif request in self._seen and request.waiting and request.listener is None:
                request.listener = self._loop.create_task(request.listen())
        self._seen = mine
        if mine:
            self._loop.call_later(PERIOD, self._look)
        else:
            self.running = False


@final
class Memory:
    """The bytes that long bodies and answers may take together.

    A request that waits for its client, to send more or to take more, is ended for others if its
    client is the one that was idle for the longest. What is with a model stays.

    Args:
        most: the bytes that there may be. One request alone may have more.
    """

    __slots__ = ("_idle", "_lock", "_most", "_taken")

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._idle: dict[AsgiRequest, None] = {}  # those whose client was idle longest come first
        self._lock = RLock()

    def grow(self, request: AsgiRequest, size: int = 0) -> None:
        """Note that a client did something, and that its request takes so many bytes more.

        Raises Refused where requests that are with a model take all bytes.
        """
        with self._lock:
            self._idle.pop(request, None)
            request.size += size
            self._taken += size
            while self._taken > max(self._most, request.size):
                if not self._idle:
                    request.size -= size  # it is refused, and ends no answer of another one
                    self._taken -= size
                    raise Refused(
                        f"long bodies and answers take all of the {self._most:,} bytes that they may",
                        429,
                        headers=[CLOSE, (b"retry-after", SOON)],
                    )
                longest_idle = next(iter(self._idle))
                self.release(longest_idle)
                why = "the body of the request came too slowly, and others need its memory; send it again"
                refused = Refused(why, 408, headers=[CLOSE])
                longest_idle.loop.call_soon_threadsafe(longest_idle.abort, refused)
            self._idle[request] = None

    def busy(self, request: AsgiRequest) -> None:
        """Note that a request waits for its client no more."""
        with self._lock:
            self._idle.pop(request, None)

    def release(self, request: AsgiRequest) -> None:
        """Note that a request gives back its bytes."""
        with self._lock:
            self._idle.pop(request, None)
            self._taken -= request.size
            request.size = 0


def _gone() -> Refused:
    """What is noted of a request whose client left: nobody reads it."""
    return Refused("the client closed the connection", 499, headers=[CLOSE])


def _late(request: AsgiRequest) -> Refused:
    if request.reading:
        return Refused("the body of the request did not come in time", 408, headers=[CLOSE])
    return Refused("the deadline passed before the answer came", 504)

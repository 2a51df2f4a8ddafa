"""What carries a request of ASGI, and how its messages look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Any, TypeVar, final

from modelkit._internal.process import watch_exit
from modelkit.errors import ClosedError, Overloaded
from modelkit.web.lookout import gone
from modelkit.web.memory import PART, Memory
from modelkit.web.query import Limits
from modelkit.web.replies import HeaderList, Headers, Reply
from modelkit.web.request import BodyParts, Pool, Request, Turns, too_large
from modelkit.web.routes import below

AsgiMessage = MutableMapping[str, Any]
AsgiScope = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[AsgiMessage]]
AsgiSend = Callable[[AsgiMessage], Awaitable[None]]
T = TypeVar("T")
_WITH_CONNECTIONS = ("1.0", "1.1")  # of HTTP; the others have no header of that name
_BESIDE = 4
_APART = 2  # works that take seconds, and run at once
_WAITING = 16  # and that wait for these
_EXIT = 2.0  # seconds that the interpreter waits for one that runs
_LINGER = 2.0  # seconds that a client has to end a body that is too large
_LINGER_BODIES = 4  # and how much of it is taken, in the limits of a body


def headers_of(scope: AsgiScope) -> Headers:
    """The headers of a request by name; the values of one that came several times are joined.

    As HTTP and WSGI have it, so that no server's habit decides which of two credentials counts.
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
class Apart:
    """Runs works that take seconds, such as explanations: two at once, while up to 16 more wait.

    Its threads are daemons that end when they have no work: the process ends whatever they do.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[Future[Any], Callable[[], Any]] = {}
        self._threads: set[Thread] = set()
        self._closed = False
        watch_exit(self)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run it in its turn, unless its Future is cancelled before. Raises Overloaded."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise ClosedError("the App is closed")
            waiting = len(self._waiting)
            if waiting >= _WAITING:
                raise Overloaded(
                    f"{waiting} explanations wait, and no more may: try again later",
                    queued=waiting,
                    max_queue=_WAITING,
                )
            if len(self._threads) < _APART:
                thread = Thread(target=self._run, name="modelkit-explain", daemon=True)
                thread.start()  # it waits for the lock
                self._threads.add(thread)
            self._waiting[future] = work
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[Any]) -> None:
        """Nobody waits for it any more, so that another one has its place."""
        with self._lock:
            self._waiting.pop(future, None)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # it belongs to who asked
                    future.set_exception(error)
            del job, future, work  # they hold rows

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """The work that has waited longest; without any, the thread ends."""
        with self._lock:
            for future in self._waiting:
                return future, self._waiting.pop(future)
            self._threads.discard(current_thread())
            return None

    def close(self) -> None:
        """Begin nothing more; what runs is not waited for."""
        with self._lock:
            self._closed = True
            waiting = [*self._waiting]
        for future in waiting:
            future.cancel()

    def at_exit(self) -> None:
        """Wait for what runs, but not for long."""
        self.close()
        end = monotonic() + _EXIT
        for thread in [*self._threads]:
            thread.join(max(0.0, end - monotonic()))


@final
class Threads:
    """The threads of an App.

    Attributes:
        apart: two, for explanations.
        beside: some, for metrics, and for bodies that are inflated.
        reading: one, for large bodies. JSON is parsed without a turn for any other thread, so that
            two of them at once would hold up an event loop for as long as both take.
    """

    __slots__ = ("apart", "beside", "reading")

    def __init__(self) -> None:
        self.apart = Apart()
        self.beside = ThreadPoolExecutor(_BESIDE, "modelkit-web")
        self.reading = ThreadPoolExecutor(1, "modelkit-read")

    def close(self) -> None:
        """End them, once they have nothing to do."""
        self.apart.close()
        self.beside.shutdown(wait=False)
        self.reading.shutdown(wait=False)


@final
class AsgiRequest(Request):
    """A request of ASGI. Whoever makes one ends it, whatever happens."""

    __slots__ = ("_limits", "_memory", "_receive", "_scope", "_send", "_threads")

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

    async def body(self, most: int) -> bytes:
        """The body, in one message as most come, or in several. Raises Refused."""
        self.reading = True
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > most:
                raise too_large(most)
            if len(body) > PART:
                self.moved(len(body))
        else:
            body = await self._rest(message, most)
        if self.size:
            self._memory.busy(self)
        self.receive = self._receive  # from which nothing comes now but that the client left
        return body

    async def _rest(self, message: AsgiMessage, most: int) -> bytes:
        gathered = BodyParts(most)
        while True:
            if message["type"] == "http.disconnect":
                raise gone()
            part = message.get("body", b"")
            gathered.add(part)
            self.moved(len(part))
            if not message.get("more_body", False):
                return gathered.whole()
            message = await self._receive()

    async def in_thread(self, pool: Pool, work: Callable[[], T]) -> T:
        """In a thread of the App."""
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

    def moved(self, size: int = 0) -> None:
        """Note that its client moved, and has so many bytes more. Raises Refused."""
        self._memory.moved(self, size)

    async def send(self, reply: Reply, headers: HeaderList) -> None:
        """Send the answer, for which the client has as long again. Whoever is around sees whose it was."""
        unread = self.receive is None
        if self.cut_for is not None:
            self.task.uncancel()
            self.cut_for = None
        self.receive = None  # nobody waits for the client to leave: its answer is on the way
        if self.listener is not None:
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
        """Send a long body in parts, so that the server keeps no more than a few of them.

        An empty one follows: a server waits before it until the client has taken the others.
        """
        for start in range(0, len(body), PART):
            self.moved()
            part = bytes(body[start : start + PART])
            await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def _discard(self) -> None:
        """Take what a client still sends for a while, since it reads no answer before it is done.

        The socket would be closed on it, and what it gets were an error of the connection. The time
        of the request is never used up by that: its answer would be cut off.
        """
        most = _LINGER_BODIES * self._limits.body
        seconds = min(_LINGER, self._limits.seconds / 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while most > 0:
                    message = await self._receive()
                    most -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def was_left(self, error: BaseException) -> bool:
        """Whether an error is how its end looks from within: the client left, or takes nothing."""
        if isinstance(error, asyncio.CancelledError):
            if self.cut_for is None:
                return False
            self.task.uncancel()  # it did not take its answer: the server closes the connection
            return True
        # The text is uvloop's.
        return isinstance(error, OSError) or "handler is closed" in str(error)

    def end(self) -> None:
        """Let go of its memory and its client; nobody cuts what comes after the answer."""
        if self.listener is not None:
            self._listen_no_more()
        self.receive = None
        self.task = None
        if self.size:
            self._memory.leave(self)

    def _listen_no_more(self) -> None:
        self.listener.cancel()
        self.listener = None

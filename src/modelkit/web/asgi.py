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
from modelkit.model.model import Call, Model, Outputs
from modelkit.web.body import BodyParts, too_large
from modelkit.web.lookout import gone
from modelkit.web.query import Limits
from modelkit.web.reply import Headers
from modelkit.web.room import PART, Room
from modelkit.web.visit import Visit

AsgiMessage = MutableMapping[str, Any]
AsgiScope = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[AsgiMessage]]
AsgiSend = Callable[[AsgiMessage], Awaitable[None]]
T = TypeVar("T")
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
    told = list(scope["headers"])
    headers = dict(told)
    if len(headers) < len(told):
        values: dict[bytes, list[bytes]] = {}
        for name, value in told:
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
        apart: two, for what takes seconds.
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
class Carrier:
    """Carries one request of ASGI; a Transport."""

    __slots__ = ("_receive", "_room", "_threads", "_visit")

    cuts = True

    def __init__(self, visit: Visit, receive: AsgiReceive, room: Room, threads: Threads) -> None:
        self._visit = visit
        self._receive = receive
        self._room = room
        self._threads = threads

    async def body(self, most: int) -> bytes:
        """The body, in one message as most come, or in several. Raises Refused."""
        self._visit.reading = True
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > most:
                raise too_large(most)
            if len(body) > PART:
                self._room.moved(self._visit, len(body))
        else:
            body = await self._rest(message, most)
        if self._visit.size:
            self._room.busy(self._visit)
        self._visit.receive = self._receive  # from which nothing comes now but that the client left
        return body

    async def _rest(self, message: AsgiMessage, most: int) -> bytes:
        gathered = BodyParts(most)
        while True:
            if message["type"] == "http.disconnect":
                raise gone()
            part = message.get("body", b"")
            gathered.add(part)
            self._room.moved(self._visit, len(part))
            if not message.get("more_body", False):
                return gathered.whole()
            message = await self._receive()

    def call(
        self, model: Model, X: object, outputs: tuple[str, ...], call: Call
    ) -> Awaitable[Outputs]:
        """The answers of a model, which gathers the calls of this loop if it can."""
        return model._acall(X, outputs, call)

    async def beside(self, work: Callable[[], T]) -> T:
        """What takes milliseconds, in one of a few threads of the App."""
        return await asyncio.get_running_loop().run_in_executor(self._threads.beside, work)

    async def one_by_one(self, work: Callable[[], T]) -> T:
        """What keeps the interpreter for milliseconds, in the one thread for it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads.reading, work)

    async def apart(self, work: Callable[[], T]) -> T:
        """What may take seconds, in a thread that other such work may keep waiting."""
        return await asyncio.wrap_future(self._threads.apart.submit(work))

    async def turn(self) -> None:
        """Let other tasks of the loop have a turn."""
        await asyncio.sleep(0)

    async def settle(self, principal: Awaitable[str | None]) -> str | None:
        """What an async `auth` says."""
        return await principal


async def send_body(body: bytes, visit: Visit, send: AsgiSend, room: Room) -> None:
    """Send a whole body; a long one in parts, so that the server keeps no more than a few of them.

    The last one is empty: a server waits before it until the client has taken the others.
    """
    if len(body) > PART:
        whole = memoryview(body)
        for start in range(0, len(body), PART):
            room.moved(visit)
            part = bytes(whole[start : start + PART])
            await send({"type": "http.response.body", "body": part, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


async def discard(receive: AsgiReceive, limits: Limits) -> None:
    """Take what a client still sends for a while, since it reads no answer before it is done.

    The socket would be closed on it, and what it gets were an error of the connection. The time of
    the request is never used up by that: its answer would be cut off.
    """
    most = _LINGER_BODIES * limits.body
    seconds = min(_LINGER, limits.seconds / 2)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return

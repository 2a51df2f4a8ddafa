"""A client for applications of the web, such as `mk.App`, that needs no server and no socket."""

from __future__ import annotations

import asyncio
import json as json_text
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, final
from urllib.parse import quote, unquote

from modelkit.errors import UsageError

T = TypeVar("T")
AsgiMessage = dict[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
Application = Callable[[AsgiMessage, Receive, Send], Awaitable[None]]

PATIENCE = 100.0  # seconds for an answer, so that a test that would hang fails
POLL = 0.001  # seconds between two looks at whether a client leaves
UNQUOTED = "/:@!$&'()*+,;=~-._%"  # what may stand in the path of a URL, besides letters and digits
ASGI = {"version": "3.0", "spec_version": "2.3"}


@final
@dataclass(frozen=True)
class Response:
    """An answer to a request.

    Attributes:
        status: its HTTP status; 0 where the client left before it came.
        headers: its headers, by names in small letters.
        body: its whole body.
        complete: whether it came to its end before the client left.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True

    def json(self) -> Any:
        """What the body says in JSON. Raises ValueError for a body that is not JSON."""
        return json_text.loads(self.body)


@final
class Client:
    """Sends requests to an ASGI application in this process, as a server would.

        with modelkit.testing.Client(app) as client:
            answer = client.post("/models/churn/predict", json={"rows": [row]})
            assert answer.status == 200, answer.body

    `with` begins and ends the application's lifespan. All requests run on one event loop, that of
    the client, and only while a method of it runs: call it from one thread, and not from a
    coroutine. An error that the application raises is raised by the method.

    Args:
        app: an ASGI application: `mk.App`, FastAPI, Starlette, or any other.

    Raises:
        TypeError: if `app` cannot be called.
    """

    def __init__(self, app: Application) -> None:
        if not callable(app):
            raise TypeError(
                "a Client takes an ASGI application, such as mk.App({name: model}), not "
                f"{type(app).__name__}"
            )
        self._app = app
        self._lifespan = Lifespan(app)
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._lifespan = Lifespan(self._app)
        try:
            self._run(self._lifespan.begin())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            self._run(self._lifespan.end())
        finally:
            self._close()

    def _close(self) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            work.close()
            raise RuntimeError("the client has no event loop yet: use `with Client(app) as client`")
        if _in_a_coroutine():
            work.close()
            raise RuntimeError("the client has an event loop of its own: call it from no coroutine")
        return self._runner.run(work)

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Response:
        """Send a GET; see `request`."""
        return self.request("GET", path, headers=headers)

    def post(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] = b"",
        json: object = None,
    ) -> Response:
        """Send a POST; see `request`."""
        return self.request("POST", path, headers=headers, body=body, json=json)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] = b"",
        json: object = None,
        leaves: Callable[[], bool] | None = None,
    ) -> Response:
        """Send a request, and wait until the application is done with it.

        Args:
            method: the HTTP method.
            path: the path of the URL, from "/", with the query behind "?".
            headers: further headers; `host`, and what the body needs, are sent without being named.
            body: bytes, or the parts of a chunked body, which has no length in advance. A body of
                fewer bytes than a `content-length` in `headers` says never ends.
            json: an object to send as JSON instead.
            leaves: makes the client leave, as if the connection broke, as soon as it gives True.

        Raises:
            TimeoutError: if the answer does not come within a minute.
            RuntimeError: if what the application sends is no answer, outside of `with`, and in a
                coroutine.
            TypeError: for a body of text.
            UsageError: for a body beside JSON, and for a path that does not begin with "/".
        """
        asked = _asked(method, path, headers, body, json)
        return self._run(self._send(*asked, leaves))

    def concurrently(self, requests: Sequence[Mapping[str, Any]]) -> list[Response]:
        """Send many requests at once; returns their answers, in the same order.

        Args:
            requests: the arguments of `request`, by name.

        Raises:
            Exception: the first error of any of them, when all are done. See `request`.
        """
        return self._run(self._send_all(requests))

    async def _send_all(self, requests: Sequence[Mapping[str, Any]]) -> list[Response]:
        sends = []
        for request in requests:
            options = {"headers": None, "body": b"", "json": None, **request}
            leaves = options.pop("leaves", None)
            sends.append(self._send(*_asked(**options), leaves))
        done = await asyncio.gather(*sends, return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return [result for result in done if isinstance(result, Response)]

    async def _send(
        self, scope: AsgiMessage, parts: Iterator[AsgiMessage], leaves: Callable[[], bool] | None
    ) -> Response:
        scope["state"] = self._lifespan.state.copy()
        exchange = Exchange(parts)
        leaving = None if leaves is None else asyncio.ensure_future(exchange.leave(leaves))
        try:
            async with asyncio.timeout(PATIENCE) as limit:
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError as error:
            if not limit.expired():
                raise
            what = f"{scope['method']} {scope['path']}"
            raise TimeoutError(f"{what} was not answered within {PATIENCE:g} s") from error
        finally:
            if leaving is not None and not leaving.cancel():
                leaving.result()  # raises what `leaves` raised
        return exchange.response()


def _in_a_coroutine() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Exchange:
    """One request and its answer, in the messages of ASGI."""

    def __init__(self, parts: Iterator[AsgiMessage]) -> None:
        self._parts = parts
        self._start: AsgiMessage | None = None
        self._body: list[bytes] = []
        self._complete = False
        self._left = False
        self._over = asyncio.Event()

    async def receive(self) -> AsgiMessage:
        """What the application reads: the body, and when the exchange is over, that it is."""
        if not self._left:
            part = next(self._parts, None)
            if part is not None:
                return part
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: AsgiMessage) -> None:
        """What the application writes; nobody reads it when the client has left."""
        if self._left:
            return
        kind = message["type"]
        if self._complete or (self._start is None) != (kind == "http.response.start"):
            raise RuntimeError(f"the application sent {kind} where the answer does not go on so")
        if kind == "http.response.start":
            self._start = message
            return
        self._body.append(bytes(message.get("body", b"")))
        if not message.get("more_body", False):
            self._complete = True
            self._over.set()

    async def leave(self, leaves: Callable[[], bool]) -> None:
        """Wait until the client leaves, and break the connection."""
        try:
            while not leaves():  # of whatever the test looks at
                await asyncio.sleep(POLL)
        finally:
            self._left = True
            self._over.set()

    def response(self) -> Response:
        """What came. Raises RuntimeError where the application did not answer."""
        if not self._complete and not self._left:
            raise RuntimeError("the application ended without an answer, or in the middle of it")
        if self._start is None:
            return Response(0, {}, b"", complete=False)
        headers: dict[str, str] = {}
        for raw_name, raw_value in self._start.get("headers", ()):
            name = bytes(raw_name).decode("latin-1").lower()
            value = bytes(raw_value).decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Response(int(self._start["status"]), headers, b"".join(self._body), self._complete)


class Lifespan:
    """The lifespan of an application: begun before the first request, ended after the last.

    `state` is what the application hands from there to its requests.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._task: asyncio.Future[None] | None = None
        self._asked: asyncio.Queue[AsgiMessage] = asyncio.Queue()
        self._told: asyncio.Queue[AsgiMessage] = asyncio.Queue()
        self._heard = False
        self.state: dict[str, Any] = {}

    async def begin(self) -> None:
        """Start the application. Raises RuntimeError where it says that it cannot start."""
        scope = {"type": "lifespan", "asgi": ASGI, "state": self.state}
        self._task = asyncio.ensure_future(self._app(scope, self._receive, self._told.put))
        await self._step(self._task, "startup")

    async def _receive(self) -> AsgiMessage:
        self._heard = True
        return await self._asked.get()

    async def end(self) -> None:
        """Let the application end. Raises RuntimeError where it says that it could not."""
        task = self._task
        if task is not None:
            if not task.done():
                await self._step(task, "shutdown")
            await task

    async def _step(self, task: asyncio.Future[None], name: str) -> None:
        self._asked.put_nowait({"type": f"lifespan.{name}"})
        telling = asyncio.ensure_future(self._told.get())
        either: set[asyncio.Future[Any]] = {task, telling}
        await asyncio.wait(either, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not telling.done():
            telling.cancel()
            await self._without_a_word(task, name)
        elif telling.result()["type"] == f"lifespan.{name}.failed":
            self._task = None
            why = telling.result().get("message", "")
            results = await asyncio.gather(task, return_exceptions=True)
            cause = results[0] if isinstance(results[0], BaseException) else None
            raise RuntimeError(f"the application's {name} failed: {why}") from cause

    async def _without_a_word(self, task: asyncio.Future[None], name: str) -> None:
        """It ended, or hangs. What ends before it reads anything has no lifespan, as servers say."""
        if not task.done():
            task.cancel()
            raise TimeoutError(f"the application's {name} took more than {PATIENCE:g} s")
        self._task = None
        if self._heard or task.exception() is None:
            await task


def _asked(
    method: str,
    path: str,
    headers: Mapping[str, str] | None,
    body: bytes | Iterable[bytes],
    json: object,
) -> tuple[AsgiMessage, Iterator[AsgiMessage]]:
    """The scope of a request, and the messages of its body."""
    if not path.startswith("/"):
        raise UsageError(f'a path begins with "/"; got {path!r}')
    named = {"host": "testserver"}
    if json is not None:
        if body != b"":
            raise UsageError("pass a body, or an object as json=, not both")
        body = json_text.dumps(json).encode()
        named["content-type"] = "application/json"
    if isinstance(body, str):
        raise TypeError("a body is bytes, or parts of bytes: encode the text")
    if isinstance(body, bytearray | memoryview):
        body = bytes(body)
    if not isinstance(body, bytes):
        named["transfer-encoding"] = "chunked"
    elif body or method == "POST":
        named["content-length"] = str(len(body))
    named |= {name.lower(): value for name, value in (headers or {}).items()}
    length = named.get("content-length", "")
    parts = _messages(body, int(length) if length.isdecimal() else 0)
    return _scope(method, path, named), parts


def _scope(method: str, path: str, headers: Mapping[str, str]) -> AsgiMessage:
    target, _, query = path.partition("?")
    raw_path = quote(target, safe=UNQUOTED)
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {
        "type": "http",
        "asgi": ASGI,
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": pairs,
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
    }


def _messages(body: bytes | Iterable[bytes], length: int) -> Iterator[AsgiMessage]:
    """The messages of a body, which ends if it has as many bytes as its header says."""
    if isinstance(body, bytes):
        yield {"type": "http.request", "body": body, "more_body": len(body) < length}
        return
    sent = 0
    for part in body:
        sent += len(part)
        yield {"type": "http.request", "body": part, "more_body": True}
    if sent >= length:
        yield {"type": "http.request", "body": b"", "more_body": False}

"""One request under way: who asks for what, by when, and what carries it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable
from math import isfinite
from time import monotonic
from typing import Any, ClassVar, TypeVar

from modelkit._internal.process import watch_forks
from modelkit.errors import DeadlineExceeded
from modelkit.model.model import Call, Model, Outputs
from modelkit.web.reply import Headers, Refused
from modelkit.web.routes import LOOKING, UNMATCHED, Route

T = TypeVar("T")
_NO_ROUTE = Route(UNMATCHED, "page", LOOKING)
# The headers that say by when an answer is of use, with the seconds of their unit.
_UNITS = ((b"request-timeout", 1.0), (b"x-envoy-expected-rq-timeout-ms", 1e-3))


class Request:
    """A request under way. What carries it, ASGI or WSGI, reads its body and waits for what takes time.

    Args:
        method: of HTTP.
        root: the path of the mount, or nothing.
        path: without mount and query.
        headers: by name in small letters.
        seconds: the time until it is to be answered.

    Attributes:
        cuts: whether what carries it ends it when its time is over.
        closes: whether its answer may say that the connection is closed.
        route: what the path is for.
        arrived: when its head was here, on `time.monotonic()`.
        deadline: by when it is to be answered, likewise.
        hurried: whether the client gave the deadline, and not the App.
        principal: who asks, as `auth` said.
        version: of the model that answered.
        reading: whether its body was begun to be read.
        size: the bytes of its body and answer, if these are long.
        cut_for: why it was ended from outside, if it was.
    """

    __slots__ = (
        "_id",
        "arrived",
        "closes",
        "cut_for",
        "deadline",
        "headers",
        "hurried",
        "listener",
        "loop",
        "method",
        "path",
        "principal",
        "reading",
        "receive",
        "root",
        "route",
        "size",
        "task",
        "version",
    )

    cuts: ClassVar[bool] = False

    def __init__(self, method: str, root: str, path: str, headers: Headers, seconds: float) -> None:
        self.method = method
        self.root = root
        self.path = path
        self.headers = headers
        self.route = _NO_ROUTE
        self.arrived = monotonic()
        self.deadline = self.arrived + seconds
        self.hurried = False
        self.principal: str | None = None
        self.version = ""
        self._id = ""
        self.closes = False
        self.reading = False
        self.size = 0
        self.cut_for: Refused | None = None
        self.task: Any = None  # these four belong to the Lookout of an event loop
        self.loop: Any = None
        self.receive: Any = None
        self.listener: Any = None

    async def body(self, most: int) -> bytes:
        """The body of the request; raises Refused above `most` bytes."""
        raise NotImplementedError

    def call(
        self, model: Model, X: object, outputs: tuple[str, ...], call: Call
    ) -> Awaitable[Outputs]:
        """The answers of a model."""
        raise NotImplementedError

    async def beside(self, work: Callable[[], T]) -> T:
        """What takes milliseconds, where it holds up no other request."""
        return work()

    async def one_by_one(self, work: Callable[[], T]) -> T:
        """What keeps the interpreter for milliseconds, as parsing does: no two of them at once."""
        return work()

    async def apart(self, work: Callable[[], T]) -> T:
        """What may take seconds. Raises Overloaded where too much of it waits."""
        return work()

    async def turn(self) -> None:
        """Let others have a turn."""

    async def settle(self, principal: Awaitable[str | None]) -> str | None:
        """What an async `auth` says."""
        raise NotImplementedError

    def hurry(self, seconds: float) -> None:
        """Take the seconds that the client gives its answer, counted from its arrival."""
        self.hurried = True
        self.deadline = min(self.deadline, self.arrived + seconds)

    def read_deadline(self) -> None:
        """Take the seconds that its headers give. Raises Refused for what is no positive number."""
        for name, unit in _UNITS:
            value = self.headers.get(name)
            if value is not None:
                self.hurry(_positive(name, value) * unit)

    def check_time(self) -> None:
        """Raise DeadlineExceeded if the time is over."""
        if monotonic() >= self.deadline:
            raise DeadlineExceeded(
                "the deadline passed before the answer came", deadline=self.deadline
            )

    def cut(self, why: Refused) -> None:
        """End it from outside, if it still waits for something."""
        if self.task is not None and self.cut_for is None:
            self.cut_for = why
            self.task.cancel()

    def request_id(self) -> str:
        """What the client, or else we, call the request."""
        if not self._id:
            self._id = _client_id(self.headers.get(b"x-request-id", b"")) or _ids.new()
        return self._id


def _client_id(header: bytes) -> str:
    """What a client calls its request; empty where it says nothing that can be repeated."""
    if not header or not header.isascii() or len(header) > 128:
        return ""
    text = header.decode()
    return text if text.isprintable() else ""


class Ids:
    """Ids of requests: one of this process, and a number. A UUID each would take as long as JSON."""

    def __init__(self) -> None:
        watch_forks(self)
        self.after_fork()

    def after_fork(self) -> None:
        """Take another id in the child of a fork."""
        self._process = uuid.uuid4().hex
        self._numbers = itertools.count(1)

    def new(self) -> str:
        """The next id."""
        return f"{self._process}-{next(self._numbers)}"


_ids = Ids()


def _positive(name: bytes, value: bytes) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if number > 0 and isfinite(number):
        return number
    text = value.decode("latin-1")
    raise Refused(400, f"the header {name.decode()} must be a number above 0, and is {text!r}")

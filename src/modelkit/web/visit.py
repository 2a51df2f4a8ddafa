"""One request under way, by when it is to be answered, and what carries it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable
from math import isfinite
from time import monotonic
from typing import Any, Protocol, TypeVar, final

from modelkit._internal.process import watch_forks
from modelkit.errors import DeadlineExceeded
from modelkit.model.model import Call, Model, Outputs
from modelkit.web.reply import Headers, Refused
from modelkit.web.routes import LOOKING, UNMATCHED, Route

T = TypeVar("T")
_NO_ROUTE = Route(UNMATCHED, "page", LOOKING)
# The headers that say by when an answer is of use, with the seconds of their unit.
_UNITS = ((b"request-timeout", 1.0), (b"x-envoy-expected-rq-timeout-ms", 1e-3))


@final
class Visit:
    """A request under way.

    Attributes:
        method: of HTTP.
        path: without mount and query.
        root: the path of the mount, or nothing.
        headers: by name in small letters.
        route: what the path is for.
        arrived: when its head was here, on `time.monotonic()`.
        deadline: by when it is to be answered, likewise.
        hurried: whether the client gave the deadline, and not the App.
        principal: who asks, as `auth` said.
        reading: whether its body was begun to be read.
        size: the bytes of its body and answer, if these are long.
        version: of the model that answered.
        cut: why it was ended from outside, if it was.
    """

    __slots__ = (
        "arrived",
        "cut",
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
        "request",
        "root",
        "route",
        "size",
        "task",
        "version",
    )

    def __init__(self, method: str, path: str, headers: Headers, seconds: float) -> None:
        self.method = method
        self.path = path
        self.root = ""
        self.headers = headers
        self.route = _NO_ROUTE
        self.arrived = monotonic()
        self.deadline = self.arrived + seconds
        self.hurried = False
        self.principal: str | None = None
        self.version = ""
        self.request = ""
        self.reading = False
        self.size = 0
        self.cut: Refused | None = None
        self.task: Any = None  # these four belong to the Lookout of an event loop
        self.loop: Any = None
        self.receive: Any = None
        self.listener: Any = None

    def hurry(self, seconds: float) -> None:
        """Take the seconds that the client gives its answer, counted from its arrival."""
        self.hurried = True
        self.deadline = min(self.deadline, self.arrived + seconds)

    def listen_no_more(self) -> None:
        """End what waits for the client to leave: its answer is on the way."""
        self.receive = None
        if self.listener is not None:
            self.listener.cancel()
            self.listener = None

    def check_time(self) -> None:
        """Raise DeadlineExceeded if the time is over."""
        if monotonic() >= self.deadline:
            raise DeadlineExceeded(
                "the deadline passed before the answer came", deadline=self.deadline
            )

    def request_id(self) -> str:
        """What the client, or else we, call the request."""
        if not self.request:
            self.request = _told_id(self.headers.get(b"x-request-id", b"")) or _ids.new()
        return self.request


def _told_id(header: bytes) -> str:
    """What a client calls its request; empty where it says nothing that can be repeated."""
    if not header or not header.isascii() or len(header) > 128:
        return ""
    told = header.decode()
    return told if told.isprintable() else ""


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


class Transport(Protocol):
    """What carries a request: reads its body, and waits for what takes time.

    Attributes:
        cuts: whether it ends a request whose time is over by itself.
    """

    cuts: bool

    async def body(self, most: int) -> bytes:
        """The body of the request; raises Refused above `most` bytes."""

    def call(
        self, model: Model, X: object, outputs: tuple[str, ...], call: Call
    ) -> Awaitable[Outputs]:
        """The answers of a model."""

    async def beside(self, work: Callable[[], T]) -> T:
        """What takes milliseconds, where it holds up no other request."""

    async def one_by_one(self, work: Callable[[], T]) -> T:
        """What keeps the interpreter for milliseconds, as parsing does: no two of them at once."""

    async def apart(self, work: Callable[[], T]) -> T:
        """What may take seconds. Raises Overloaded where too much of it waits."""

    async def turn(self) -> None:
        """Let others have a turn."""

    async def settle(self, principal: Awaitable[str | None]) -> str | None:
        """What an async `auth` says."""


def seconds_allowed(headers: Headers) -> float | None:
    """The seconds from its arrival that the headers of a request give its answer, if they do.

    Raises Refused for a header that is not a positive number.
    """
    least = None
    for name, unit in _UNITS:
        told = headers.get(name)
        if told is None:
            continue
        seconds = _positive(name, told) * unit
        if least is None or seconds < least:
            least = seconds
    return least


def _positive(name: bytes, told: bytes) -> float:
    try:
        number = float(told)
    except ValueError:
        number = 0.0
    if number > 0 and isfinite(number):
        return number
    text = told.decode("latin-1")
    raise Refused(400, f"the header {name.decode()} must be a number above 0, and is {text!r}")

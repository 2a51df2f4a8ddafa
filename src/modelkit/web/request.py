"""One request under way: who asks for what, by when, what carries it, and what its body may be."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Generator
from math import inf
from os import urandom
from time import monotonic
from typing import ClassVar, Literal, TypeVar, final

from modelkit.errors import DeadlineExceeded
from modelkit.web.replies import CLOSE, Headers, Refused
from modelkit.web.routes import GET, UNMATCHED, Route

T = TypeVar("T")
PART = 1 << 16  # bytes that are read or sent at once; up to this size, `memory` does not count them
Turns = Generator[None, None, T]  # work that yields where others may have a turn
# The threads of an App: for what takes seconds, for what takes milliseconds, and the only one for what
# keeps the interpreter that long.
Pool = Literal["explain", "general", "parse"]
_NO_ROUTE = Route(UNMATCHED, "page", GET)
# The headers that say by when an answer is of use, with the seconds of their unit.
_UNITS = ((b"request-timeout", 1.0), (b"x-envoy-expected-rq-timeout-ms", 1e-3))
CSV = b"text/csv"  # which /invocations takes
_USUAL_TYPES = (b"application/json", b"application/octet-stream")
_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # how zlib names them
_PLAIN = (b"", b"identity")
# Bytes that are inflated at a time. What follows a member is copied, so that a body of many empty ones,
# inflated at once, would take minutes.
_SLICE = 1 << 12
_ACCEPT = (b"accept-encoding", b"gzip, deflate")


class Request:
    """A request under way. What carries it, ASGI or WSGI, reads its body and waits for what takes time.

    Args:
        method: of HTTP.
        root: the path of the mount, or nothing.
        path: without mount and query.
        headers: by name in small letters.
        seconds: the time until it is to be answered.

    Attributes:
        blocks: whether it has a thread of its own, which waits for the model.
        closes: whether its answer may say that the connection is closed.
        route: what the path is for.
        arrived: when its head was here, on `time.monotonic()`.
        deadline: by when it is to be answered, likewise.
        has_timeout: whether the client gave the deadline, and not the App.
        principal: who asks, as `auth` said.
        version: of the model that answered.
        aborted: the answer with which it was ended from outside, if it was.
    """

    __slots__ = (
        "_id",
        "aborted",
        "arrived",
        "closes",
        "deadline",
        "has_timeout",
        "headers",
        "method",
        "path",
        "principal",
        "root",
        "route",
        "version",
    )

    blocks: ClassVar[bool] = False

    def __init__(self, method: str, root: str, path: str, headers: Headers, seconds: float) -> None:
        self.method = method
        self.root = root
        self.path = path
        self.headers = headers
        self.route = _NO_ROUTE
        self.arrived = monotonic()
        self.deadline = self.arrived + seconds
        self.has_timeout = False
        self.principal: str | None = None
        self.version = ""
        self._id = ""
        self.closes = False
        self.aborted: Refused | None = None

    async def body(self, most: int) -> bytes:
        """The body of the request; raises Refused above `most` bytes."""
        raise NotImplementedError

    async def in_thread(self, _pool: Pool, work: Callable[[], T]) -> T:
        """What work gives, where it holds up no other request. Raises Overloaded where too much waits."""
        return work()

    async def in_turns(self, steps: Turns[T]) -> T:
        """What steps end with, with turns for others in between."""
        return at_once(steps)

    async def resolve(self, principal: Awaitable[str | None]) -> str | None:
        """What an async `auth` says."""
        return await principal

    def grow(self, size: int) -> None:
        """Note that it takes so many bytes more. Raises Refused where memory ran out."""

    def set_timeout(self, seconds: float) -> None:
        """Take the seconds that the client gives its answer, counted from its arrival."""
        self.has_timeout = True
        self.deadline = min(self.deadline, self.arrived + seconds)

    def read_head(self, most: int) -> None:
        """Take what its headers say of its body, of at most so many bytes, and of its time. Raises Refused."""
        headers = self.headers
        content = headers.get(b"content-type")
        if content is None:
            _check_origin(headers, self.route.verb)
        elif content not in _USUAL_TYPES:
            _check_type(content, self.route.verb)
        encoding = headers.get(b"content-encoding")
        if encoding is not None:
            _check_encoding(encoding)
        length = headers.get(b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > most:
            raise too_large(most)
        for name, unit in _UNITS:
            if name in headers:
                self.set_timeout(_positive(name, headers[name]) * unit)

    def check_time(self) -> None:
        """Raise DeadlineExceeded if the time is over."""
        if monotonic() >= self.deadline:
            raise DeadlineExceeded(
                "the deadline passed before the answer came", deadline=self.deadline
            )

    def request_id(self) -> str:
        """What the client, or else we, call the request."""
        if not self._id:
            named = self.headers.get(b"x-request-id", b"").decode("latin-1")
            # Another one cannot be repeated everywhere.
            fits = 0 < len(named) <= 128 and named.isascii() and named.isprintable()
            self._id = named if fits else urandom(16).hex()
        return self._id


def _positive(name: bytes, value: bytes) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if 0 < number < inf:
        return number
    text = value.decode("latin-1")
    raise Refused(f"the header {name.decode()} must be a number above 0, and is {text!r}")


def too_large(most: int) -> Refused:
    """The answer to a body above the limit; what is left of it stays unread."""
    return Refused(
        f"the body is larger than {most:,} bytes; send fewer rows. Tensors in bytes, as V2 has them, "
        "may be more than JSON",
        413,
        headers=[CLOSE],
    )


@final
class BodyParts:
    """A body that comes in parts, counted while they come.

    Args:
        most: the bytes that there may be.
    """

    __slots__ = ("_most", "_parts", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Take the next part. Raises Refused when there are too many bytes."""
        self._size += len(part)
        if self._size > self._most:
            raise too_large(self._most)
        self._parts.append(part)

    def whole(self) -> bytes:
        """The body so far."""
        return b"".join(self._parts)


def inflated(body: bytes, headers: Headers, most: int) -> bytes:
    """The body itself, or what it inflates to, of at most `most` bytes. Raises Refused."""
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding in _PLAIN:
        return body
    gathered = BodyParts(most)
    whole = memoryview(body)
    inflating = None
    for start in range(0, len(whole), _SLICE):
        left: bytes | memoryview = whole[start : start + _SLICE]
        while left:
            if inflating is None or inflating.eof:  # a gzip body may have several members
                inflating = zlib.decompressobj(_WINDOW[encoding])
            gathered.add(_inflated(left, inflating, encoding, most))
            left = inflating.unused_data
    if inflating is not None and not inflating.eof:
        raise Refused(f"the {encoding.decode()} body ends too early")
    return gathered.whole()


def _inflated(
    part: bytes | memoryview, inflating: zlib._Decompress, encoding: bytes, most: int
) -> bytes:
    try:
        return inflating.decompress(part, most + 1)
    except zlib.error as error:
        name = encoding.decode()
        raise Refused(f"the body is not {name}, as its header says: {error}") from None


def _check_origin(headers: Headers, verb: str) -> None:
    """Raise Refused, 415, for content of no type: a page of any site may have a browser send that.

    Clients of Triton send none to V2. They are known from browsers, which say where a page is from.
    """
    from_page = b"origin" in headers or b"sec-fetch-site" in headers
    if verb != "infer" or from_page:
        raise Refused(
            "the request lacks a Content-Type; send JSON in UTF-8, as Content-Type: application/json",
            415,
        )


def _check_type(content: bytes, verb: str) -> None:
    """Raise Refused, 415, for content that is said to be another than the path takes, in UTF-8."""
    kind, *options = [part.strip().lower() for part in content.split(b";")]
    is_json = kind in _USUAL_TYPES or (kind.startswith(b"application/") and kind.endswith(b"+json"))
    is_known = is_json or (verb == "invocations" and kind == CSV)
    charsets = [part for part in options if part.startswith(b"charset=")]
    if is_known and all(part.strip(b' "').endswith((b"utf-8", b"utf8")) for part in charsets):
        return
    or_csv = ", or CSV, as text/csv" if verb == "invocations" else ""
    raise Refused(
        f"the content is {content[:80].decode('latin-1')!r}; send JSON in UTF-8, as Content-Type: "
        f"application/json{or_csv}",
        415,
    )


def _check_encoding(encoding: bytes) -> None:
    bare = encoding.strip().lower()
    if bare not in _PLAIN and bare not in _WINDOW:
        text = encoding.decode("latin-1")
        raise Refused(
            f"a body may be gzip or deflate, not {text!r}; send it so, or as it is",
            415,
            headers=[_ACCEPT],
        )


def at_once(steps: Turns[T]) -> T:
    """What steps end with, without a turn for others."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        value: T = end.value
        return value

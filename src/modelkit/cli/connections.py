"""Connections, as `modelkit serve` has them: what a client may do before anybody knows it, and its certificate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.flow_control import FlowControl

# Of the head of a request, before anybody is known: its bytes, its fields, and its time.
HEAD_BYTES = 1 << 14
HEAD_FIELDS = 128
HEAD_SECONDS = 20
# Read at once where heads come: few requests lie in it, however small and however many are sent.
FEW_BYTES = 1 << 10
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
CERTIFIED = "modelkit-client-certificate"  # a header that only the server itself can set
_CERTIFIED = CERTIFIED.encode()

Asgi = Callable[..., Awaitable[None]]


class PatientFlow(FlowControl):
    """Reads no more of a client while what it sent before waits: uvicorn would at each answer.

    Args:
        transport: the connection.
        holds: whether something waits.
    """

    def __init__(self, transport: asyncio.Transport, holds: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._holds = holds

    def resume_reading(self) -> None:
        """Read on, unless something waits."""
        if not self._holds():
            super().resume_reading()


class WholeAnswers:
    """A transport that sends a head with the body behind it: uvicorn writes them one after the other.

    If the process is killed in between, the client has half an answer, which no balancer can ask
    another replica for.

    Args:
        transport: the connection.
        loop: what the protocol runs on.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send some bytes at the end of this turn of the loop, or now if they are many."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held += data
        if len(self._held) > HEAD_BYTES:
            self._send()

    def close(self) -> None:
        """Send what is held, and close the connection."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        data, self._held = self._held, b""
        if data and not self._transport.is_closing():
            self._transport.write(data)


class GuardedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """HTTP in which heads have limits, and clients that stand still make room for others.

    Args:
        still: the connections of a server that wait for their clients, to send or to take more; those
            that wait longest come first.
        most: the connections that there may be.
        given: as uvicorn has it.
    """

    def __init__(self, still: dict[GuardedProtocol, None], most: int, **given: Any) -> None:
        super().__init__(**given)
        self._still = still
        self._most = most
        self._head = 0  # bytes since the last that belonged to a request
        self._unread = b""  # what came behind requests that wait for their turn
        self._has_head = False  # whether what comes belongs to a body, or is behind it
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Let a client in; of too many, the one leaves that stood still for longest."""
        transport = cast("asyncio.Transport", WholeAnswers(transport, self.loop))
        super().connection_made(transport)
        self.flow = PatientFlow(transport, self._holds)
        self._still[self] = None
        self._await_head()
        if len(self.connections) > self._most:
            next(iter(self._still)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a client."""
        self._still.pop(self, None)
        self._have_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        self._unread += data
        self._read_on()

    def _read_on(self) -> None:
        """Read some at a time, so no head grows beyond its limits, until a request has to wait."""
        while self._unread and not self._queued() and not self.transport.is_closing():
            most = HEAD_BYTES if self.cycle is not None and self.cycle.more_body else FEW_BYTES
            part, self._unread = self._unread[:most], self._unread[most:]
            self._read(part)
        if self._unread:
            self.flow.pause_reading()
        self._still.pop(self, None)
        if self.cycle is None or self.cycle.more_body or self.cycle.response_complete:
            self._still[self] = None

    def _read(self, data: bytes) -> None:
        cycle = self.cycle
        self._head += len(data)
        super().data_received(data)
        if self.cycle is not cycle:
            self._head = 0
            self._have_head()
            if len(self.headers) > HEAD_FIELDS:
                self._refuse()
        elif cycle is None or cycle.response_complete:
            self._await_head()
            if self._head > HEAD_BYTES or len(self.headers or ()) > HEAD_FIELDS:
                self._refuse()
        elif self._head > HEAD_BYTES and COUNTS_BODIES:
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, which has limits of its own."""
        self._head = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        """Begin the head of a request."""
        self._has_head = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of a head; one behind a body is none, and says nothing of who asks."""
        if not self._has_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the body of a request."""
        self._has_head = True
        super().on_headers_complete()

    def _holds(self) -> bool:
        """Whether nothing more is to be read before what is here has had its turn."""
        return bool(self._unread) or self._queued()

    def _queued(self) -> bool:
        """Whether requests wait for the answer to one before them; h11 reads no others."""
        return bool(getattr(self, "pipeline", None))

    def on_response_complete(self) -> None:
        """Wait for the next request, or read on what came behind this one."""
        super().on_response_complete()
        if self._unread and not self._queued():
            self.loop.call_soon(self._read_last)
        if self.cycle.response_complete:
            self._still[self] = None

    def _read_last(self) -> None:
        """Read on, and then what the client still sends."""
        self._read_on()
        self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Wait for the client to take more."""
        super().pause_writing()
        self._still[self] = None

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._still.pop(self, None)

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that was idle for long, even if its client does not read the answer."""
        self.transport.abort()

    def _await_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _have_head(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self) -> None:
        """End a connection whose head is too large."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # nobody reads another answer
        self.transport.write(TOO_LARGE)
        self.transport.close()


COUNTS_BODIES = hasattr(AutoHTTPProtocol, "on_body")  # httptools; h11 counts bytes itself


class CertifiedProtocol(GuardedProtocol):
    """HTTP in which each request says, in the header CERTIFIED, who holds the client's certificate."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Look at the certificate once a connection."""
        super().connection_made(transport)
        name = holder_of(transport.get_extra_info("peercert"))
        app: Asgi = self.app
        self.app: Asgi = partial(with_holder, app, name)


async def with_holder(
    app: Asgi, name: str | None, scope: MutableMapping[str, Any], receive: Any, send: Any
) -> None:
    """Answer with `app`, which sees the name of the holder, and nothing that a client made up."""
    headers = [(key, value) for key, value in scope.get("headers", ()) if key != _CERTIFIED]
    if name is not None:
        headers.append((_CERTIFIED, name.encode()))
    scope["headers"] = headers
    await app(scope, receive, send)


def holder_of(certificate: dict[str, Any] | None) -> str | None:
    """The common name in a certificate that was verified; or its URI where it has none.

    None where it does not name exactly one.
    """
    certificate = certificate or {}
    parts = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in parts if key == "commonName"]
    names = names or [value for key, value in certificate.get("subjectAltName", ()) if key == "URI"]
    return names[0] if len(names) == 1 else None


def certified(headers: Mapping[str, str]) -> str | None:
    """Who holds the certificate of a client; for `App(auth=...)`."""
    name = headers.get(CERTIFIED)
    return None if name is None else name.encode("latin-1").decode()

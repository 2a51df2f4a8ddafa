"""uvicorn, as `modelkit serve` runs it: it drains before it ends, and knows clients' certificates."""

from __future__ import annotations

import asyncio
import gc
import logging
import select
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.flow_control import FlowControl

from modelkit._internal.logs import log_due
from modelkit.cli.settings import Settings
from modelkit.errors import ModelkitError

# Load balancers reuse a connection that was idle for up to a minute: the server is patient for
# longer, so that it is never the one that closes a connection just as a request comes.
KEEP_ALIVE = 75
LISTENING_TURNS = 20  # looks in a second at whether all connections have been closed
KNOCKING_SECONDS = 1  # at most, that those are let in who have connected
ENDING = (signal.SIGTERM, signal.SIGINT)
GRACE = 30  # seconds for the requests that are under way when the port is closed
# Of the head of a request, before anybody is known: its bytes, its fields, and its time.
HEAD_BYTES = 1 << 14
HEAD_FIELDS = 128
HEAD_SECONDS = 20
# Read at once where heads come: few requests lie in it, however small and however many are sent.
FEW_BYTES = 1 << 10
MOST_CONNECTIONS = 10_240
SPARE_FILES = 64  # of a process, for anything but connections
UNTAKEN_SECONDS = 30  # that a client may take nothing of what was sent to it
UNSENT_BYTES = 1 << 17  # of an answer that the kernel holds
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
CERTIFIED = "modelkit-client-certificate"  # a header that only the server itself can set
_CERTIFIED = CERTIFIED.encode()

Asgi = Callable[..., Awaitable[None]]


class DrainingServer(uvicorn.Server):
    """A server that goes on answering for some seconds after SIGTERM, and says that it will end.

    Args:
        config: the configuration of uvicorn.
        begin: what makes the application say so.
        seconds: how long it goes on.
        started: called when the server listens.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        begin: Callable[[], object],
        seconds: float,
        started: Callable[[], object],
    ) -> None:
        super().__init__(config)
        self._begin = begin
        self._seconds = seconds
        self._says_started = started
        self._draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        self._loop = asyncio.get_running_loop()
        # What was loaded stays for good. Python would look at all of it for garbage every few seconds
        # of traffic, and hold the loop up for 10 to 60 milliseconds.
        gc.collect()
        gc.freeze()
        await super().startup(sockets)
        self._says_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals that end it; uvicorn would raise them again before all is closed."""
        before = {each: signal.signal(each, self.handle_exit) for each in ENDING}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first SIGTERM; end at the second, and at Ctrl-C."""
        end = partial(super().handle_exit, sig, frame)
        if sig != signal.SIGTERM or self._draining or not self.started:
            end()
            return
        self._draining = True
        self._loop.call_soon_threadsafe(self._drain, end)

    def _drain(self, end: Callable[[], None]) -> None:
        self._begin()
        self._loop.call_later(self._seconds, end)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, and let those ask who have connected: uvicorn would hang up on them."""
        end = self._loop.time() + KNOCKING_SECONDS  # a client may knock for ever
        while sockets and _knocks(sockets) and self._loop.time() < end:
            await asyncio.sleep(0)  # the loop lets in, and tells nobody
        for listening in self.servers:
            listening.close()
        for _ in range(LISTENING_TURNS):
            if not self.server_state.connections:
                break
            await asyncio.sleep(1 / LISTENING_TURNS)
        await super().shutdown(sockets)


def _knocks(sockets: list[socket.socket]) -> bool:
    """Whether somebody has connected to a socket, and was not let in."""
    return bool(select.select(sockets, [], [], 0)[0])


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
        """Read some at a time, so that no head grows beyond its limits, until a request has to wait."""
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
        """End a connection that was idle for long, also where its client takes no answer."""
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


def config_of(app: Any, settings: Settings) -> uvicorn.Config:
    """How uvicorn runs. Raises ModelkitError for certificates that cannot be read."""
    protocol = CertifiedProtocol if settings.ca_certs else GuardedProtocol
    config = uvicorn.Config(
        app,
        http=cast("Any", partial(protocol, {}, most_connections())),
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,  # it costs as much as everything else
        proxy_headers=False,
        server_header=False,
        workers=1,  # whatever WEB_CONCURRENCY says
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=settings.certfile,
        ssl_keyfile=settings.keyfile,
        ssl_ca_certs=settings.ca_certs,
        # Health is open, to probes that hold no certificate; `certified` refuses all else to them.
        ssl_cert_reqs=ssl.CERT_OPTIONAL if settings.ca_certs else ssl.CERT_NONE,
    )
    try:
        config.load()
    except OSError as error:  # which does not say of what
        files = ", ".join(filter(None, (settings.certfile, settings.keyfile, settings.ca_certs)))
        raise ModelkitError(f"the certificates in {files} cannot be read: {error}") from error
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(now_and_then)
    return config


def most_connections() -> int:
    """The connections that a process may have: as many as its limit of open files leaves."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, files - SPARE_FILES))


def now_and_then(record: logging.LogRecord) -> bool:
    """Whether to write a record: one of its kind in ten seconds, however often clients cause it."""
    kind = None if record.exc_info is None else record.exc_info[0]
    count = log_due((record.name, record.msg, kind))
    if count > 1:
        record.msg = f"{record.msg} ({count:,} times since the last record of it)"
    return count > 0


def bound(listener: socket.socket) -> None:
    """Let the kernel end connections whose clients take nothing, and hold little for them."""
    for option, value in (
        ("TCP_USER_TIMEOUT", 1000 * UNTAKEN_SECONDS),
        ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
    ):
        if hasattr(socket, option):  # Linux has both
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def serve_on(
    listener: socket.socket,
    config: uvicorn.Config,
    begin: Callable[[], object],
    seconds: float,
    started: Callable[[], object],
) -> None:
    """Answer at a socket until a signal ends it; see `DrainingServer`."""
    bound(listener)
    DrainingServer(config, begin, seconds, started).run(sockets=[listener])

"""uvicorn, as `modelkit serve` runs it: it drains before it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import select
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from modelkit._internal.logs import log_due
from modelkit.cli.connections import HEAD_BYTES, CertifiedProtocol, GuardedProtocol
from modelkit.cli.settings import Settings
from modelkit.errors import ModelkitError

# Load balancers reuse a connection that was idle for up to a minute: the server is patient for
# longer, so that it is never the one that closes a connection just as a request comes.
KEEP_ALIVE = 75
LISTENING_TURNS = 20  # looks in a second at whether all connections have been closed
KNOCKING_SECONDS = 1  # at most, that those are let in who have connected
ENDING = (signal.SIGTERM, signal.SIGINT)
GRACE = 30  # seconds for the requests that are under way when the port is closed
MOST_CONNECTIONS = 10_240
SPARE_FILES = 64  # of a process, for anything but connections
UNTAKEN_SECONDS = 30  # that a client may take nothing of what was sent to it
UNSENT_BYTES = 1 << 17  # of an answer that the kernel holds


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

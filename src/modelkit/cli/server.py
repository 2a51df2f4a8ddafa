"""uvicorn, as `modelkit serve` runs it: it drains before it ends, and knows clients' certificates."""

from __future__ import annotations

import asyncio
import select
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from modelkit.cli.settings import Settings

# Load balancers reuse a connection that was idle for up to a minute: the server is patient for
# longer, so that it is never the one that closes a connection just as a request comes.
KEEP_ALIVE = 75
LISTENING_TURNS = 20  # looks in a second at whether all connections have been closed
ENDING = (signal.SIGTERM, signal.SIGINT)
GRACE = 30  # seconds for the requests that are under way when the port is closed
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
        while sockets and _knocks(sockets):  # noqa: ASYNC110 - the loop lets in, and tells nobody
            await asyncio.sleep(0)
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


class CertifiedProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
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
    """How uvicorn runs. Raises OSError for certificates that cannot be read."""
    config = uvicorn.Config(
        app,
        http=CertifiedProtocol if settings.ca_certs else "auto",
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
    config.load()
    return config


def serve_on(
    listener: socket.socket,
    config: uvicorn.Config,
    begin: Callable[[], object],
    seconds: float,
    started: Callable[[], object],
) -> None:
    """Answer at a socket until a signal ends it; see `DrainingServer`."""
    server = DrainingServer(config, begin, seconds, started)
    server.run(sockets=[listener])

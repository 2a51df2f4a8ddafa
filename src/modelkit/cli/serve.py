"""`modelkit serve`: one command from a package to a URL."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, final

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, add_consent, read_text
from modelkit.cli.settings import DRAIN, PORT, Settings, settings_of
from modelkit.errors import ModelkitError, importing
from modelkit.report.html import printable

if TYPE_CHECKING:
    from modelkit.lifecycle.layered import Opened
    from modelkit.web.query import Limits

# What a machine calls itself, with a port or without.
_LOCAL = re.compile(
    r"(?:(?:[\w-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)(?::\d*)?", re.IGNORECASE
)
FOLDER = "MODELKIT_METRICS_DIR"  # where processes write their counts for one another


def add_serve(verbs: Any) -> None:
    """The arguments of `modelkit serve`."""
    about = "answer HTTP requests for the model of a package"
    parser = add_command(verbs, "serve", run_serve, about, "--key")
    parser.add_argument(
        "file", nargs="?",
        help="a package, or a folder with one; with --registry, a name in it; else MODELKIT_PACKAGE",
    )  # fmt: skip
    parser.add_argument(
        "--registry", metavar="WHERE",
        help="a folder or URL: serve what its alias champion names; else MODELKIT_REGISTRY",
    )  # fmt: skip
    parser.add_argument(
        "--poll", type=float, metavar="SECONDS",
        help="after how many seconds a prediction looks for changes in the registry; an idle server does not look",
    )  # fmt: skip
    parser.add_argument("--name", help="what the model is called in paths; else as in the package")
    add_consent(parser, "; repeat it for each version to follow; else MODELKIT_DIGEST")
    parser.add_argument("--host", help="the address to listen on; else HOST, else 127.0.0.1")
    parser.add_argument("--port", type=int, help=f"0 for any that is free; else PORT, else {PORT}")
    parser.add_argument(
        "--workers", type=int, help="the number of processes; else WEB_CONCURRENCY, else 1"
    )
    parser.add_argument(
        "--drain", type=float, default=DRAIN, metavar="SECONDS",
        help=f"how many seconds to go on answering after SIGTERM, as not ready; {DRAIN:g}",
    )  # fmt: skip
    parser.add_argument(
        "--tokens", metavar="FILE",
        help="who may ask: a sha256 of a token a line, with a name before it, and the word outcome "
        "after it for who may post outcomes; else MODELKIT_TOKENS",
    )  # fmt: skip
    parser.add_argument("--ssl-certfile", metavar="FILE", help="serve HTTPS with this certificate")
    parser.add_argument("--ssl-keyfile", metavar="FILE", help="its key, if it is not in that file")
    parser.add_argument(
        "--ssl-ca-certs", metavar="FILE", help="who may ask: clients with a certificate of these"
    )


def run_serve(args: argparse.Namespace) -> Printed:
    """Serve until a signal ends it."""
    settings = settings_of(args, os.environ)
    with importing("uvicorn", "modelkit serve"):
        import uvicorn  # noqa: F401 - before a package is opened for nothing
    serve = _serve_alone if settings.workers == 1 else _serve_together
    with _warnings_shown():
        return [], serve(settings)


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Write the log of modelkit to the standard error: failures, alarms, refused rows."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("modelkit")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _serve_alone(settings: Settings) -> int:
    with _application(settings) as app, _listen(settings) as listener:
        _answer(app, listener, settings, _announcement(app.title, listener, settings))
    return 0


def _serve_together(settings: Settings) -> int:
    """Serve with several processes, which divide the CPUs and add up their counts."""
    from modelkit.cli.processes import Processes
    from modelkit.cli.server import config_of

    os.environ["WEB_CONCURRENCY"] = str(settings.workers)
    with ExitStack() as stack:
        if not os.environ.get(FOLDER):
            folder = tempfile.TemporaryDirectory(prefix="modelkit-metrics-")
            os.environ[FOLDER] = stack.enter_context(folder)
        with _application(settings) as app:  # what cannot be served is said once, here
            config_of(app.asgi, settings)
        listener = stack.enter_context(_listen(settings))
        announce = _announcement(app.title, listener, settings)
        return 0 if Processes(work, settings, listener, announce).run() else 1


def work(settings: Settings, listener: socket.socket, tell: Connection) -> None:
    """Serve in one of several processes."""
    try:
        with _warnings_shown(), _application(settings) as app:
            _answer(app, listener, settings, partial(tell.send, "started"))
    except (ModelkitError, OSError) as error:
        sys.exit(f"modelkit: {printable(str(error))}")


def _answer(
    app: Application, listener: socket.socket, settings: Settings, started: Callable[[], object]
) -> None:
    from modelkit.cli.server import config_of, serve_on

    serve_on(listener, config_of(app.asgi, settings), app.drain, settings.drain, started)


@final
@dataclass(frozen=True)
class Application:
    """What answers: its ASGI callable, what makes it say that it will end, and what it is called."""

    asgi: Any
    drain: Callable[[], None]
    title: str


@contextmanager
def _application(settings: Settings) -> Iterator[Application]:
    """Open a package, or follow a registry, and answer for it until the block ends."""
    opened = _opened(settings)
    try:
        model = opened if isinstance(opened, mk.Rollout) else opened.model
        manifest = model.manifest
        assert manifest is not None  # for the type checker: a loaded model has one
        name = settings.name or manifest.name
        metrics = None
        if find_spec("prometheus_client") is not None:
            from modelkit.integrations.prometheus import Collector

            metrics = Collector(model).text
        tokens, posters = ({}, set()) if settings.tokens is None else read_tokens(settings.tokens)
        auth = _auth_of(settings, tokens)
        if auth is not None:
            model = mk.Guarded(model, partial(_allowed, posters))
        app = mk.App({name: model}, auth=auth, limits=_limits(), metrics=metrics)
        asgi = routed(app, name, settings)
        if auth is None and is_local(settings.host):
            asgi = asked_locally(asgi)
        yield Application(asgi, app.drain, f"{manifest.name} {manifest.version}")
        app.close()
    finally:
        opened.close()


def _limits() -> Limits:
    """What requests may take: connections are left for health, whatever the limit of open files is."""
    from modelkit.cli.server import most_connections
    from modelkit.web.query import Limits

    limits = Limits()
    return replace(limits, requests=max(1, min(limits.requests, most_connections() // 2)))


def routed(app: Any, name: str, settings: Settings) -> Any:
    """An ASGI application that answers where Vertex AI asks too, if its variables name paths."""
    targets = {
        settings.health_route: "/v2/health/ready",
        settings.predict_route: f"/models/{name}/instances",
    }
    paths = {path: target for path, target in targets.items() if path is not None}
    if not paths:
        return app

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        target = paths.get(scope.get("path"))
        await app(scope if target is None else {**scope, "path": target}, receive, send)

    return answer


def is_local(host: str) -> bool:
    """Whether a host, as a browser writes it with its port, is this machine."""
    return _LOCAL.fullmatch(host) is not None


def asked_locally(app: Any) -> Any:
    """An ASGI application that answers those who ask this machine by a name of its own.

    A page of any site can let the name of that site lead here, and would read what is answered.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        host = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1")
        if not host or is_local(host):
            await app(scope, receive, send)
            return
        error = (
            f"this server runs without tokens, so it answers only requests to localhost, not to {host[:80]!r}; start "
            "it with --tokens, or let your proxy send Host: localhost"
        )
        body = json.dumps({"error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 421, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def _opened(settings: Settings) -> Opened | mk.Rollout:
    from modelkit.lifecycle.layered import Opened

    trust = mk.Trust(settings.keys) if settings.keys else None
    consent: dict[str, Any] = {
        "digest": settings.digest,
        "allow": settings.allow,
        "unseal": settings.unseal,
    }
    if settings.registry is None:
        return Opened(mk.load(settings.package, trust=trust, **consent), mk.layered)
    registry = mk.Registry(settings.registry, trust=trust)
    if settings.poll is not None:
        consent["poll"] = settings.poll
    return mk.Rollout(registry, settings.package, wrap=mk.layered, **consent)


def _allowed(posters: Collection[str], principal: str | None, action: str, _about: object) -> bool:
    """The policy: all who may ask may predict and explain, and few may post outcomes."""
    return action != "outcome" or principal in posters


def _auth_of(settings: Settings, tokens: Mapping[str, str]) -> Any:
    """Who may ask: whoever has a token or a certificate, if any of these are asked for."""
    ways = []
    if tokens:
        ways.append(mk.bearer_tokens(tokens))
    if settings.ca_certs is not None:
        from modelkit.cli.connections import certified

        ways.append(certified)
    if not ways:
        return None
    return lambda headers: next(filter(None, (way(headers) for way in ways)), None)


def read_tokens(path: str) -> tuple[dict[str, str], set[str]]:
    """The digests in a file by the names of their holders, and the names of those who may post outcomes.

    A line is a name, which may be left out, a digest and, for the latter, the word `outcome`. Empty
    lines and those that begin with # are left out. Raises ModelkitError.
    """
    found: dict[str, str] = {}
    posters: set[str] = set()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        posts = words[-1] == "outcome"
        words = words[: len(words) - posts] or words
        digest = words[-1].removeprefix("sha256:")
        if re.fullmatch("[0-9a-fA-F]{64}", digest) is None or len(words) > 2:
            raise ModelkitError(
                f"{path}, line {number}: a line is a name and the sha256 of a token, as "
                "`printf %s TOKEN | sha256sum` prints it, never the token; and the word outcome "
                "for who may post outcomes"
            )
        name = words[0] if len(words) == 2 else f"sha256:{digest[:8]}"
        if name in found:
            raise ModelkitError(f"{path}, line {number}: the name {name!r} is there twice")
        found[name] = digest
        if posts:
            posters.add(name)
    if not found:
        raise ModelkitError(
            f"{path} is empty, so nobody could ask; write a name and the sha256 of its token on each line"
        )
    return found, posters


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        settings.host.encode("idna")  # a socket that fails at this would stay open
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", None) or error)
        raise ModelkitError(
            f"cannot listen on {settings.host}, port {settings.port}: "
            f"{why.partition(' (while ')[0]}; --host and --port name another"  # the rest names it again
        ) from error


def _announcement(title: str, listener: socket.socket, settings: Settings) -> Callable[[], None]:
    """What prints where a model answers; found out now, since a signal may close the listener."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.certfile else "http"
    address = f"[{host}]" if ":" in host else host
    line = printable(f"{title} at {scheme}://{address}:{port}")

    def announce() -> None:
        with suppress(BrokenPipeError):  # the process that started it may not want to read
            print(line, flush=True)

    return announce

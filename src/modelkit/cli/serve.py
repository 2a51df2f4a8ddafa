"""`modelkit serve`: one command from a package to a URL."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import modelkit as mk
from modelkit.cli.printed import Printed
from modelkit.cli.processes import Workers
from modelkit.cli.settings import DRAIN, PORT, Settings, settings_of
from modelkit.errors import ModelkitError, importing
from modelkit.html import printable

FOLDER = "MODELKIT_METRICS_DIR"  # where processes write their counts for one another


def add_serve(verbs: Any) -> None:
    """The arguments of `modelkit serve`."""
    parser = verbs.add_parser("serve", help="answer HTTP requests for the model of a package")
    parser.add_argument(
        "file", nargs="?", help="a package, or a folder with one; else MODELKIT_PACKAGE"
    )
    parser.add_argument("--name", help="what the model is called in paths; else as in the package")
    parser.add_argument("--digest", help="refuse any other package; else MODELKIT_DIGEST")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="WHAT",
        help="what you accept beyond the default: joblib, or a domain of operators",
    )  # fmt: skip
    parser.add_argument("--host", help="the address to listen on; else HOST, else 127.0.0.1")
    parser.add_argument("--port", type=int, help=f"0 for any that is free; else PORT, else {PORT}")
    parser.add_argument(
        "--workers", type=int, help="the number of processes; else WEB_CONCURRENCY, else 1"
    )
    parser.add_argument(
        "--drain", type=float, default=DRAIN, metavar="SECONDS",
        help=f"how long to go on answering after SIGTERM, not ready any more; {DRAIN:g}",
    )  # fmt: skip
    parser.add_argument(
        "--tokens", metavar="FILE",
        help="who may ask: a sha256 of a token a line, with a name before it; else MODELKIT_TOKENS",
    )  # fmt: skip
    parser.add_argument("--ssl-certfile", metavar="FILE", help="serve HTTPS with this certificate")
    parser.add_argument("--ssl-keyfile", metavar="FILE", help="its key, if it is not in that file")
    parser.add_argument(
        "--ssl-ca-certs", metavar="FILE", help="who may ask: clients with a certificate of these"
    )
    parser.set_defaults(run=run_serve)


def run_serve(args: argparse.Namespace) -> Printed:
    """Serve until a signal ends it."""
    settings = settings_of(args, os.environ)
    with importing("uvicorn", "modelkit serve"):
        import uvicorn  # noqa: F401 - before a package is opened for nothing
    if settings.workers == 1:
        return [], _serve_alone(settings)
    return [], _serve_together(settings)


def _serve_alone(settings: Settings) -> bool:
    from modelkit.cli import server

    with ExitStack() as held:
        model = held.enter_context(_open_package(settings))
        app = _app_of(model, settings)
        config = server.config_of(app, settings)
        listener = held.enter_context(_listen(settings))
        for signum in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it ends
            signal.signal(signum, signal.SIG_IGN)
        announcement = _announcement(model, listener, settings)
        server.serve_on(listener, config, app.drain, settings.drain, lambda: _say(announcement))
    return True


def _serve_together(settings: Settings) -> bool:
    """Serve with several processes, which divide the CPUs and add up their counts."""
    os.environ["WEB_CONCURRENCY"] = str(settings.workers)
    with ExitStack() as held:
        with _open_package(settings) as model:  # the reason why it cannot be served is told once
            _app_of(model, settings)
            listener = held.enter_context(_listen(settings))
            announcement = _announcement(model, listener, settings)
        if not os.environ.get(FOLDER):
            folder = tempfile.TemporaryDirectory(prefix="modelkit-metrics-")
            os.environ[FOLDER] = held.enter_context(folder)
        workers = Workers(work, settings, listener, lambda: _say(announcement))
        return workers.run()


def work(settings: Settings, listener: socket.socket, tell: Connection) -> None:
    """Serve in one of several processes."""
    from modelkit.cli import server

    try:
        with _open_package(settings) as model:
            app = _app_of(model, settings)
            config = server.config_of(app, settings)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            server.serve_on(
                listener, config, app.drain, settings.drain, lambda: tell.send("started")
            )
    except (ModelkitError, OSError) as error:
        sys.exit(f"modelkit: {printable(str(error))}")


def _open_package(settings: Settings) -> mk.Model:
    return mk.load(settings.package, digest=settings.digest, allow=settings.allow)


def _app_of(model: mk.Model, settings: Settings) -> Any:
    """What answers for a model: it is counted, batched where it can be, and watched if it has a profile."""
    served = layered(model)
    metrics = None
    if find_spec("prometheus_client") is not None:
        metrics = mk.Collector(served).text
    return mk.App({_name_of(model, settings): served}, auth=_auth_of(settings), metrics=metrics)


def _name_of(model: mk.Model, settings: Settings) -> str:
    manifest = model.manifest
    assert manifest is not None  # noqa: S101 - for the type checker: a loaded model has one
    return settings.name or manifest.name


def _auth_of(settings: Settings) -> Any:
    """Who may ask: whoever has a token or a certificate, if any of these are asked for."""
    ways = []
    if settings.tokens is not None:
        ways.append(mk.tokens(read_tokens(settings.tokens)))
    if settings.ca_certs is not None:
        from modelkit.cli.server import certified

        ways.append(certified)
    if not ways:
        return None
    return lambda headers: next(filter(None, (way(headers) for way in ways)), None)


def read_tokens(path: str) -> dict[str, str]:
    """The digests in a file by the names of their holders: one a line, with the name before it.

    Empty lines and those that begin with # are left out. Raises ModelkitError.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        digest = words[-1].removeprefix("sha256:")
        if re.fullmatch("[0-9a-fA-F]{64}", digest) is None or len(words) > 2:
            raise ModelkitError(
                f"{path}, line {number}: a line is a name and the sha256 of a token, as "
                "`printf %s TOKEN | sha256sum` prints it; never the token"
            )
        name = words[0] if len(words) == 2 else f"sha256:{digest[:8]}"
        if name in found:
            raise ModelkitError(f"{path}, line {number}: the name {name!r} stands there twice")
        found[name] = digest
    if not found:
        raise ModelkitError(f"{path} has no token, so nobody could ask")
    return found


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        place = f"{settings.host}, port {settings.port}"
        raise ModelkitError(f"cannot listen on {place}: {error.strerror or error}") from error


def _announcement(model: mk.Model, listener: socket.socket, settings: Settings) -> str:
    manifest = model.manifest
    assert manifest is not None  # noqa: S101 - for the type checker: a loaded model has one
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.certfile else "http"
    address = f"[{host}]" if ":" in host else host
    return f"{manifest.name} {manifest.version} at {scheme}://{address}:{port}"


def _say(line: str) -> None:
    print(printable(line), flush=True)

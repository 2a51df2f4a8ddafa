"""The App: answers HTTP for Models, as an ASGI application without a framework or server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from threading import Thread
from typing import TYPE_CHECKING, final

from modelkit import events
from modelkit._internal import fields
from modelkit._internal.process import watch_forks
from modelkit.errors import ClosedError, UsageError
from modelkit.lifecycle.layered import Opened, check_answers, layered
from modelkit.model.activation import Draining
from modelkit.model.model import Model
from modelkit.model.wrapper import layer_of
from modelkit.package.load import load
from modelkit.serving.guarded import Guarded
from modelkit.serving.metering import requests
from modelkit.web.about import Metrics
from modelkit.web.asgi import AsgiReceive, AsgiRequest, AsgiScope, AsgiSend, Memory, Watchdog
from modelkit.web.auth import Auth
from modelkit.web.edge import Edge
from modelkit.web.endpoint import Deployment, Endpoint
from modelkit.web.json import library
from modelkit.web.query import Limits
from modelkit.web.threads import Threads
from modelkit.web.wsgi import Wsgi, blueprint_of

if TYPE_CHECKING:
    from flask import Blueprint

Servable = Model | str | os.PathLike[str]
_LIMITS = Limits()


@final
class App:
    """Answers HTTP requests for Models: an ASGI application, to be run by any server or mounted.

        app = mk.App({"churn": model}, auth=mk.bearer_tokens({"billing": digest}))  # uvicorn module:app
        api.mount("/ml", app)  # in FastAPI or Starlette

    It speaks the Open Inference Protocol (V2) with its binary extension, and plain JSON; see
    `docs/howto/serve/command.md`. An error is always answered with `{"error": text}`.

    Args:
        models: Models or paths of packages, by the name under which they answer. You close a Model
            that you pass. A path is opened, and put into its layers as by `layered`.
        auth: a function of the headers of a request, by name in small letters. It returns the name
            of the caller, or None for an unknown caller, who gets 401. It may be async; a
            PermissionError that it raises is answered with 403. It is asked before the body is
            read, and for everything but `/v2/health/live` and `/v2/health/ready`. See
            `bearer_tokens`.
        limits: how much a request may use.
        metrics: what gives the body and content type of `/metrics` for an Accept header, such as
            `Collector.text`. Without it this path does not exist.

    Raises:
        UsageError: for no models at all, and for a name that cannot be part of a path.
        TypeError: for an argument of another kind, such as a Model without its name.
        PackageError: for a package that cannot be opened.
        MissingExtraError: if orjson is not installed.
    """

    def __init__(
        self,
        models: Mapping[str, Servable],
        *,
        auth: Auth | None = None,
        limits: Limits = _LIMITS,
        metrics: Metrics | None = None,
    ) -> None:
        library()
        _check_models(models)
        _check_options(auth, limits, metrics)
        self._edge = Edge(_open_all(models), limits, auth, metrics)
        self._watchdogs: dict[asyncio.AbstractEventLoop, Watchdog] = {}
        self._threads = Threads()
        self._memory = Memory(limits.memory)
        watch_forks(self)

    def __repr__(self) -> str:
        return f"<App of {fields.BRIEF.repr(list(self._edge.endpoints))}>"

    # What ASGI calls.

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer a request, or take part in the lifespan of a server."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        edge = self._edge
        request = AsgiRequest(scope, receive, send, edge.limits, self._threads, self._memory)
        requests.begun()
        self._watch(request)
        status = 499
        try:
            reply = await edge.answer(request)
            await request.send(reply, edge.headers(request, reply))
            status = reply.status
        except (OSError, RuntimeError, asyncio.CancelledError) as error:
            if not request.client_left(error):
                raise
        finally:
            request.end()
            edge.ended(request, status)

    def _watch(self, request: AsgiRequest) -> None:
        loop = request.loop
        watchdog = self._watchdogs.get(loop)
        if watchdog is None:
            for other in [*self._watchdogs]:
                if other.is_closed():
                    self._watchdogs.pop(other, None)
            watchdog = self._watchdogs.setdefault(loop, Watchdog(loop, self._edge.requests))
        if not watchdog.running:
            watchdog.start()

    async def _other(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """What is not a request: the lifespan of a server, and WebSockets, which are refused."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        while (message := await receive())["type"] != "lifespan.shutdown":
            if self._edge.closed:
                reason = "the App was closed; make a new one"
                await send({"type": "lifespan.startup.failed", "message": reason})
                return
            await send({"type": message["type"] + ".complete"})
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def lifespan(self, host: object = None) -> AsyncIterator[None]:
        """For an application that this one is mounted in, which gets no lifespan of its own.

            app = mk.App({"churn": "churn.mk"})
            api = FastAPI(lifespan=app.lifespan)

        On the way out it closes the App.
        """
        try:
            yield
        finally:
            await self.aclose()

    # What its owner calls.

    @property
    def in_flight(self) -> int:
        """The number of requests that are being answered now, without those for health."""
        return len(self._edge.requests)

    def replace(self, name: str, newer: Servable) -> None:
        """Let another model answer under a name from now on, once it is loaded and has proven itself.

        It is warmed up and verified by its golden rows, where its package has some, in the thread that
        calls this: on an event loop, `await asyncio.to_thread(app.replace, ...)`. Running calls end
        with the old model. The App closes a model that it opened after its last call.

        Args:
            name: one of the names that the App was made with.
            newer: a Model, which stays yours to close, or the path of a package.

        Raises:
            UsageError: for an unknown name; for the name of a Rollout, which changes its versions
                itself; and for an unguarded model in place of a Guarded.
            ClosedError: if the App, or `newer`, was closed.
            PackageError: if the package cannot be opened, or does not compute what was proven; what
                answered before goes on.
        """
        endpoint = self._edge.endpoints.get(name)
        if endpoint is None:
            names = ", ".join(map(repr, self._edge.endpoints))
            raise UsageError(f"unknown model {name!r}: choose one of {names}")
        with endpoint.replacing:
            if self._edge.closed:
                raise ClosedError("the App was closed")
            before = endpoint.deployment
            if before.rollout is not None:
                raise UsageError(
                    f"{name!r} is a Rollout, which changes its versions itself: use its promote() "
                    "or rollback(), or let the alias of its registry name another version, by "
                    "set_alias()"
                )
            deployment = _opened(newer)
            try:
                _check_guarded(name, before.model, deployment.model)
                check_answers(deployment.model)
            except BaseException:
                deployment.close()
                raise
            draining = endpoint.active.replace(deployment)
        if before.opened is not None:
            Thread(target=_close_drained, args=(before, draining), daemon=True).start()
        events.emit(
            events.Swapped(
                name=name,
                version=deployment.identity.version,
                digest=deployment.identity.digest,
                before_version=before.identity.version,
                before_digest=before.identity.digest,
            )
        )

    @property
    def wsgi(self) -> Callable[..., Iterable[bytes]]:
        """The same App for a server of WSGI, which answers each request on a thread.

        A Batcher then gathers the calls of these threads.
        """
        return Wsgi(self._edge)

    def blueprint(self) -> Blueprint:
        """The same App as a blueprint of Flask: `register_blueprint(..., url_prefix="/ml")`.

        Raises MissingExtraError if flask is not installed.
        """
        return blueprint_of(Wsgi(self._edge))

    def drain(self) -> None:
        """Ask for no more requests, but answer the ones that still come.

        `/v2/health/ready` is 503 from now on, and every answer closes its connection. Call it some
        seconds before the server is stopped, so no request meets a closed socket. `aclose`
        returns when the last request is answered, and `in_flight` says how many there are.
        """
        self._edge.draining = True

    def close(self) -> None:
        """Refuse new requests, answer the running ones, and close what the App opened.

        It waits as long as the App's limit of seconds at most. On an event loop use `aclose`.
        """
        edge = self._edge
        edge.close()
        with ExitStack() as closing:  # of the others although one fails
            closing.callback(self._threads.close)
            for endpoint in edge.endpoints.values():
                closing.callback(endpoint.close)

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def after_fork(self) -> None:
        """Begin without requests and threads in the child of a fork."""
        self._watchdogs = {}
        self._threads = Threads()
        self._memory = Memory(self._edge.limits.memory)
        self._edge.after_fork()


def _check_models(models: Mapping[str, Servable]) -> None:
    if not isinstance(models, Mapping):
        raise TypeError(
            f"an App takes models by name, App({{name: model}}); got {type(models).__name__}"
        )
    if not models:
        raise UsageError("an App serves at least one model: App({name: model})")
    for name in models:
        fits = isinstance(name, str) and name.isprintable() and "/" not in name
        if not fits or name in ("", ".", ".."):  # clients resolve the latter two
            raise UsageError(f"the name of a model is a part of a path, without '/'; got {name!r}")


def _check_options(auth: object, limits: object, metrics: object) -> None:
    """Find now what would fail at the first request."""
    if not (auth is None or callable(auth)):
        raise TypeError(
            "auth is a function of headers, such as mk.bearer_tokens(...); got "
            f"{type(auth).__name__}"
        )
    if not isinstance(limits, Limits):
        raise TypeError(f"limits are a modelkit.types.Limits; got {type(limits).__name__}")
    if not (metrics is None or callable(metrics)):
        raise TypeError(
            "metrics is what answers a scrape, such as modelkit.integrations.prometheus."
            f"Collector(model).text; got {type(metrics).__name__}"
        )


def _open_all(models: Mapping[str, Servable]) -> dict[str, Endpoint]:
    """What answers under each name. Where one cannot be opened, those before it are closed."""
    endpoints: dict[str, Endpoint] = {}
    try:
        for name, model in models.items():
            endpoints[name] = Endpoint(name, _opened(model))
    except BaseException:
        for other in endpoints.values():
            other.close()
        raise
    return endpoints


def _opened(model: Servable) -> Deployment:
    if isinstance(model, Model):
        return Deployment(model, None)
    if isinstance(model, str | os.PathLike):
        opened = Opened(load(model), layered)
        return Deployment(opened.model, opened)
    raise TypeError(f"an App serves Models and paths of packages, not {type(model).__name__}")


def _check_guarded(name: str, before: Model, newer: Model) -> None:
    if layer_of(before, Guarded) is not None and layer_of(newer, Guarded) is None:
        raise UsageError(
            f"what answers as {name!r} is guarded by a policy, and what was passed is not: pass "
            "mk.Guarded(model, policy)"
        )


def _close_drained(deployment: Deployment, draining: Draining) -> None:
    """Close what was replaced when its last call is answered."""
    draining.wait()
    deployment.close()

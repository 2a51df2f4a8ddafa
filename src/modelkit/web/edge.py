"""What an App decides, whatever carries its requests.

`Edge.answer` is the whole way of a request, written once. It waits only for its Transport, which reads
the body and calls the model: that of ASGI suspends there, and that of WSGI blocks, so that `run_now`
runs the same steps without an event loop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from functools import lru_cache, partial
from inspect import isawaitable
from time import monotonic
from typing import final

from numpy import ndarray

from modelkit import events
from modelkit._internal.logs import write_record
from modelkit.errors import ClosedError, Overloaded
from modelkit.lifecycle.rollout.answering import SignedAnswers
from modelkit.model.activation import Activation
from modelkit.model.identity import identity_of
from modelkit.model.model import PLAIN, Call, Model
from modelkit.serving.metering import requests
from modelkit.web import outcomes, plain, v2
from modelkit.web.auth import Auth, TextHeaders, unauthorized
from modelkit.web.body import check_head, inflated
from modelkit.web.formats import BODY_FORMATS, read_query
from modelkit.web.infos import Infos, Metrics
from modelkit.web.json import LONG_BODY
from modelkit.web.query import Limits, Query
from modelkit.web.reply import HeaderList, Headers, Refused, Reply
from modelkit.web.routes import ASKING, HEALTH, Route, route_of
from modelkit.web.serving import Served, Serving
from modelkit.web.statuses import (
    CLOSE,
    failure,
    not_allowed,
    overload,
    refused_by,
    retry_after,
    unavailable,
    written,
)
from modelkit.web.turns import with_turns
from modelkit.web.visit import Transport, Visit, seconds_allowed


@final
class Edge:
    """Answers requests for models.

    Attributes:
        served: the names and what answers under them.
        limits: what a request may take.
        visits: the requests that are answered now.
        draining: whether no more requests should come.
        closed: whether none are answered.
    """

    def __init__(
        self,
        served: Mapping[str, Served],
        limits: Limits,
        auth: Auth | None,
        metrics: Metrics | None,
    ) -> None:
        self.served = served
        self.limits = limits
        self.visits: set[Visit] = set()
        self._placed: set[Visit] = set()
        self.draining = False
        self.closed = False
        self._idle = threading.Event()
        self._auth = auth
        self._infos = Infos(served, metrics)
        self._routes = dict(map(_known, served))

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here. Nothing is run or waited for to know it."""
        if self.draining or self.closed or not self.served:
            return False
        return not any(served.active.now.value.model.closed for served in self.served.values())

    def arrive(self, method: str, path: str, headers: Headers) -> Visit:
        """A request whose head is here. Whoever calls this calls `ended`, whatever happens."""
        requests.begun()
        return Visit(method, path, headers, self.limits.seconds)

    async def answer(self, visit: Visit, transport: Transport) -> Reply:
        """The answer to a request, an error among them."""
        try:
            route = self._routes.get(visit.path) or self._route(visit)
            visit.route = route
            if visit.method not in route.methods:
                raise not_allowed(visit.method, route.methods)
            if route.verb in HEALTH:
                return self._infos.health(route, ready=self.ready)
            self._admit(visit)
            if self._auth is not None:
                await self._authenticate(visit, transport, self._auth)
            if route.methods is ASKING:
                return await self._ask(self._find(route), visit, transport)
            return await self._tell(route, visit, transport)
        except Exception as error:  # the client gets it, and what is ours the log
            return written(self._refused(error, visit))

    def headers(self, visit: Visit, reply: Reply) -> HeaderList:
        """The headers of an answer: its own, its length, and what the App says of itself."""
        length = b"%d" % len(reply.body)
        headers = [*reply.headers, (b"content-length", length)]
        if visit.version:
            headers.append(version_header(visit.version))
        if (self.draining or self.closed) and CLOSE not in headers:
            headers.append(CLOSE)
        return headers

    def ended(self, visit: Visit, status: int) -> None:
        """Count a request that was answered, or whose client left."""
        self.visits.discard(visit)
        self._placed.discard(visit)
        if self.closed and not self.visits:
            self._idle.set()
        seconds = monotonic() - visit.arrived
        route = visit.route
        requests.ended(route.template, status, seconds)
        if events.wanted(events.Handled):
            events.emit(
                events.Handled(
                    route=route.template,
                    method=visit.method,
                    status=status,
                    seconds=seconds,
                    principal=visit.principal,
                    request_id=visit.request_id(),
                    model=route.name if route.name in self.served else "",
                    version=visit.version,
                )
            )

    def close(self) -> None:
        """Refuse requests from now on, and wait for those under way, as long as one may take."""
        self.closed = True
        if self.visits:
            self._idle.wait(self.limits.seconds)

    def after_fork(self) -> None:
        """Begin without requests in the child of a fork."""
        self.visits.clear()
        self._placed.clear()
        self._idle = threading.Event()
        for served in self.served.values():
            served.after_fork()

    def _route(self, visit: Visit) -> Route:
        route = route_of(visit.path)
        if route is None or not self._infos.has(route):
            bare = visit.path.rstrip("/")
            slashed = bare != visit.path and route_of(bare) is not None
            hint = f"is it {bare!r}?" if slashed else "GET /openapi.json names those there are"
            raise Refused(404, f"there is no path {visit.path!r}; {hint}")
        return route

    async def _tell(self, route: Route, visit: Visit, transport: Transport) -> Reply:
        """What is asked by GET."""
        if route.name:
            return self._infos.of_model(route, self._find(route), ready=self.ready)
        accept = visit.headers.get(b"accept", b"").decode("latin-1")
        told = partial(self._infos.of_all, route, accept, visit.root, ready=self.ready)
        return await transport.beside(told)

    def _admit(self, visit: Visit) -> None:
        """Count a request in. Raises Refused where the App is closed."""
        if self.closed:
            raise unavailable("the App is closed")
        self.visits.add(visit)

    def _place(self, visit: Visit) -> None:
        """Count a request whose body is there. Raises Refused where there are too many of them."""
        most = self.limits.requests
        self._placed.add(visit)
        if len(self._placed) > most:
            name = visit.route.name
            served = self.served.get(name)
            plan = None if served is None else served.active.now.value.plan
            message = f"{most:,} requests are being answered, and no more may be"
            raise overload(message, retry_after(most, plan))

    async def _authenticate(self, visit: Visit, transport: Transport, auth: Auth) -> None:
        try:
            principal = auth(TextHeaders(visit.headers))
            if type(principal) is not str and isawaitable(principal):
                principal = await transport.settle(principal)
        except PermissionError as error:
            if error.errno is not None:  # of a file that it reads
                raise
            raise Refused(403, str(error) or "not permitted") from error
        if not (principal is None or isinstance(principal, str)):
            kind = type(principal).__name__
            raise TypeError(f"auth gives the name of a principal, or None; it gave {kind}")
        if not principal:
            raise unauthorized(visit.headers)
        visit.principal = principal

    def _find(self, route: Route) -> Served:
        served = self.served.get(route.name)
        if served is None:
            raise Refused(404, f"there is no model {route.name!r}; GET /v2/models names all")
        if route.version is not None:
            _check_version(route, served.active.now.value.version)
        return served

    async def _ask(self, served: Served, visit: Visit, transport: Transport) -> Reply:
        """Read the body, and have it answered by what answers now.

        What was closed meanwhile by its owner, after another took its place, is not the client's to
        know: the other one is asked.
        """
        most = self._most_bytes(visit)
        check_head(visit.headers, visit.route.verb, most)
        seconds = seconds_allowed(visit.headers)
        if seconds is not None:
            visit.hurry(seconds)
        body = await transport.body(most)
        self._place(visit)
        if b"content-encoding" in visit.headers:
            body = await transport.beside(partial(inflated, body, visit.headers, most))
        activation: Activation[Serving] | None = None
        for last in (False, True):
            activation = served.active.now
            try:
                return await self._ask_one(served.name, activation.value, body, visit, transport)
            except Overloaded as error:
                wait = retry_after(error.queued, activation.value.plan)
                raise overload(str(error), wait) from None
            except ClosedError:
                if last or served.active.now is activation:
                    raise
            finally:
                activation = None  # the traceback of an error would keep it
        raise AssertionError("the second attempt returns or raises")

    def _most_bytes(self, visit: Visit) -> int:
        """The bytes that the body of a request may have."""
        limits = self.limits
        if visit.route.verb == "infer" and v2.LENGTH_HEADER in visit.headers:
            return limits.body
        return min(limits.json, limits.body)

    async def _ask_one(
        self, name: str, serving: Serving, body: bytes, visit: Visit, transport: Transport
    ) -> Reply:
        if visit.route.verb == "outcome":
            take = partial(outcomes.take, name, serving.rollout, body, self.limits)
            return take() if len(body) <= LONG_BODY else await transport.one_by_one(take)
        model = _asked(serving, visit)
        signature = serving.model.signature  # a Rollout may have another one by the time it answers
        query = await read_query(body, visit, signature, self.limits, transport)
        if query.timeout is not None:
            visit.hurry(query.timeout)
        visit.check_time()
        if visit.route.verb == "explain":
            if query.outputs is not signature.output_names:
                raise Refused(
                    400, "an explanation is of the answer as a whole: leave out 'outputs'"
                )
            reply, visit.version = await transport.apart(
                partial(_explain, serving, query, visit.deadline)
            )
            return reply
        call = _call_of(model, query, visit, transport)
        answers = await transport.call(model, query.X, query.outputs, call)
        if isinstance(answers, SignedAnswers):
            visit.version = answers.served_by.version
            if visit.route.version is not None:
                _check_version(visit.route, visit.version)
        visit.check_time()
        write = BODY_FORMATS[visit.route.verb].write
        return await with_turns(write(query, answers, name, visit.version), transport)

    def _refused(self, error: Exception, visit: Visit) -> Refused:
        """What an error is answered with. One that is ours goes to the log."""
        refused = refused_by(error)
        if refused is not None:
            return refused
        request = visit.request_id()
        about = {"event": "failed", "route": visit.route.template, "request_id": request}
        message = f"request {request} to {visit.route.template} failed"
        write_record(logging.ERROR, message, about, error=error)
        return failure(error, request)


def _check_version(route: Route, version: str) -> None:
    """Raise Refused if a path names another version than answers, or there are no versions."""
    told = route.version
    if told != version or not told:
        raise Refused(404, f"{route.name!r} is of version {version!r}, not {told!r}")


def _asked(serving: Serving, visit: Visit) -> Model:
    """The Model that a request asks: where its path names a version, the champion of a Rollout.

    Raises Refused where that is of another version by now.
    """
    model = serving.model
    if visit.route.version is None:
        if serving.rollout is None:
            visit.version = serving.version
        return model
    if serving.rollout is model:
        model = model._for_key(None)  # the champion, whatever it would choose
    _check_version(visit.route, identity_of(model).version)
    visit.version = visit.route.version
    return model


def _known(name: str) -> tuple[str, Route]:
    path = f"/v2/models/{name}/infer"
    return path, Route("/v2/models/{model}/infer", "infer", ASKING, name)


@lru_cache(64)
def version_header(version: str) -> tuple[bytes, bytes]:
    """The header of an answer that says which version gave it."""
    return b"model-version", version.encode("latin-1", "replace")


def _call_of(model: Model, query: Query, visit: Visit, transport: Transport) -> Call:
    """How a query wants to be served.

    A Batcher is quickest with plain calls, so that it does not get the App's own limit for a block of
    numbers, where the transport sees to that and every run ends by itself.
    """
    plain_call = not visit.hurried and query.priority == 0 and query.key is None
    if plain_call and transport.cuts and type(query.X) is ndarray and not model.endless:
        return PLAIN
    return Call(visit.deadline, query.priority, query.key)


def _explain(serving: Serving, query: Query, deadline: float) -> tuple[Reply, str]:
    """The explanation, and the version that it is of."""
    explanation, version = serving.explainers.explain(query.X, query.key, deadline)
    return plain.write_explanation(query, explanation), version

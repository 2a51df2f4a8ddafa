"""What an App decides, whatever carries its requests.

`Edge.answer` is the whole way of a request, written once. It waits for the Request, which reads the
body, and for the model: one of ASGI suspends there, and one of WSGI blocks, so a thread runs the
same steps without an event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from inspect import isawaitable
from time import monotonic
from typing import Any, TypeVar, final

from numpy import ndarray

from modelkit import events
from modelkit._internal.logs import write_record
from modelkit.errors import ClosedError, Overloaded
from modelkit.lifecycle.rollout.answering import SignedAnswers
from modelkit.model.access import acting_as, check_access
from modelkit.model.activation import Activation
from modelkit.model.model import PLAIN, Call, Model
from modelkit.serving.metering import requests
from modelkit.signature.spec import AS_OBJECTS
from modelkit.web import about, instances, invocations, outcomes, plain, texts, v2
from modelkit.web.auth import Auth, TextHeaders, unauthorized
from modelkit.web.endpoint import Deployment, Endpoint, check_version
from modelkit.web.json import LONG_BODY
from modelkit.web.query import KEY_HEADER, Limits, Query, check_letters, with_key
from modelkit.web.replies import (
    CLOSE,
    HeaderList,
    Refused,
    Reply,
    overload,
    refused_by,
    retry_after,
    unavailable,
    written,
)
from modelkit.web.request import PART, Request, at_once, inflated
from modelkit.web.routes import HEALTH, POST, TEXTS, Route, route_of

Fields = Mapping[str, Any]  # of a JSON object
T = TypeVar("T")
# What reads a request and writes its answer, with turns for others where they are long.
_READERS = {
    "infer": v2.read,
    "predict": plain.read,
    "explain": plain.read_to_explain,
    "instances": instances.read,
    "invocations": invocations.read,
}
_WRITERS = {**invocations.WRITERS, "infer": v2.write}
# Bytes of a body from which even its steps hold up an event loop for longer than a thread does,
# which gets a turn every five milliseconds.
_IN_THREAD = 1 << 19


@final
class Edge:
    """Answers requests for models.

    Attributes:
        endpoints: what answers, by its name.
        limits: what a request may take.
        requests: the requests that are answered now.
        draining: whether no more requests should come.
        closed: whether none are answered.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        limits: Limits,
        auth: Auth | None,
        metrics: about.Metrics | None,
    ) -> None:
        self.endpoints = endpoints
        self.limits = limits
        self.requests: set[Request] = set()
        self._with_body: set[Request] = set()
        self.draining = False
        self.closed = False
        self._idle = threading.Event()
        self._auth = auth
        self._metrics = metrics

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here. Nothing is run or waited for to know it."""
        if self.draining or self.closed:
            return False
        return not any(each.deployment.model.closed for each in self.endpoints.values())

    async def answer(self, request: Request) -> Reply:
        """The answer to a request, an error among them. Whoever calls this calls `ended`, whatever happens."""
        try:
            route = self._route(request)
            if route.verb in HEALTH:
                return about.health(route.verb, ready=self.ready)
            if self.closed:
                raise unavailable("the App is closed")
            self.requests.add(request)
            if self._auth is not None:
                await self._authenticate(request, self._auth)
            by_post = route.methods is POST
            answering = self._post(request) if by_post else self._get(route, request)
            if self._auth is None:  # then an App sets no principal
                reply = await answering
            else:
                with acting_as(request.principal):
                    reply = await answering
            if len(reply.body) > PART:
                request.grow(len(reply.body))
            return reply
        except asyncio.CancelledError:
            if request.aborted is None:
                raise
            return written(request.aborted, request.path)
        except Exception as error:  # the client gets it, and what is ours the log
            return written(self._refused(error, request), request.path)

    def headers(self, request: Request, reply: Reply) -> HeaderList:
        """The headers of an answer: its own, its length, and what the App says of itself."""
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
        if request.version:
            headers.append((b"model-version", request.version.encode("latin-1", "replace")))
        if (self.draining or self.closed) and CLOSE not in headers:
            headers.append(CLOSE)
        return headers if request.closes else [each for each in headers if each != CLOSE]

    def ended(self, request: Request, status: int) -> None:
        """Count a request that was answered, or whose client left."""
        self.requests.discard(request)
        self._with_body.discard(request)
        if self.closed and not self.requests:
            self._idle.set()
        seconds = monotonic() - request.arrived
        route = request.route
        requests.ended(route.template, status, seconds)
        if events.wanted(events.Handled):
            events.emit(
                events.Handled(
                    route=route.template,
                    method=request.method,
                    status=status,
                    seconds=seconds,
                    principal=request.principal,
                    request_id=request.request_id(),
                    model=route.name if route.name in self.endpoints else "",
                    version=request.version,
                )
            )

    def close(self) -> None:
        """Refuse requests from now on, and wait for those under way, as long as one may take."""
        self.closed = True
        if self.requests:
            self._idle.wait(self.limits.seconds)

    def after_fork(self) -> None:
        """Begin without requests in the child of a fork."""
        self.requests.clear()
        self._with_body.clear()
        self._idle = threading.Event()
        for endpoint in self.endpoints.values():
            endpoint.after_fork()

    def _route(self, request: Request) -> Route:
        """What a request is for. Raises Refused for a path that there is not, and another method."""
        path = request.path
        route = route_of(path)
        if route is None or (route.verb == "metrics" and self._metrics is None):
            bare = path.rstrip("/")
            slashed = bare != path and route_of(bare) is not None
            hint = f"is it {bare!r}?" if slashed else "GET /openapi.json lists the paths"
            raise Refused(f"there is no path {path!r}; {hint}", 404)
        if route.verb == "invocations" and len(self.endpoints) == 1:
            route = route._replace(name=next(iter(self.endpoints)))
        request.route = route
        if request.method not in route.methods:
            methods = ", ".join(route.methods)
            raise Refused(
                f"{request.method} is not for this path; use {methods}",
                405,
                headers=[(b"allow", methods.encode())],
            )
        return route

    async def _authenticate(self, request: Request, auth: Auth) -> None:
        try:
            principal = auth(TextHeaders(request.headers))
            if type(principal) is not str and isawaitable(principal):
                principal = await request.resolve(principal)
        except PermissionError as error:
            if error.errno is not None:  # of a file that it reads
                raise
            raise Refused(str(error) or "not permitted", 403) from error
        if not (principal is None or isinstance(principal, str)):
            kind = type(principal).__name__
            raise TypeError(f"auth gives the name of a principal, or None; it gave {kind}")
        if not principal:
            raise unauthorized(request.headers)
        request.principal = principal

    def _endpoint(self, route: Route) -> Endpoint:
        endpoint = self.endpoints.get(route.name)
        if not route.name:
            several = f"{len(self.endpoints)} models; ask one at /models/{{model}}/predict"
            raise Refused(f"{route.template} asks an App of one model; this one has {several}", 404)
        if endpoint is None:
            raise Refused(
                f"there is no model {route.name!r:.100}; GET /v2/models lists the models", 404
            )
        if route.version is not None:
            check_version(route, endpoint.deployment.identity.version)
        return endpoint

    async def _get(self, route: Route, request: Request) -> Reply:
        if route.name:
            return about.of_model(route.verb, self._endpoint(route), ready=self.ready)
        if route.verb == "metrics" and self._metrics is not None:
            accept = request.headers.get(b"accept", b"").decode("latin-1")
            work = partial(about.scrape, self._metrics, accept)
        else:
            work = partial(about.of_all, route.verb, self.endpoints, request.root, ready=self.ready)
        return await request.in_thread("general", work)

    async def _post(self, request: Request) -> Reply:
        """Read the body, and have it answered by what answers now.

        What was closed meanwhile by its owner, after another took its place, is not the client's to
        know: the other one is asked.
        """
        route = request.route
        endpoint = None if route.verb in TEXTS else self._endpoint(route)
        body = await self._body(endpoint, request)
        given = None
        if endpoint is None:  # the body names the model
            given = await _parsed(body, partial(texts.parse, body), request)
            models = {name: each.deployment.model for name, each in self.endpoints.items()}
            name = texts.model_name(given, route.verb, models)
            request.route = route._replace(name=name)
            endpoint = self._endpoint(request.route)
        activation: Activation[Deployment] | None = None
        for last in (False, True):
            activation = endpoint.active.now
            try:
                if route.verb == "outcome":
                    return await self._count_outcome(activation.value, body, request)
                if route.verb == "explain":
                    return await self._explain(activation.value, body, request)
                return await self._predict(activation.value, body, given, request)
            except Overloaded as error:
                wait = retry_after(error.queued, activation.value.plan)
                raise overload(str(error), wait) from None
            except ClosedError:
                if last or endpoint.active.now is activation:
                    raise
            finally:
                activation = None  # the traceback of an error would keep it
        raise AssertionError("the second attempt returns or raises")

    async def _body(self, endpoint: Endpoint | None, request: Request) -> bytes:
        """The body of a request, which takes a place from now on. Raises Refused."""
        limits = self.limits
        headers = request.headers
        in_bytes = request.route.verb == "infer" and v2.LENGTH_HEADER in headers
        most = limits.body if in_bytes else min(limits.json, limits.body)
        request.read_head(most)
        body = await request.body(most)
        self._with_body.add(request)
        if len(self._with_body) > limits.requests:
            message = f"{limits.requests:,} requests are being answered, and no more may be"
            plan = None if endpoint is None else endpoint.deployment.plan
            raise overload(message, retry_after(limits.requests, plan))
        if b"content-encoding" in headers:
            body = await request.in_thread("general", partial(inflated, body, headers, most))
        return body

    async def _count_outcome(self, deployment: Deployment, body: bytes, request: Request) -> Reply:
        rollout = deployment.rollout
        if rollout is not None:
            asked = deployment.model._check_access("outcome")
            if self._auth is not None and not asked:  # few of those who may ask may decide
                check_access(lambda *_: outcomes.NO_POLICY, "outcome", deployment.identity)
        take = partial(outcomes.take, request.route.name, rollout, body, self.limits)
        return await _parsed(body, take, request)

    async def _explain(self, deployment: Deployment, body: bytes, request: Request) -> Reply:
        deployment.model_for(request)
        query = await self._read(deployment, body, None, request)
        work = partial(_explained, deployment, query, request.deadline)
        reply, request.version = await request.in_thread("explain", work)
        return reply

    async def _predict(
        self, deployment: Deployment, body: bytes, given: Fields | None, request: Request
    ) -> Reply:
        model = deployment.model_for(request)
        query = await self._read(deployment, body, given, request)
        call = _call_of(model, query, request)
        if request.blocks:
            answers = model._call(query.X, query.outputs, call)
        else:
            answers = await model._acall(query.X, query.outputs, call)
        route = request.route
        if isinstance(answers, SignedAnswers):
            request.version = answers.served_by.version
            if route.version is not None:
                check_version(route, request.version)
        request.check_time()
        write = query.write or _WRITERS[route.verb]
        return await request.in_turns(write(query, answers, route.name, request.version))

    async def _read(
        self, deployment: Deployment, body: bytes, given: Fields | None, request: Request
    ) -> Query:
        """What a body asks, the fields of which may be `given`.

        Raises Refused, and DeadlineExceeded if the time is over.
        """
        model = deployment.model
        limits = self.limits
        size = len(body)
        verb = request.route.verb
        if given is not None:
            read = partial(texts.read, given, verb, model, limits)
            beside = size > texts.LONG_TEXTS
            query = await request.in_thread("general", read) if beside else read()
        else:
            signature = model.signature  # a Rollout may have another one when it answers
            steps = _READERS[verb](body, request.headers, signature, limits)
            if size <= LONG_BODY:
                query = at_once(steps)
            elif size <= _IN_THREAD:
                query = await request.in_turns(steps)
            else:
                query = await request.in_thread("parse", partial(at_once, steps))
            if size > limits.letters and any(spec.dtype in AS_OBJECTS for spec in signature.inputs):
                await request.in_thread("parse", partial(check_letters, query.X, limits))
        if KEY_HEADER in request.headers:
            query = with_key(query, request.headers[KEY_HEADER])
        if query.timeout is not None:
            request.set_timeout(query.timeout)
        request.check_time()
        return query

    def _refused(self, error: Exception, request: Request) -> Refused:
        """What an error is answered with. One that is ours goes to the log."""
        refused = refused_by(error)
        if refused is not None:
            return refused
        name = request.request_id()
        template = request.route.template
        fields = {"event": "failed", "route": template, "request_id": name}
        message = f"request {name} to {template} failed"
        write_record(logging.ERROR, message, fields, error=error)
        return Refused(
            f"{type(error).__name__} while answering; the log has it as request {name}",
            500,
            headers=[(b"x-request-id", name.encode("latin-1", "replace"))],
        )


async def _parsed(body: bytes, work: Callable[[], T], request: Request) -> T:
    """What work makes of a body: of a long one, in the thread for that."""
    return work() if len(body) <= LONG_BODY else await request.in_thread("parse", work)


def _call_of(model: Model, query: Query, request: Request) -> Call:
    """How a query is to be answered.

    A Batcher is quickest with plain calls, so it does not get the App's own limit for a block of
    numbers, where the transport sees to that and every run ends by itself.
    """
    plain_call = not request.has_timeout and query.priority == 0 and query.key is None
    if plain_call and not request.blocks and type(query.X) is ndarray and not model.endless:
        return PLAIN
    return Call(request.deadline, query.priority, query.key)


def _explained(deployment: Deployment, query: Query, deadline: float) -> tuple[Reply, str]:
    """The explanation, and the version that it is of."""
    explanation, version = deployment.explainers.explain(query.X, query.key, deadline)
    return plain.write_explanation(query, explanation), version

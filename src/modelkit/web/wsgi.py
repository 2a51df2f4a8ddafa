"""An App behind a server of WSGI, or as a blueprint of Flask: on the thread of the request.

The thread waits for the answer, so a Batcher gathers the calls of all threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any, final

from modelkit.errors import importing
from modelkit.serving.metering import requests
from modelkit.web.edge import Edge
from modelkit.web.replies import CLOSE, Headers, Refused
from modelkit.web.request import PART, BodyParts, Request, at_once

if TYPE_CHECKING:
    from flask import Blueprint, Response

Environ = dict[str, Any]
StartResponse = Callable[..., object]
# Of a blueprint: the edge says which of them a path takes, in the form of all of its errors.
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@final
class Wsgi:
    """A WSGI application that answers as an App does."""

    __slots__ = ("_edge",)

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        status, headers, body = self.reply(environ, path)
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def reply(self, environ: Environ, path: str) -> tuple[str, list[tuple[str, str]], bytes]:
        """The status line, the headers and the body for a request; `path` is without mount."""
        edge = self._edge
        request = _WsgiRequest(environ, path, edge.limits.seconds)
        requests.begun()
        status = 499
        try:
            reply = at_once(edge.answer(request).__await__())  # it blocks, and never suspends
            status = reply.status
            headers = edge.headers(request, reply)
            if request.principal is not None:
                environ["REMOTE_USER"] = request.principal  # for the access log of the server
        finally:
            edge.ended(request, status)
        texts = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in headers]
        return f"{status} {HTTPStatus(status).phrase}", texts, reply.body


@final
class _WsgiRequest(Request):
    """A request that has a thread of its own, and may block it; the server says what it closes."""

    __slots__ = ("_environ",)

    blocks = True

    def __init__(self, environ: Environ, path: str, seconds: float) -> None:
        whole = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        root = whole.encode("latin-1").decode("utf-8", "replace").removesuffix(path)
        method = environ["REQUEST_METHOD"]
        super().__init__(method, root, path or "/", _headers_of(environ), seconds)
        self._environ = environ

    async def body(self, most: int) -> bytes:
        """The body, counted while it is read. Raises Refused."""
        stream = self._environ["wsgi.input"]
        left = self._length()
        gathered = BodyParts(most)
        while left != 0:
            try:
                part = stream.read(PART if left is None else min(left, PART))
            except Exception as error:  # each server has its own, for chunks and clients that left
                kind = type(error).__name__
                raise Refused(f"the body cannot be read: {kind}", headers=[CLOSE]) from error
            if not part:
                break
            gathered.add(part)
            left = None if left is None else left - len(part)
            if left != 0 and monotonic() >= self.deadline:
                raise Refused("the body of the request did not come in time", 408, headers=[CLOSE])
        if left:
            raise Refused(f"the body ends {left} bytes before its Content-Length")
        return gathered.whole()

    def _length(self) -> int | None:
        """The bytes of the body; None where the server knows the end of it. Raises Refused."""
        length = self._environ.get("CONTENT_LENGTH")
        chunked = "HTTP_TRANSFER_ENCODING" in self._environ
        if self._environ.get("wsgi.input_terminated") and (chunked or not length):
            return None
        if chunked:
            raise Refused("this server cannot read a body in chunks: send a Content-Length", 411)
        length = length or "0"
        if not (length.isascii() and length.isdigit()):
            raise Refused(f"the header Content-Length must be a number, and is {length!r}")
        return int(length.lstrip("0") or "0")  # of thousands of zeros Python makes no number

    async def resolve(self, principal: Awaitable[str | None]) -> str | None:
        """What an async `auth` says, on an event loop of its own."""
        return asyncio.run(super().resolve(principal))


def _headers_of(environ: Environ) -> Headers:
    headers = {}
    for key, value in environ.items():
        name = key.removeprefix("HTTP_")
        if name != key or (key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value):
            headers[name.replace("_", "-").lower().encode("latin-1")] = value.encode("latin-1")
    return headers


def blueprint_of(wsgi: Wsgi) -> Blueprint:
    """A blueprint that answers all paths below its `url_prefix`.

    Raises MissingExtraError if flask is not installed.
    """
    with importing("flask", "App.blueprint()"):
        from flask import Blueprint, Response, request

    def answer(path: str = "") -> Response:
        status, headers, body = wsgi.reply(request.environ, f"/{path}")
        return Response(body, status, headers)

    blueprint = Blueprint("modelkit", __name__)
    for rule in ("/", "/<path:path>"):
        blueprint.add_url_rule(
            rule, "answer", answer, methods=_METHODS, provide_automatic_options=False
        )
    return blueprint

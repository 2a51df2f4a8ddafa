"""Answers to HTTP requests, as values: which error has which status, and how an error is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple, final

from modelkit.errors import (
    AdditivityError,
    ClosedError,
    ExplainError,
    MissingExtraError,
    ModelkitError,
    SignatureError,
)
from modelkit.serving.batching.policy import BatchPlan, seconds_of

Headers = dict[bytes, bytes]  # of a request, by name in small letters
HeaderList = Sequence[tuple[bytes, bytes]]  # of an answer
JSON = (b"content-type", b"application/json")  # exactly: clients compare it
SOON = b"1"
LONGEST_WAIT = 30  # seconds: the most that an answer asks a client to wait
CLOSE = (b"connection", b"close")
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}  # OpenAI's


class Reply(NamedTuple):
    """A whole answer: body, headers (without the length of the body), and status."""

    body: bytes
    headers: HeaderList = (JSON,)
    status: int = 200


@final
class Refused(Exception):  # the way a request ends, not a failure of ours
    """A request that is answered with an error.

    Attributes:
        message: what was wrong, with which value, and what to do.
        status: the HTTP status, 400 to 599.
        problems: everything that was wrong with the rows; empty where the message says it all.
        headers: further headers of the answer, such as Retry-After.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        problems: tuple[str, ...] = (),
        headers: HeaderList = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.problems = problems
        self.headers = headers


def retry_after(rows: int, plan: BatchPlan | None) -> bytes:
    """The header Retry-After, in seconds from 1 to 30: when the rows that wait will be answered."""
    if plan is None or not plan.curve:
        return SOON
    largest = max(size for size, _ in plan.curve)
    seconds = rows * seconds_of(plan.curve, largest) / largest
    return b"%d" % ceil(min(LONGEST_WAIT, max(1, seconds)))


def overload(message: str, wait: bytes) -> Refused:
    """The answer to a request for which there is no room: 503 would count against the host."""
    return Refused(message, 429, headers=[(b"retry-after", wait)])


def unavailable(message: str) -> Refused:
    """The answer of an App, or a model, that is closed or closing."""
    return Refused(message, 503, headers=[(b"retry-after", SOON)])


def refused_by(error: Exception) -> Refused | None:
    """How an error that has a meaning for the client is answered; None for a failure of ours.

    The client gets the text of an error that is ours; any other text may be meant for nobody.

    Overloaded is not here, since the time to wait depends on the model.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, SignatureError):
        return Refused(str(error), 422, problems=error.problems)
    ours = str(error) if isinstance(error, ModelkitError) else ""
    if isinstance(error, PermissionError) and error.errno is None:  # not one of a file
        return Refused(ours or "not permitted", 403)
    if isinstance(error, TimeoutError):
        return Refused(ours or "the deadline passed before the answer came", 504)
    if isinstance(error, ClosedError):
        return unavailable(str(error))
    if isinstance(error, MissingExtraError):
        return Refused(str(error), 501)
    if isinstance(error, ExplainError) and not isinstance(error, AdditivityError):
        return Refused(str(error), 422)
    return None


def written(refused: Refused, path: str = "") -> Reply:
    """An error as it is answered: `{"error": text}`, and `problems` where there are.

    Below /v1/ it has the form that clients of OpenAI read; those of TEI read `error_type` too, and
    those of Cohere `message`.
    """
    status = refused.status
    body: dict[str, object] = {"error": refused.message}
    if path.endswith("/rerank"):
        body["message"] = refused.message
    elif path.startswith("/v1/"):
        status = 400 if status == 422 else status
        body["error"] = {
            "message": refused.message,
            "type": "server_error" if status >= 500 else "invalid_request_error",
            "param": None,
            "code": _CODES.get(status),
        }
    elif refused.problems:
        body["problems"] = refused.problems
    if path in ("/embed", "/rerank"):
        kind = "Backend" if status >= 500 else "Validation"
        body["error_type"] = "Overloaded" if status == 429 else kind
    return Reply(json.dumps(body).encode(), (JSON, *refused.headers), status)

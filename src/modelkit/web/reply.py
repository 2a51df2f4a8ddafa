"""Answers to HTTP requests, as values."""

from __future__ import annotations

from typing import NamedTuple, final

Headers = dict[bytes, bytes]  # of a request, by name in small letters
HeaderList = list[tuple[bytes, bytes]]  # of an answer
JSON = (b"content-type", b"application/json")  # exactly: clients compare it


class Reply(NamedTuple):
    """A whole answer: status, headers (without the length of the body), and body."""

    status: int
    headers: HeaderList
    body: bytes


@final
class Refused(Exception):  # the way a request ends, not a failure of ours
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status, 400 to 599.
        message: what was wrong, with which value, and what to do.
        problems: everything that was wrong with the rows; empty where the message says it all.
        headers: further headers of the answer, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        problems: tuple[str, ...] = (),
        headers: HeaderList | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.problems = problems
        self.headers = headers or []

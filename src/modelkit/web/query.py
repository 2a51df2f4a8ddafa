"""What a request asks of a Model, as a value; and the limits it is read under."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, final

from modelkit.errors import UsageError


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take.

    Attributes:
        body: the bytes of a body, inflated or not.
        json: the bytes of it that may be JSON, since Python runs nothing else while JSON is parsed.
        rows: the rows of a request.
        requests: the requests that are answered at once.
        seconds: the time from the arrival of a request's head to its answer; an answer may take as
            long again to be taken.
        memory: the bytes that the long bodies and answers of all requests take together.
        letters: the letters of a text.

    Raises UsageError for anything but whole numbers of 1 or more, and seconds above 0.
    """

    body: int = 8 << 20
    json: int = 2 << 20
    rows: int = 10_000
    requests: int = 1024
    seconds: float = 30.0
    memory: int = 256 << 20
    letters: int = 1 << 18

    def __post_init__(self) -> None:
        counts = {
            "body": self.body,
            "json": self.json,
            "rows": self.rows,
            "requests": self.requests,
            "memory": self.memory,
            "letters": self.letters,
        }
        for name, count in counts.items():
            if type(count) is not int or count < 1:
                raise UsageError(f"Limits.{name} is a whole number of 1 or more; got {count!r}")
        seconds = self.seconds
        if type(seconds) not in (int, float) or not 0 < seconds < inf:
            raise UsageError(f"Limits.seconds is a number above 0; got {seconds!r}")


@final
class Query(NamedTuple):
    """What a request asks of a Model.

    Attributes:
        X: the rows, as `Signature.coerce` takes them.
        outputs: the names of the outputs wanted.
        timeout: seconds that the body of the request gives the answer, or None.
        priority: 0, or -1 for work that may wait.
        key: what a rollout routes by, or None.
        id: what the caller calls the request, or None.
        binary: the outputs that are wanted as bytes behind the JSON.
    """

    X: Any
    outputs: tuple[str, ...]
    timeout: float | None = None
    priority: int = 0
    key: str | None = None
    id: str | None = None
    binary: frozenset[str] = frozenset()

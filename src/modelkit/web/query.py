"""What a request asks of a Model, as a value; and the limits it is read under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, final


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take.

    Attributes:
        body: the bytes of a body, inflated or not.
        rows: the rows of a request.
        requests: the requests that are answered at once.
        seconds: the time from the arrival of a request's head to its answer.
    """

    body: int = 8 << 20
    rows: int = 10_000
    requests: int = 1024
    seconds: float = 30.0


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

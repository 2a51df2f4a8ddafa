"""What a request asks of a Model: its rows, and in every format which outputs, by when and for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, final

from numpy import ndarray

from modelkit._internal.fields import check_integer
from modelkit.errors import UsageError
from modelkit.signature.signature import Signature
from modelkit.web.json import quoted, shown
from modelkit.web.replies import Refused, Reply
from modelkit.web.request import Turns

KEY_HEADER = b"x-key"
SPARE_NAMES = 1000  # of columns that a model does not read
NONE: frozenset[str] = frozenset()


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
        for name in ("body", "json", "rows", "requests", "memory", "letters"):
            check_integer(f"Limits.{name}", getattr(self, name), 1)
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
        write: what writes the answer, where the path alone does not say it: of a Query, the outputs
            by name, and the name and version of the model.
    """

    X: Any
    outputs: tuple[str, ...]
    timeout: float | None = None
    priority: int = 0
    key: str | None = None
    id: str | None = None
    binary: frozenset[str] = NONE
    write: Callable[..., Turns[Reply]] | None = None


def query_of(
    X: Any,
    outputs: tuple[str, ...],
    options: Mapping[str, Any],
    unit: float,
    binary: frozenset[str] = NONE,
) -> Query:
    """What a request with these rows and options asks. Raises Refused, 400.

    `unit` is the unit of its timeout, in seconds.
    """
    timeout = None
    priority = 0
    key = None
    if "timeout" in options:
        given = options["timeout"]
        if type(given) not in (int, float) or not 0 < given < inf:
            kind = "seconds" if unit == 1 else "microseconds"
            raise Refused(f"timeout is {shown(given)}; send a number of {kind} above 0")
        timeout = float(given) * unit
    if "priority" in options:
        priority = options["priority"]
        if type(priority) is not int or priority not in (0, -1):
            raise Refused(f"priority is {shown(priority)}; it is 0, or -1 for work that may wait")
    if "key" in options:
        key = read_text(options, "key")
    return Query(X, outputs, timeout, priority, key, None, binary)


def read_text(options: Mapping[str, Any], name: str) -> str:
    """A text: the key that a rollout routes by, or what the caller calls the request. Raises Refused, 400."""
    value = options[name]
    if type(value) is str:
        return value
    raise Refused(f"{name} is {shown(value)}; send a string")


def with_key(query: Query, header: bytes) -> Query:
    """A query with the key of the header X-Key, for a body that cannot hold one.

    Raises Refused, 400, where both have one, and these differ.
    """
    try:
        key = header.decode()
    except UnicodeDecodeError:
        raise Refused(f"the header X-Key is {header[:80]!r}; it is text in UTF-8") from None
    if query.key is None:
        return query._replace(key=key)
    if query.key != key:
        raise Refused(
            f"the header X-Key is {shown(key)}, and the key in the body {shown(query.key)}"
        )
    return query


def check_rows(rows: int, limits: Limits) -> None:
    """Raise Refused, 413, for too many rows."""
    if rows > limits.rows:
        raise Refused(f"{rows} rows are more than the {limits.rows} that a request may have", 413)


def check_letters(X: Any, limits: Limits) -> None:
    """Raise Refused, 413, for rows with a text that is too long."""
    waiting = [X]
    while waiting:
        value = waiting.pop()
        if type(value) is str and len(value) > limits.letters:
            raise Refused(
                f"a text of {len(value):,} letters is longer than the {limits.letters:,} that a text "
                "may have; send the part of it that matters",
                413,
            )
        if isinstance(value, ndarray):
            waiting += value.flat if value.dtype == object else ()
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def check_width(count: int, names: Sequence[str]) -> None:
    """Raise Refused, 400, for far more columns than a model has: to name each takes long."""
    if count > 2 * len(names) + SPARE_NAMES:
        raise Refused(f"{count} names are too many for a model that takes {len(names)}")


def check_output_names(names: Iterable[str], signature: Signature) -> tuple[str, ...]:
    """Names of outputs. Raises Refused, 400, for unknown ones, and for one that stands twice."""
    found = tuple(names)
    for name in found:
        if name not in signature.output_names:
            known = list(signature.output_names)
            raise Refused(f"the model lacks an output {quoted(name)}; its outputs are {known}")
    if len(found) > 1 and len(set(found)) < len(found):
        raise Refused("an output stands twice in the list of outputs")
    return found


def check_known(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise Refused, 400, for an unknown field."""
    strange = [name for name in given if name not in known]
    if strange:
        raise Refused(f"no field {quoted(strange[0])} is known: {what} takes {list(known)}")


def refuse_values(problems: list[str]) -> None:
    """Raise Refused, 422, if there are problems."""
    if problems:
        raise Refused("; ".join(problems), 422, problems=tuple(problems))

"""What both formats of requests have beside the rows: which outputs, by when, for whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from numpy import ndarray

from modelkit.signature.signature import Signature
from modelkit.web.json import quoted, shown
from modelkit.web.query import Limits, Query
from modelkit.web.replies import Headers, Refused

KEY_HEADER = b"x-key"
PRIORITIES = (0, -1)
NO_PARAMETERS: dict[str, Any] = {}
# What Triton's extensions ask for and no Model does; other parameters are the client's own.
UNSUPPORTED = (
    "classification",
    "sequence_end",
    "sequence_id",
    "sequence_start",
    "shared_memory_byte_size",
    "shared_memory_offset",
    "shared_memory_region",
)
SPARE_NAMES = 1000  # of columns that a model does not read


def check_rows(rows: int, limits: Limits) -> None:
    """Raise Refused, 413, for too many rows."""
    if rows > limits.rows:
        raise Refused(413, f"{rows} rows are more than the {limits.rows} that a request may have")


def check_letters(X: Any, limits: Limits) -> None:
    """Raise Refused, 413, for rows with a text that is too long."""
    waiting = [X]
    while waiting:
        value = waiting.pop()
        if type(value) is str and len(value) > limits.letters:
            raise Refused(
                413,
                f"a text of {len(value):,} letters is longer than the {limits.letters:,} that a text "
                "may have; send the part of it that matters",
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
        raise Refused(400, f"{count} names are too many for a model that takes {len(names)}")


def check_output_names(names: Iterable[str], signature: Signature) -> tuple[str, ...]:
    """Names of outputs. Raises Refused, 400, for unknown ones, and for one that stands twice."""
    found = tuple(names)
    for name in found:
        if name not in signature.output_names:
            known = list(signature.output_names)
            raise Refused(400, f"there is no output {quoted(name)}; there are {known}")
    if len(found) > 1 and len(set(found)) < len(found):
        raise Refused(400, "an output stands twice in the list of outputs")
    return found


def check_known(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise Refused, 400, for an unknown field."""
    strange = [name for name in given if name not in known]
    if strange:
        raise Refused(400, f"{what} has no field {quoted(strange[0])}; there are {list(known)}")


def read_parameters(holder: Mapping[str, Any]) -> dict[str, Any]:
    """The `parameters` of a request, an input or an output of V2. Raises Refused, 400."""
    parameters = holder.get("parameters")
    if parameters is None:
        return NO_PARAMETERS
    if type(parameters) is not dict:
        raise Refused(400, f"parameters are {shown(parameters)}, and an object is expected")
    for name in UNSUPPORTED:
        if name in parameters:
            raise Refused(400, f"the parameter {name!r} asks for what no model here does")
    return parameters


def read_truth(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """A parameter that is true or false. Raises Refused, 400, for another."""
    value = parameters.get(name, default)
    if type(value) is bool:
        return value
    raise Refused(400, f"the parameter {name!r} is {shown(value)}; it is true or false")


def read_timeout(options: Mapping[str, Any], unit: float) -> float:
    """Seconds, of a `timeout` in units. Raises Refused, 400."""
    value = options["timeout"]
    if type(value) in (int, float) and isfinite(value) and value > 0:
        return float(value) * unit
    kind = "seconds" if unit == 1 else "microseconds"
    raise Refused(400, f"timeout is {shown(value)}; it is a number of {kind} above 0")


def read_priority(options: Mapping[str, Any]) -> int:
    """A priority. Raises Refused, 400."""
    value = options["priority"]
    if type(value) is int and value in PRIORITIES:
        return value
    raise Refused(400, f"priority is {shown(value)}; it is 0, or -1 for work that may wait")


def with_key(query: Query, headers: Headers) -> Query:
    """A query with the key of the header X-Key, for a body that has no place for one.

    Raises Refused, 400, where both have one, and these differ.
    """
    header = headers.get(KEY_HEADER)
    if header is None:
        return query
    try:
        key = header.decode()
    except UnicodeDecodeError:
        raise Refused(400, f"the header X-Key is {header[:80]!r}; it is text in UTF-8") from None
    if query.key is None:
        return query._replace(key=key)
    if query.key != key:
        raise Refused(
            400, f"the header X-Key is {shown(key)}, and the key in the body {shown(query.key)}"
        )
    return query


def read_text(options: Mapping[str, Any], name: str) -> str:
    """A text: the key that a rollout routes by, or what the caller calls the request. Raises Refused, 400."""
    value = options[name]
    if type(value) is str:
        return value
    raise Refused(400, f"{name} is {shown(value)}; it is a string")


def refuse_values(problems: list[str]) -> None:
    """Raise Refused, 422, if there are problems."""
    if problems:
        raise Refused(422, "; ".join(problems), problems=tuple(problems))

"""What both formats of requests have beside the rows: which outputs, by when, for whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

from modelkit.signature import Signature
from modelkit.web.json import shown
from modelkit.web.query import Limits
from modelkit.web.reply import Headers, Refused

USUAL_TYPES = (b"application/json", b"application/octet-stream")
PRIORITIES = (0, -1)


def check_type(headers: Headers) -> None:
    """Raise Refused, 415, for content that is said to be another than JSON in UTF-8 or bytes."""
    content = headers.get(b"content-type", USUAL_TYPES[0])
    if content in USUAL_TYPES:
        return
    kind, *options = [part.strip().lower() for part in content.split(b";")]
    is_json = kind in USUAL_TYPES or (kind.startswith(b"application/") and kind.endswith(b"+json"))
    charsets = [part for part in options if part.startswith(b"charset=")]
    if is_json and all(part.strip(b' "').endswith((b"utf-8", b"utf8")) for part in charsets):
        return
    raise Refused(
        415,
        f"the content is {content[:80]!r}; send JSON in UTF-8, as Content-Type: application/json",
    )


def check_rows(rows: int, limits: Limits) -> None:
    """Raise Refused, 413, for too many rows."""
    if rows > limits.rows:
        raise Refused(413, f"{rows} rows are more than the {limits.rows} that a request may have")


def check_output_names(names: Iterable[str], signature: Signature) -> tuple[str, ...]:
    """Names of outputs. Raises Refused, 400, for unknown ones, and for one that stands twice."""
    found = tuple(names)
    for name in found:
        if name not in signature.output_names:
            known = list(signature.output_names)
            raise Refused(400, f"there is no output {shown(name)}; there are {known}")
    if len(set(found)) < len(found):
        raise Refused(400, f"an output stands twice among {list(found)}")
    return found


def check_known(
    given: Iterable[str],
    known: Iterable[str],
    what: str,
) -> None:
    """Raise Refused, 400, for a field that nobody reads."""
    strange = [name for name in given if name not in known]
    if strange:
        raise Refused(400, f"{what} has no field {shown(strange[0])}; there are {list(known)}")


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


def read_key(options: Mapping[str, Any]) -> str:
    """What a rollout routes by. Raises Refused, 400."""
    return _text(options, "key")


def read_id(options: Mapping[str, Any]) -> str:
    """What the caller calls the request. Raises Refused, 400."""
    return _text(options, "id")


def _text(options: Mapping[str, Any], name: str) -> str:
    value = options[name]
    if type(value) is str:
        return value
    raise Refused(400, f"{name} is {shown(value)}; it is a string")


def refuse_values(problems: list[str]) -> None:
    """Raise Refused, 422, if there are problems."""
    if problems:
        raise Refused(422, "; ".join(problems), problems=tuple(problems))

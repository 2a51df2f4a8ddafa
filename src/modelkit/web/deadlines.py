"""By when a request is to be answered: the least of what its headers, its body and the App say."""

from __future__ import annotations

from math import isfinite

from modelkit.web.reply import Headers, Refused

# The headers that tell it, with the seconds of their unit.
_UNITS = ((b"request-timeout", 1.0), (b"x-envoy-expected-rq-timeout-ms", 1e-3))


def seconds_allowed(headers: Headers) -> float | None:
    """The seconds from its arrival that the headers of a request give its answer, if they do.

    Raises Refused for a header that is not a positive number.
    """
    least = None
    for name, unit in _UNITS:
        told = headers.get(name)
        if told is None:
            continue
        seconds = _positive(name, told) * unit
        if least is None or seconds < least:
            least = seconds
    return least


def _positive(name: bytes, told: bytes) -> float:
    try:
        number = float(told)
    except ValueError:
        number = 0.0
    if number > 0 and isfinite(number):
        return number
    text = told.decode("latin-1")
    raise Refused(400, f"the header {name.decode()} must be a number above 0, and is {text!r}")

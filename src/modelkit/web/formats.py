"""The format of a request and its answer, by what the path asks for; long ones are read in turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from modelkit.model.model import Outputs
from modelkit.signature.signature import Signature
from modelkit.signature.spec import AS_OBJECTS
from modelkit.web import instances, plain, v2
from modelkit.web.json import LONG_BODY
from modelkit.web.options import check_letters, with_key
from modelkit.web.query import Limits, Query
from modelkit.web.reply import Headers, Reply
from modelkit.web.request import Request
from modelkit.web.turns import Turns, at_once, with_turns


class Format(NamedTuple):
    """What reads a request and writes its answer, with turns for others where they are long."""

    read: Callable[[bytes, Headers, Signature, Limits], Turns[Query]]
    write: Callable[[Query, Outputs, str, str], Turns[Reply]]


_PLAIN = Format(plain.read, plain.write)
BODY_FORMATS = {
    "infer": Format(v2.read, v2.write),
    "predict": _PLAIN,
    "explain": _PLAIN,
    "instances": Format(instances.read, instances.write),
}
# Bytes of a body from which even its steps hold up an event loop for longer than a thread does,
# which gets a turn every five milliseconds.
_IN_THREAD = 1 << 19


async def read_query(body: bytes, request: Request, signature: Signature, limits: Limits) -> Query:
    """What a body asks. Raises Refused, and DeadlineExceeded if the time is over."""
    steps = BODY_FORMATS[request.route.verb].read(body, request.headers, signature, limits)
    if len(body) <= LONG_BODY:
        query = at_once(steps)
    elif len(body) <= _IN_THREAD:
        query = await with_turns(steps, request)
    else:
        query = await request.one_by_one(partial(at_once, steps))
    if len(body) > limits.letters and any(spec.dtype in AS_OBJECTS for spec in signature.inputs):
        await request.one_by_one(partial(check_letters, query.X, limits))
    query = with_key(query, request.headers)
    if query.timeout is not None:
        request.hurry(query.timeout)
    request.check_time()
    return query

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
from modelkit.web.steps import Turns, with_turns

Reading = Callable[[bytes, Headers, Signature, Limits], Query]
ReadingInTurns = Callable[[bytes, Headers, Signature, Limits], Turns[Query]]
Writing = Callable[[Query, Outputs, str, str], Reply]
WritingInTurns = Callable[[Query, Outputs, str, str], Turns[Reply]]


class Format(NamedTuple):
    """What reads a request and writes its answer, each at once, or in steps where they are long."""

    read: Reading
    read_in_steps: ReadingInTurns | None
    write: Writing
    write_in_steps: WritingInTurns


_PLAIN = Format(plain.read, plain.read_in_steps, plain.write, plain.write_in_steps)
BODY_FORMATS = {
    "infer": Format(v2.read, v2.read_in_steps, v2.write, v2.write_in_steps),
    "predict": _PLAIN,
    "explain": _PLAIN,
    "instances": Format(instances.read, None, instances.write, instances.write_in_steps),
}
# Bytes of a body from which even its steps hold up an event loop for longer than a thread does,
# which gets a turn every five milliseconds.
_IN_THREAD = 1 << 19


async def read_query(body: bytes, request: Request, signature: Signature, limits: Limits) -> Query:
    """What a body asks. Raises Refused, and DeadlineExceeded if the time is over."""
    format_ = BODY_FORMATS[request.route.verb]
    asked = (body, request.headers, signature, limits)
    if len(body) <= LONG_BODY:
        query = format_.read(*asked)
    elif format_.read_in_steps is not None and len(body) <= _IN_THREAD:
        query = await with_turns(format_.read_in_steps(*asked), request)
    else:
        query = await request.one_by_one(partial(format_.read, *asked))
    if len(body) > limits.letters and any(spec.dtype in AS_OBJECTS for spec in signature.inputs):
        await request.one_by_one(partial(check_letters, query.X, limits))
    query = with_key(query, request.headers)
    if query.timeout is not None:
        request.hurry(query.timeout)
    request.check_time()
    return query

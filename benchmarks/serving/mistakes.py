"""What requests with a mistake get: the status, and whether the answer names what is wrong."""

import json
from typing import NamedTuple

from benchmarks.serving.servers import V2, Running

GOOD = [1.5] * 30


class Mistake(NamedTuple):
    """A request, and words of which the reason for its refusal has one; a good request has none."""

    request: dict
    reasons: tuple[str, ...]


def tensor(**changed: object) -> dict:
    return {"name": "X", "shape": [1, 30], "datatype": "FP32", "data": GOOD} | changed


def request(**changed: object) -> dict:
    return {"id": "1", "inputs": [tensor()]} | changed


MISTAKES = {
    "no id, which is optional": Mistake({"inputs": [tensor()]}, ()),
    "shape [2, 30] for 30 values": Mistake(request(inputs=[tensor(shape=[2, 30])]), ("shape",)),
    "29 of 30 columns": Mistake(
        request(inputs=[tensor(shape=[1, 29], data=GOOD[:29])]),
        ("30", "shape", "column", "dimension"),
    ),
    "a string in FP32": Mistake(
        request(inputs=[tensor(data=["a", *GOOD[1:]])]), ('"a"', "'a'", "string")
    ),
    "inputs: []": Mistake(request(inputs=[]), ("inputs",)),
    "1.7 as INT64": Mistake(
        request(inputs=[tensor(datatype="INT64", data=[1.7] * 30)]), ("1.7", "INT64", "integer")
    ),
    "null in FP32": Mistake(
        request(inputs=[tensor(data=[None, *GOOD[1:]])]), ("null", "None", "missing")
    ),
    "shape [-1, 30]": Mistake(request(inputs=[tensor(shape=[-1, 30])]), ("shape", "-1")),
    "an unknown output": Mistake(request(outputs=[{"name": "nope"}]), ("nope",)),
    "a wrong tensor name": Mistake(request(inputs=[tensor(name="Y")]), ("Y",)),
    "an unknown datatype": Mistake(
        request(inputs=[tensor(datatype="FLOAT")]), ("FLOAT", "datatype")
    ),
}


def cell(server: Running, mistake: Mistake) -> str:
    """The status, and what to think of it."""
    status, body = server.ask(json.dumps(mistake.request).encode(), V2)
    if not mistake.reasons:
        return f"{status}" if status == 200 else f"**{status}**"
    if status == 200:
        return "**200: answered**"
    told = body.decode(errors="replace")
    said = any(word in told for word in mistake.reasons)
    kind = "" if is_error(body) else ", no JSON error"
    right = status in (400, 422) and said
    text = f"{status}{': reason' if said else ': no reason'}{kind}"
    return text if right else f"**{text}**"


def is_error(body: bytes) -> bool:
    """Whether a client of the protocol finds a text under "error"."""
    try:
        return isinstance(json.loads(body)["error"], str)
    except (ValueError, KeyError, TypeError):
        return False

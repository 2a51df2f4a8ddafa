"""What both formats of answers have in common: arrays as JSON has them, and writing in steps."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from modelkit.cast import Array
from modelkit.jsonable import to_plain
from modelkit.web import json
from modelkit.web.reply import Refused, Reply

Steps = Generator[None, None, Reply]


def finish(steps: Steps) -> Reply:
    """What steps end with."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        reply: Reply = end.value
        return reply


def plain_array(values: Array) -> Array:
    """An output without times: points in time as texts of ISO 8601, spans as seconds."""
    kind = values.dtype.kind
    if kind == "m":
        return np.asarray(values / np.timedelta64(1, "s"))
    if kind != "M":
        return values
    texts = np.empty(values.size, object)
    texts[:] = to_plain(values.reshape(-1))
    return texts.reshape(values.shape)


def check_finite(values: Array, name: str) -> None:
    """Raise Refused, 406, for an output with an infinity, which JSON has no number for."""
    if values.dtype.kind == "f" and json.has_infinity(values):
        raise Refused(
            406,
            f"the output {name!r} holds an infinity, and JSON has no number for it: ask for the "
            "output as bytes (/v2/models/.../infer, with binary_data among its parameters)",
        )

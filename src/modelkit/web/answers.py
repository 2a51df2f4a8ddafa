"""What both formats of answers have in common: arrays as JSON has them, and encoding in steps."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.json import to_plain
from modelkit.web import json
from modelkit.web.reply import Refused, Reply

Steps = Generator[None, None, Reply]
Encoded = Mapping[str, Any]
NOTHING: Encoded = {}


def encode_long(
    names: Iterable[str], answers: Mapping[str, Array], *, flat: bool
) -> Generator[None, None, Encoded]:
    """Encode those of the named outputs that are long, by name; it yields about once a millisecond.

    Raises Refused, 406, for an infinity.
    """
    encoded = {}
    for name in names:
        if json.is_long(answers[name]):
            values = plain_array(answers[name])
            check_finite(values, name)
            encoded[name] = yield from json.encode(values.reshape(-1) if flat else values)
    return encoded


def has_long(answers: Mapping[str, Array]) -> bool:
    """Whether one of the outputs is to be encoded in steps."""
    return any(map(json.is_long, answers.values()))


def dump_finite(
    answer: Mapping[str, Any], names: Iterable[str], answers: Mapping[str, Array]
) -> bytes:
    """An answer as JSON, in which there are these outputs.

    Raises Refused, 406, for an infinity.
    """
    data = json.dump(answer)
    if json.may_hold_null(data):
        for name in names:
            check_finite(answers[name], name)
    return data


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
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise Refused(
            406,
            f"the output {name!r} holds an infinity, and JSON has no number for it: ask for the "
            "output as bytes (/v2/models/.../infer, with binary_data among its parameters)",
        )

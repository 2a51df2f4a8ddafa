"""Values as JSON and back. JSON has no NaN and no infinity: these are {"number": "nan"} and so on."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

import numpy as np


def parse_json(text: str) -> Any:
    """The value of a strict JSON text.

    Raises ValueError for a key that stands twice, for NaN and infinities, and for numbers beyond
    the range of a float64.
    """
    return json.loads(
        text,
        object_pairs_hook=_distinct_keys,
        parse_constant=_no_constant,
        parse_float=_finite_number,
    )


def parse_record(text: str, schema: str) -> dict[str, Any]:
    """The values of a strict JSON object that names its schema, as `from_plain` gives them.

    Raises ValueError for any other text.
    """
    try:
        plain = from_plain(parse_json(text))
    except RecursionError:
        raise ValueError("the text has too many lists and objects within each other") from None
    if not isinstance(plain, dict) or plain.pop("schema", None) != schema:
        raise ValueError(f"this is no record of {schema}")
    return plain


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        raise ValueError(f"a key appears twice among {[key for key, _ in pairs]}")
    return plain


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _finite_number(text: str) -> float:
    number = float(text)
    if not isfinite(number):  # Python takes 1e999 for infinity
        raise ValueError(f"{text:.40} is beyond the largest number")
    return number


def to_plain(value: Any) -> Any:
    """Arrays, tuples and numbers as values that JSON has."""
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, np.generic) and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not isfinite(value):
        return {"number": str(value)}
    return value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`, with lists for arrays and tuples."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"number"} and isinstance(value["number"], str):
        return float(value["number"])
    return {name: from_plain(item) for name, item in value.items()}

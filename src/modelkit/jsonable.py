"""Values as JSON, and back: JSON has no NaN and no infinity, so such a number is written as {"number": "nan"}."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

import numpy as np


def parse_json(text: str) -> Any:
    """What strict JSON holds.

    Raises ValueError for a key that stands twice, and for numbers that are none.
    """
    return json.loads(
        text, object_pairs_hook=_distinct, parse_constant=_no_constant, parse_float=_finite
    )


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError(f"a key appears twice among {[key for key, _ in pairs]}")
    return dict(pairs)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):  # Python takes 1e999 for infinity
        raise ValueError(f"{text:.40} is beyond the largest number")
    return number


def to_plain(value: Any) -> Any:
    """Arrays, tuples and numbers as what JSON has."""
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, np.generic) and not isinstance(value, str):
        value = value.item()
    return {"number": str(value)} if isinstance(value, float) and not np.isfinite(value) else value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`, with lists for arrays and tuples."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"number"} and isinstance(value["number"], str):
            return float(value["number"])
        return {name: from_plain(item) for name, item in value.items()}
    return value

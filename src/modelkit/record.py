"""Values as JSON, and back: JSON has no NaN and no infinity, so such a number is written as {"number": "nan"}."""

from __future__ import annotations

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Arrays, tuples and numbers as what JSON has."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, np.generic) and not isinstance(value, str):
        value = value.item()
    return {"number": str(value)} if isinstance(value, float) and not np.isfinite(value) else value


def back(value: Any) -> Any:
    """The inverse of `plain`, with lists for arrays and tuples."""
    if isinstance(value, list):
        return [back(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"number"} and isinstance(value["number"], str):
            return float(value["number"])
        return {name: back(item) for name, item in value.items()}
    return value

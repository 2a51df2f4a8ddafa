"""The type of an array, and whether an object is of a library that may not be imported."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def is_a(value: object, library: str, name: str) -> bool:
    """Whether `value` is an instance of a library's class, without importing the library."""
    # None, too, while another thread imports the library.
    kind = getattr(sys.modules.get(library), name, None)
    return kind is not None and isinstance(value, kind)

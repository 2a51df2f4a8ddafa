"""The digest of rows and their truth: whether two evaluations are of the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array


def digest_of(arrays: Mapping[str, Array]) -> str:
    """The SHA-256 of named arrays: their names, dtypes, shapes and values, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.asarray(arrays[name])
        digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        if values.dtype == object:
            for item in values.reshape(-1).tolist():
                _take_text(digest, str(item))
        else:
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _take_text(digest: Any, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)

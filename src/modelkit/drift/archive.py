"""Arrays and what JSON can hold as one npz of plain arrays: the bytes of a Profile, and of a Detector's state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelkit import jsonable
from modelkit.cast import Array
from modelkit.errors import DriftError
from modelkit.npz import pack_arrays, unpack_arrays


def pack(schema: str, about: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Bytes that `unpack` reads; equal contents give equal bytes."""
    text = json.dumps(
        jsonable.to_plain({"schema": schema, **about}), sort_keys=True, allow_nan=False
    ).encode()
    return pack_arrays({"about": np.frombuffer(text, np.uint8), **arrays})


def unpack(
    schema: str, data: bytes | memoryview, what: str
) -> tuple[dict[str, Any], dict[str, Array]]:
    """What was packed. Raises DriftError for other bytes, and for those of another schema."""
    try:
        arrays = unpack_arrays(data)
        about: dict[str, Any] = jsonable.from_plain(
            jsonable.parse_json(arrays.pop("about").tobytes().decode())
        )
        found = about.pop("schema")
    except Exception as error:
        raise DriftError(f"this is no {what}: {error}") from error
    if found != schema:
        raise DriftError(
            f"this is no {what} of {schema}, but of {found!r}; it was made by another version"
        )
    return about, arrays

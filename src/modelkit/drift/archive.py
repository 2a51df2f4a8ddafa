"""Arrays and JSON values as one npz of plain arrays: the bytes of a Profile and of a Detector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.json import from_plain, parse_json, to_plain
from modelkit._internal.npz import pack_arrays, unpack_arrays
from modelkit.errors import PackageError


def pack(schema: str, about: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Bytes that `unpack` reads; equal contents give equal bytes."""
    values = to_plain({"schema": schema, **about})
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return pack_arrays({"about": np.frombuffer(text.encode(), np.uint8), **arrays})


def unpack(
    schema: str, data: bytes | memoryview, what: str
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The values and arrays that were packed.

    Raises PackageError for bytes of another schema, and for bytes that `pack` did not make.
    """
    try:
        arrays = unpack_arrays(data)
        text = arrays.pop("about").tobytes().decode()
        about: dict[str, Any] = from_plain(parse_json(text))
        found = about.pop("schema")
    except Exception as error:
        raise PackageError(f"this is not a {what}: {error}") from error
    if found != schema:
        raise PackageError(
            f"this is not a {what} of {schema}, but of {found!r}; it was made by another version"
        )
    return about, arrays


def under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays whose name begins with a prefix, named without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }

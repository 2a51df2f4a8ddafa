"""Named arrays as the bytes of an npz file, and back, without pickled objects and without bombs."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from modelkit.cast import Array

MEDIA_TYPE = "application/x-npz"


def pack_arrays(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of an uncompressed npz file. Equal arrays give equal bytes.

    Object arrays are written as fixed-width unicode.
    """
    plain = {}
    for name, array in arrays.items():
        plain[name] = array.astype(str) if array.dtype == object else array
    file = io.BytesIO()
    np.savez(file, **plain)  # type: ignore[arg-type]
    return file.getvalue()


def unpack_arrays(data: bytes | memoryview) -> dict[str, Array]:
    """The arrays of an npz file as `pack_arrays` writes it; unicode stays fixed-width.

    Raises ValueError where the arrays are compressed or larger than the bytes they lie in (a zip
    bomb), and whatever numpy raises where they are damaged or pickled.
    """
    if bytes(memoryview(data)[:2]) != b"PK":  # numpy would propose to unpickle them
        raise ValueError("the bytes are not those of an npz file")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        members = file.zip.infolist()
        compressed = any(member.compress_type for member in members)
        size = sum(member.file_size for member in members)
        if compressed or size > len(data):
            raise ValueError("its arrays are larger than the bytes they lie in")
        return dict(file)

"""Named arrays as the bytes of an npz file, and back, without pickled objects and without bombs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import prod
from typing import IO

import numpy as np

from modelkit._internal.arrays import Array

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

    Raises ValueError where the arrays are compressed, larger than the bytes they lie in (a zip bomb),
    or where their shape and their number of bytes disagree; and whatever numpy raises where they
    are damaged.
    """
    import zipfile  # a process that only loads does without

    if bytes(memoryview(data)[:2]) != b"PK":  # numpy would propose to unpickle them
        raise ValueError("the bytes are not an npz file")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = file.infolist()
        compressed = any(member.compress_type for member in members)
        size = sum(member.file_size for member in members)
        if compressed or size > len(data):
            raise ValueError("its arrays are larger than the bytes they lie in")
        arrays = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            with file.open(member) as part:
                _check_size(part, member.file_size, name)
                part.seek(0)
                arrays[name] = np.lib.format.read_array(part, allow_pickle=False)
        return arrays


def _check_size(part: IO[bytes], size: int, name: str) -> None:
    """Raise ValueError where an array of `size` bytes, header and all, says that it holds others.

    Empty texts take up zero bytes, however many there are, and each becomes an object.
    """
    version = np.lib.format.read_magic(part)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(part)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(part)
    else:
        raise ValueError(f"the array {name!r} is of the npy format {version}; use 1.0 or 2.0")
    count = prod(shape)
    held = size - part.tell()
    if not dtype.hasobject and (count * dtype.itemsize != held or count > held):
        raise ValueError(
            f"the array {name!r} is of {dtype} and shape {shape}, and has {held} bytes"
        )

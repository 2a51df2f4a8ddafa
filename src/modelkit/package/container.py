"""The single-file container: a zip of stored members in fixed order.

Equal content gives equal bytes, and the reader takes those bytes only: it writes again what stands
around the members, and compares. So it refuses compression, encryption, data descriptors, comments,
gaps, overlaps, prefixes and whatever else a zip may have. A checksum alone may be wrong, if it is the
same in both places: the manifest has a hash of each member, and to compute both takes 1.6 times as
long. Any zip tool can open the result. Layout: APPNOTE.TXT of the .ZIP file format, sections 4.3.7 to
4.3.16.
"""

from __future__ import annotations

import itertools
import operator
import struct
import zlib
from collections.abc import Iterator

from modelkit.errors import ContainerError

# Signature, version, flags, method, time, date, crc, two sizes, and the sizes of name and extra.
LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
# An extra field of our own kind, all zeros, pads a member to its alignment.
EXTRA = struct.Struct("<2H")
LOCAL_MAGIC = b"PK\x03\x04"
CENTRAL_MAGIC = b"PK\x01\x02"
END_MAGIC = b"PK\x05\x06"
VERSION = 20  # of the format, as the version needed and as the version made by
UTF8 = 0x800  # the only flag a member carries
DATE = 0x21  # 1980-01-01, the earliest that zip can say
PAD = 0xD935
PAGE = 4096
LIMIT = (1 << 32) - 1

Members = dict[str, bytes | memoryview]


def write_zip(
    members: Members, aligned: frozenset[str] = frozenset()
) -> Iterator[bytes | memoryview]:
    """The bytes of a package, piece by piece. Members named in `aligned` start on a page boundary.

    Raises ContainerError where a package would pass 4 GiB.
    """
    offset = 0
    directory = b""
    for path, data in members.items():
        crc = zlib.crc32(data)
        header, entry = _headers(path, crc, len(data), offset, pads=path in aligned)
        directory += entry
        offset += len(header) + len(data)
        if offset > LIMIT - (1 << 20):
            raise ContainerError(
                f"the package passes 4 GiB at member {path!r}; larger ones are not supported yet"
            )
        yield header
        yield data
    yield directory + _end(len(members), len(directory), offset)


def _headers(path: str, crc: int, size: int, offset: int, *, pads: bool) -> tuple[bytes, bytes]:
    """The header in front of a member, which begins at `offset`, and its entry in the directory."""
    name = path.encode()
    common = (VERSION, UTF8, 0, 0, DATE, crc, size, size, len(name))
    extra = b""
    if pads:
        gap = -(offset + LOCAL.size + len(name) + EXTRA.size) % PAGE
        extra = EXTRA.pack(PAD, gap) + bytes(gap)
    entry = CENTRAL.pack(CENTRAL_MAGIC, VERSION, *common, 0, 0, 0, 0, 0, offset)
    return LOCAL.pack(LOCAL_MAGIC, *common, len(extra)) + name + extra, entry + name


def _end(count: int, size: int, start: int) -> bytes:
    """What stands behind the directory: how many members it has, its size, and where it begins."""
    return END.pack(END_MAGIC, 0, 0, count, count, size, start, 0)


def read_zip(data: memoryview, checked: int = 1) -> dict[str, memoryview]:
    """The members of a package by path, as views of `data`, in file order.

    The checksums of the first `checked` are checked: the manifest holds no hash of itself.

    Raises ContainerError, naming byte and member, for anything that `write_zip` would not have written.
    """
    if len(data) < END.size or bytes(data[:4]) != LOCAL_MAGIC:
        raise ContainerError("this is not a modelkit package: a .mk file starts with a zip member")
    end = bytes(data[-END.size :])
    magic, _, _, count, _, _, start, _ = END.unpack(end)
    members: dict[str, memoryview] = {}
    at, body = start, 0  # of the next entry and the next header
    for _ in range(count if magic == END_MAGIC else 0):
        if at + CENTRAL.size > len(data) or body + LOCAL.size > start:
            break
        entry = CENTRAL.unpack_from(data, at)
        crc, size, length = entry[7], entry[9], entry[10]
        path = _check_path(bytes(data[at + CENTRAL.size :][:length]))
        if path in members:
            raise ContainerError(f"member {path!r} appears twice", member=path)
        *_, extra = LOCAL.unpack_from(data, body)
        header, written = _headers(path, crc, size, body, pads=extra > 0)
        _check_written(data, body, header, path)
        _check_written(data, at, written, path)
        begin = body + len(header)
        at, body = at + len(written), begin + size
        members[path] = data[begin:body]
        cut = len(members[path]) < size
        if cut or (len(members) <= checked and zlib.crc32(members[path]) != crc):
            raise ContainerError(
                f"member {path!r} is damaged: its size or its checksum differs", member=path
            )
    if at + END.size != len(data) or end != _end(len(members), at - start, body):
        raise ContainerError(
            "the file is truncated, or has bytes before, after or between the parts of a package"
        )
    return members


def _check_written(data: memoryview, at: int, written: bytes, path: str) -> None:
    """Raise ContainerError unless what `write_zip` writes for a member is what is there."""
    found = bytes(data[at : at + len(written)])
    if found != written:
        differ = map(operator.ne, found, written)
        byte = at + next(itertools.compress(itertools.count(), differ), len(found))
        raise ContainerError(
            f"byte {byte} of the package is not as mk.save writes it: it describes member {path!r}, "
            "which another program wrote, or which was changed",
            member=path,
        )


def _check_path(raw: bytes) -> str:
    """The path of a member. Raises ContainerError unless it is plain.

    A plain path is relative, of lower-case ASCII letters, digits and '._-', without empty or dot
    segments.
    """
    path = raw.decode("ascii", "replace")
    plain = all(char.isdigit() or "a" <= char <= "z" or char in "._-/" for char in path)
    segments = all(part and part.strip(".") == part for part in path.split("/"))
    if not plain or not segments or len(path) > 255:
        raise ContainerError(f"member path {path!r} is not a plain relative path", member=path)
    return path

"""The single-file container: a zip of stored members in fixed order, so that equal content gives equal bytes.

Written and read here rather than with `zipfile`, because the reader must refuse everything a writer
of packages does not do: compression, encryption, data descriptors, comments, gaps, overlaps,
prefixes and second entries of a name. Any zip tool can open the result. Layout: APPNOTE.TXT of the
.ZIP file format, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from modelkit.errors import ContainerError

LOCAL = struct.Struct(
    "<4s5H3L2H"
)  # signature, version, flags, method, time, date, crc, sizes, name, extra
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
EXTRA = struct.Struct(
    "<2H"
)  # an extra field of our own kind, all zeros, pads a member to its alignment
UTF8 = 0x800  # the only flag a member carries
DATE = 0x21  # 1980-01-01, the earliest that zip can say
PAD = 0xD935
PAGE = 4096
LIMIT = (1 << 32) - 1
MAX_MEMBERS = 1000

Members = dict[str, bytes | memoryview]


def _common(name: bytes, data: bytes | memoryview) -> tuple[int, ...]:
    return (20, UTF8, 0, 0, DATE, zlib.crc32(data), len(data), len(data), len(name))


def write_zip(
    members: Members, aligned: frozenset[str] = frozenset()
) -> Iterator[bytes | memoryview]:
    """The bytes of a package, piece by piece. Members named in `aligned` start on a page boundary.

    Raises ContainerError where a package would pass 4 GiB.
    """
    offset, directory = 0, []
    for path, data in members.items():
        name = path.encode()
        extra = b""
        if path in aligned:
            gap = -(offset + LOCAL.size + len(name) + EXTRA.size) % PAGE
            extra = EXTRA.pack(PAD, gap) + bytes(gap)
        common = _common(name, data)
        directory.append(CENTRAL.pack(b"PK\x01\x02", 20, *common, 0, 0, 0, 0, 0, offset) + name)
        header = LOCAL.pack(b"PK\x03\x04", *common, len(extra)) + name + extra
        offset += len(header) + len(data)
        if offset > LIMIT - (1 << 20):
            raise ContainerError(
                f"the package passes 4 GiB at member {path!r}; larger ones are not supported yet"
            )
        yield header
        yield data
    central = b"".join(directory)
    yield central
    yield END.pack(b"PK\x05\x06", 0, 0, len(directory), len(directory), len(central), offset, 0)


def read_zip(data: memoryview) -> dict[str, memoryview]:
    """The members of a package by path, as views of `data`, in file order.

    Raises ContainerError, naming the member, for anything that `write_zip` would not have written.
    """
    if len(data) < END.size or bytes(data[:4]) != b"PK\x03\x04":
        raise ContainerError("this is not a modelkit package: a .mk file starts with a zip member")
    magic, disk, first, here, count, size, start, comment = END.unpack(data[-END.size :])
    if (
        magic != b"PK\x05\x06"
        or disk
        or first
        or here != count
        or comment
        or start + size + END.size != len(data)
    ):
        raise ContainerError(
            "the file is truncated, or has bytes before, after or between the parts of a package"
        )
    if count > MAX_MEMBERS:
        raise ContainerError(f"the package has {count} members; at most {MAX_MEMBERS} are read")
    members: dict[str, memoryview] = {}
    at, body = start, 0
    for _ in range(count):
        at, body = _member(data, at, body, start, members)
    if at != start + size or body != start:
        raise ContainerError("the directory of the package does not cover its content")
    return members


def _member(
    data: memoryview, at: int, body: int, start: int, members: dict[str, memoryview]
) -> tuple[int, int]:
    """Check one directory entry against the local header that must stand at `body`."""
    if at + CENTRAL.size > len(data) or body + LOCAL.size > start:
        raise ContainerError("the directory of the package is truncated")
    magic, made, *common, extra, comment, disk, internal, external, offset = CENTRAL.unpack_from(
        data, at
    )
    length = common[-1]
    raw = bytes(data[at + CENTRAL.size : at + CENTRAL.size + length])
    path = check_path(raw)
    local_magic, *local, local_extra = LOCAL.unpack_from(data, body)
    name_at = body + LOCAL.size
    content = name_at + length + local_extra
    end = content + common[-2]
    plain = not (extra or comment or disk or internal or external) and made == 20
    stored = common[:3] == [20, UTF8, 0] and common[6] == common[7] and common[3:5] == [0, DATE]
    same = local == common and bytes(data[name_at : name_at + length]) == raw and offset == body
    if (
        magic != b"PK\x01\x02"
        or local_magic != b"PK\x03\x04"
        or not (plain and stored and same)
        or end > start
    ):
        raise ContainerError(
            f"member {path!r} is not a plain stored member that its directory entry describes",
            member=path,
        )
    padding = bytes(data[name_at + length : content])
    if padding and (
        len(padding) < EXTRA.size
        or padding != EXTRA.pack(PAD, len(padding) - EXTRA.size).ljust(len(padding), b"\0")
    ):
        raise ContainerError(f"member {path!r} hides bytes in its extra field", member=path)
    if path in members:
        raise ContainerError(f"member {path!r} appears twice", member=path)
    members[path] = data[content:end]
    if (
        len(members) == 1 and zlib.crc32(members[path]) != common[5]
    ):  # the manifest, which holds no hash of itself
        raise ContainerError(f"member {path!r} is damaged: its checksum differs", member=path)
    return at + CENTRAL.size + length, end


def check_path(raw: bytes) -> str:
    """A member's path: relative, lower-case ASCII letters, digits and '._-', no empty or dot segment."""
    path = raw.decode("ascii", "replace")
    plain = all(char.isdigit() or "a" <= char <= "z" or char in "._-/" for char in path)
    if (
        not plain
        or len(path) > 255
        or any(part.strip(".") != part or not part for part in path.split("/"))
    ):
        raise ContainerError(f"member path {path!r} is not a plain relative path", member=path)
    return path

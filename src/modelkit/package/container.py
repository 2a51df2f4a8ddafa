"""The single-file container: a zip of stored members in fixed order.

Equal content gives equal bytes.

Written and read here rather than with `zipfile`, because the reader must refuse everything a writer
of packages does not do: compression, encryption, data descriptors, comments, gaps, overlaps,
prefixes and second entries of a name. Any zip tool can open the result. Layout: APPNOTE.TXT of the
.ZIP file format, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

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
MAX_MEMBERS = 1000

Members = dict[str, bytes | memoryview]


class _Common(NamedTuple):
    """The fields that a member has in its local header and in its directory entry alike."""

    version: int
    flags: int
    method: int
    time: int
    date: int
    crc: int
    packed: int
    size: int
    name: int  # the bytes of the name

    @property
    def is_stored(self) -> bool:
        """Whether these are the fields that `write_zip` writes."""
        head = (self.version, self.flags, self.method, self.time, self.date)
        return head == (VERSION, UTF8, 0, 0, DATE) and self.packed == self.size


class _Entry(NamedTuple):
    """A member's entry in the directory.

    `offset` is where the entry says that the local header is, `end` where the next entry begins,
    and `is_plain` whether all other fields are as `write_zip` writes them.
    """

    common: _Common
    name: bytes
    offset: int
    end: int
    is_plain: bool


def write_zip(
    members: Members, aligned: frozenset[str] = frozenset()
) -> Iterator[bytes | memoryview]:
    """The bytes of a package, piece by piece. Members named in `aligned` start on a page boundary.

    Raises ContainerError where a package would pass 4 GiB.
    """
    offset = 0
    directory = []
    for path, data in members.items():
        name = path.encode()
        size = len(data)
        crc = zlib.crc32(data)
        common = _Common(VERSION, UTF8, 0, 0, DATE, crc, size, size, len(name))
        extra = _padding(offset, name) if path in aligned else b""
        entry = CENTRAL.pack(CENTRAL_MAGIC, VERSION, *common, 0, 0, 0, 0, 0, offset)
        directory.append(entry + name)
        header = LOCAL.pack(LOCAL_MAGIC, *common, len(extra)) + name + extra
        offset += len(header) + size
        if offset > LIMIT - (1 << 20):
            raise ContainerError(
                f"the package passes 4 GiB at member {path!r}; larger ones are not supported yet"
            )
        yield header
        yield data
    joined = b"".join(directory)
    count = len(directory)
    yield joined + END.pack(END_MAGIC, 0, 0, count, count, len(joined), offset, 0)


def _padding(offset: int, name: bytes) -> bytes:
    """The extra field that lets a member begin on a page boundary."""
    gap = -(offset + LOCAL.size + len(name) + EXTRA.size) % PAGE
    return EXTRA.pack(PAD, gap) + bytes(gap)


def read_zip(data: memoryview, checked: int = 1) -> dict[str, memoryview]:
    """The members of a package by path, as views of `data`, in file order.

    The checksums of the first `checked` are checked: the manifest holds no hash of itself.

    Raises ContainerError, naming the member, for anything that `write_zip` would not have written.
    """
    if len(data) < END.size or bytes(data[:4]) != LOCAL_MAGIC:
        raise ContainerError("this is not a modelkit package: a .mk file starts with a zip member")
    count, size, start = _read_end(data)
    members: dict[str, memoryview] = {}
    at = start
    body = 0
    for _ in range(count):
        at, body = _read_member(data, at, body, start, members, checked)
    if at != start + size or body != start:
        raise ContainerError("the directory of the package does not cover its content")
    return members


def _read_end(data: memoryview) -> tuple[int, int, int]:
    """The number of members, and the size and the offset of the directory."""
    magic, disk, first, here, count, size, start, comment = END.unpack(data[-END.size :])
    odd = disk or first or comment or here != count
    if magic != END_MAGIC or odd or start + size + END.size != len(data):
        raise ContainerError(
            "the file is truncated, or has bytes before, after or between the parts of a package"
        )
    if count > MAX_MEMBERS:
        raise ContainerError(f"the package has {count} members; at most {MAX_MEMBERS} are read")
    return count, size, start


def _read_member(
    data: memoryview, at: int, body: int, start: int, members: dict[str, memoryview], checked: int
) -> tuple[int, int]:
    """Add the member whose directory entry is at `at` and whose local header is at `body`.

    The directory begins at `start`. Returns where the next entry and the next header begin.
    """
    if at + CENTRAL.size > len(data) or body + LOCAL.size > start:
        raise ContainerError("the directory of the package is truncated")
    entry = _read_entry(data, at)
    common = entry.common
    path = check_path(entry.name)
    magic, *local, extra = LOCAL.unpack_from(data, body)
    name_at = body + LOCAL.size
    padding_at = name_at + common.name
    content = padding_at + extra
    end = content + common.size
    is_header = magic == LOCAL_MAGIC and tuple(local) == common
    is_named = bytes(data[name_at:padding_at]) == entry.name
    is_here = entry.offset == body and end <= start
    if not (entry.is_plain and is_header and is_named and is_here):
        raise ContainerError(
            f"member {path!r} is not a plain stored member that its directory entry describes",
            member=path,
        )
    _check_padding(bytes(data[padding_at:content]), path)
    if path in members:
        raise ContainerError(f"member {path!r} appears twice", member=path)
    members[path] = data[content:end]
    if len(members) <= checked and zlib.crc32(members[path]) != common.crc:
        raise ContainerError(f"member {path!r} is damaged: its checksum differs", member=path)
    return entry.end, end


def _read_entry(data: memoryview, at: int) -> _Entry:
    """The entry of the directory that is at `at`."""
    magic, made_by, *fields = CENTRAL.unpack_from(data, at)
    common = _Common(*fields[:9])
    *rest, offset = fields[9:]
    name_at = at + CENTRAL.size
    end = name_at + common.name
    return _Entry(
        common,
        name=bytes(data[name_at:end]),
        offset=offset,
        end=end,
        is_plain=magic == CENTRAL_MAGIC
        and made_by == VERSION
        and not any(rest)
        and common.is_stored,
    )


def _check_padding(padding: bytes, path: str) -> None:
    """Raise ContainerError unless an extra field is empty or zeros of our own kind."""
    if not padding:
        return
    gap = len(padding) - EXTRA.size
    if gap < 0 or padding != EXTRA.pack(PAD, gap) + bytes(gap):
        raise ContainerError(f"member {path!r} hides bytes in its extra field", member=path)


def check_path(raw: bytes) -> str:
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

"""The body of a request: what it may be, how much of it there may be, and how it is inflated."""

from __future__ import annotations

import zlib
from typing import final

from modelkit.web.reply import Headers, Refused
from modelkit.web.statuses import CLOSE

_USUAL_TYPES = (b"application/json", b"application/octet-stream")
_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # how zlib names them
_PLAIN = (b"", b"identity")
# Bytes that are inflated at a time. What follows a member is copied, so that a body of many empty ones,
# inflated at once, would take minutes.
_SLICE = 1 << 12
_ACCEPT = (b"accept-encoding", b"gzip, deflate")


def check_head(headers: Headers, verb: str, most: int) -> None:
    """Refuse a body by what its headers say of it, before it is read."""
    content = headers.get(b"content-type")
    if content is None:
        _check_origin(headers, verb)
    elif content not in _USUAL_TYPES:
        _check_type(content)
    encoding = headers.get(b"content-encoding")
    if encoding is not None:
        _check_encoding(encoding)
    length = headers.get(b"content-length")
    if length is not None and length.isdigit() and int(length[:20]) > most:
        raise too_large(most)


def too_large(most: int) -> Refused:
    """The answer to a body above the limit; what is left of it stays unread."""
    return Refused(
        413,
        f"the body is larger than {most:,} bytes; send fewer rows. Tensors in bytes, as V2 has them, "
        "may be more than JSON",
        headers=[CLOSE],
    )


@final
class BodyParts:
    """A body that comes in parts, counted while they come.

    Args:
        most: the bytes that there may be.
    """

    __slots__ = ("_most", "_parts", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Take the next part. Raises Refused when there are too many bytes."""
        self._size += len(part)
        if self._size > self._most:
            raise too_large(self._most)
        self._parts.append(part)

    def whole(self) -> bytes:
        """The body so far."""
        return b"".join(self._parts)


def inflated(body: bytes, headers: Headers, most: int) -> bytes:
    """The body itself, or what it inflates to, of at most `most` bytes. Raises Refused."""
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding in _PLAIN:
        return body
    gathered = BodyParts(most)
    whole = memoryview(body)
    inflating = None
    for start in range(0, len(whole), _SLICE):
        left: bytes | memoryview = whole[start : start + _SLICE]
        while left:
            if inflating is None or inflating.eof:  # a gzip body may have several members
                inflating = zlib.decompressobj(_WINDOW[encoding])
            gathered.add(_inflated(left, inflating, encoding, most))
            left = inflating.unused_data
    if inflating is not None and not inflating.eof:
        raise Refused(400, f"the {encoding.decode()} body ends too early")
    return gathered.whole()


def _inflated(
    part: bytes | memoryview, inflating: zlib._Decompress, encoding: bytes, most: int
) -> bytes:
    try:
        return inflating.decompress(part, most + 1)
    except zlib.error as error:
        name = encoding.decode()
        raise Refused(400, f"the body is not {name}, as its header says: {error}") from None


def _check_origin(headers: Headers, verb: str) -> None:
    """Raise Refused, 415, for content of no type: a page of any site may have a browser send that.

    Clients of Triton send none to V2. They are known from browsers, which say where a page is from.
    """
    from_page = b"origin" in headers or b"sec-fetch-site" in headers
    if verb != "infer" or from_page:
        raise Refused(
            415,
            "the request has no Content-Type; send JSON in UTF-8, as Content-Type: application/json",
        )


def _check_type(content: bytes) -> None:
    """Raise Refused, 415, for content that is said to be another than JSON in UTF-8 or bytes."""
    kind, *options = [part.strip().lower() for part in content.split(b";")]
    is_json = kind in _USUAL_TYPES or (kind.startswith(b"application/") and kind.endswith(b"+json"))
    charsets = [part for part in options if part.startswith(b"charset=")]
    if is_json and all(part.strip(b' "').endswith((b"utf-8", b"utf8")) for part in charsets):
        return
    raise Refused(
        415,
        f"the content is {content[:80].decode('latin-1')!r}; send JSON in UTF-8, as Content-Type: application/json",
    )


def _check_encoding(encoding: bytes) -> None:
    bare = encoding.strip().lower()
    if bare not in _PLAIN and bare not in _WINDOW:
        text = encoding.decode("latin-1")
        raise Refused(
            415,
            f"a body may be gzip or deflate, not {text!r}; send it so, or as it is",
            headers=[_ACCEPT],
        )

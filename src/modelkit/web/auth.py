"""Who asks: an `auth` is called with the headers of a request, and says whose it is."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import final

from modelkit.errors import UsageError
from modelkit.web.replies import Headers, Refused

Auth = Callable[[Mapping[str, str]], str | Awaitable[str | None] | None]

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_EMPTY = hashlib.sha256(b"").digest()
_CHALLENGE = (b"www-authenticate", b'Bearer realm="modelkit"')


@final
class TextHeaders(Mapping[str, str]):
    """The headers of a request as an `auth` sees them: texts by name in small letters."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower().encode("latin-1")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def bearer_tokens(*accepted: str | Mapping[str, str]) -> Auth:
    """An `auth` of an App that knows callers by their tokens, and keeps only digests of these.

        mk.App({"churn": model}, auth=mk.bearer_tokens({"billing": digest}))

    A client sends its token as `Authorization: Bearer TOKEN` or as `X-API-Key: TOKEN`; where both
    are sent, the first counts. The comparison takes as long for any wrong token.

    Args:
        accepted: the sha256 of tokens, as 64 hexadecimal digits:
            `hashlib.sha256(token.encode()).hexdigest()`. Or mappings of the names of callers to
            such digests. The caller of a digest without a name is called after its first digits.

    Returns:
        What `App` takes as `auth`.

    Raises:
        UsageError: for anything but digests, such as the token itself; without a digest, for the
            digest of an empty token, and for a caller without a name.
    """
    known = _known(accepted)
    if not known:
        raise UsageError("bearer_tokens() accepts nobody: pass the sha256 of at least one token")

    def principal(headers: Mapping[str, str]) -> str | None:
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        is_token = scheme.lower() == "bearer"  # another scheme is for a proxy in between
        token = sent.strip() if is_token else headers.get("x-api-key")
        if token is None:
            return None
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        found = None
        for mine, name in known:  # all of them, so that time does not tell which
            if hmac.compare_digest(mine, digest):
                found = name
        return found

    return principal


def unauthorized(headers: Headers) -> Refused:
    """The answer to a request of nobody we know."""
    sent = b"authorization" in headers or b"x-api-key" in headers
    what = "these credentials are not accepted" if sent else "the request lacks credentials"
    return Refused(
        f"{what}: send a token as Authorization: Bearer TOKEN, or as X-API-Key",
        401,
        headers=[_CHALLENGE],
    )


def _known(accepted: tuple[str | Mapping[str, str], ...]) -> list[tuple[bytes, str]]:
    known = []
    for digests in accepted:
        if isinstance(digests, Mapping):
            known += [(_digest(text), _named(name)) for name, text in digests.items()]
        else:
            digest = _digest(digests)
            known.append((digest, f"sha256:{digest.hex()[:8]}"))
    return known


def _digest(text: str) -> bytes:
    found = _DIGEST.fullmatch(text.lower()) if isinstance(text, str) else None
    if found is None:  # what was passed may be a secret, so the message does not repeat it
        raise UsageError(
            "bearer_tokens() takes the sha256 of a token in 64 hexadecimal digits, never the token: "
            "hashlib.sha256(token.encode()).hexdigest()"
        )
    digest = bytes.fromhex(found[1])
    if digest == _EMPTY:  # as `printf %s "$TOKEN" | sha256sum` prints it where there is no TOKEN
        raise UsageError("this is the sha256 of an empty token, which anybody could send")
    return digest


def _named(name: object) -> str:
    if isinstance(name, str) and name and name.isprintable():
        return name
    raise UsageError(f"the name of a caller is a printable text; got {name!r}")

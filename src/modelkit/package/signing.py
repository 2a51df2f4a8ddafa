"""Signatures of packages, and the keys that a caller trusts to make them.

A signature is Ed25519 (RFC 8032) over the digest of a package, the id of the key and two points in
time. It lies in a file beside the package. Nothing in it names an algorithm: that is the one of the
keys that the caller passes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, final

from modelkit._internal import fields
from modelkit._internal.json import from_record, to_record
from modelkit.errors import NotAFile, UntrustedError, UsageError
from modelkit.events import Signed, emit
from modelkit.package.keys import key_id, private_key, public_key, verifies
from modelkit.package.source import Openable, Reference, open_bytes, read_verified
from modelkit.package.write import write_file
from modelkit.report import html

SCHEMA = "modelkit.signatures/1"
CONTEXT = b"modelkit signature 1\0"  # no bytes that are signed for another purpose begin so
MOST_BYTES = 1 << 20  # of a file of signatures
UNSIGNED = "there is none; `modelkit sign` adds one, to a file that ends in .sig beside the package"


@final
@dataclass(frozen=True)
class PackageSignature:
    """A signature of a package by one key.

    Attributes:
        digest: the digest of the package.
        key: the id of the key: the sha256, in hex, of the 32 bytes of its public part.
        at: when it was signed, in ISO 8601 and UTC, as the signer says.
        expires: until when the signature holds; None for ever.
        signature: the 64 bytes of Ed25519, in hex.
    """

    digest: str
    key: str
    at: str
    expires: str | None
    signature: str

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        for name, letters in (("digest", 64), ("key", 64), ("signature", 128)):
            found = getattr(self, name)
            if not re.fullmatch(f"[0-9a-f]{{{letters}}}", found):
                raise ValueError(f"{name} has {letters} hexadecimal digits, not {found!r:.80}")
        for time in (self.at, self.expires):
            if time is not None and datetime.fromisoformat(time).tzinfo is None:
                raise ValueError(f"{time!r:.80} lacks a time zone")


@dataclass(frozen=True)
class SignatureFile:
    """What a file of signatures holds."""

    signatures: tuple[PackageSignature, ...]


class TrustedKey(NamedTuple):
    """A public key of Ed25519: what messages call it, its id, and its 32 bytes."""

    name: str
    id: str
    public: bytes


@final
@dataclass(frozen=True)
class Trust:
    """The keys whose signatures you trust, and how many of them must have signed a package.

        mk.sign("churn.mk", "release.pem")
        trust = mk.Trust(["release.pub", "next-release.pub"])
        model = mk.load("churn.mk", trust=trust)

    To change a key, list the old one and the new one until every package is signed by the new one.

    Args:
        keys: public keys of Ed25519, or names with such keys: each is a path to PEM, "env:NAME", the
            bytes of PEM, or a key of the library cryptography.
        required: how many different keys must have signed.

    Raises:
        UsageError: for anything but public keys of Ed25519, and for `required` below 1 or above the
            number of different keys.
        TypeError: for `keys` that are neither a sequence nor a mapping.
        MissingExtraError: if cryptography is not installed.
    """

    keys: Any
    required: int = 1

    def __post_init__(self) -> None:
        given = self.keys
        if isinstance(given, str | bytes) or not isinstance(given, Sequence | Mapping):
            raise TypeError(
                "keys is a list of public keys, or a mapping of names to them, such as "
                f"mk.Trust(['release.pub']), not {type(given).__name__}"
            )
        named = given.items() if isinstance(given, Mapping) else zip(repeat(""), given)
        keys = tuple(_trusted_key(name, key) for name, key in named)
        object.__setattr__(self, "keys", keys)
        different = len({key.id for key in keys})
        if not 1 <= self.required <= different:
            raise UsageError(
                f"required is between 1 and the number of different keys, {different}, not {self.required}"
            )

    def __repr__(self) -> str:
        names = {key.name: f"{key.id:.16}" for key in self.keys}
        return f"Trust({names}, required={self.required})"

    def check(
        self, digest: str, signatures: Iterable[PackageSignature], now: datetime
    ) -> tuple[str, ...]:
        """The names of the keys that signed a package.

        Args:
            digest: the digest of the package.
            signatures: those to check; they may be of anything, and by anybody.
            now: a time with a zone, at which they must hold.

        Raises UntrustedError, which says of each signature why it does not count, if fewer keys than
        required have signed.
        """
        known = {key.id: key for key in self.keys}
        signed: dict[str, str] = {}
        reasons = []
        for signature in signatures:
            reason = _refusal(signature, known.get(signature.key), digest, now)
            if reason:
                reasons.append(reason)
            else:
                signed[signature.key] = known[signature.key].name
        if len(signed) < self.required:
            lacking = [key.name for key in self.keys if key.id not in signed]
            raise UntrustedError(
                f"package {digest:.16} is signed by {len(signed)} of the keys that you trust, and "
                f"{self.required} must have signed it; no signature counts by {html.some(lacking)}"
                f": {html.some(reasons or [UNSIGNED])}",
                reasons=tuple(reasons),
            )
        return tuple(signed.values())


def _trusted_key(name: str, given: Any) -> TrustedKey:
    """A key that a caller passed, with their name for it, or one that says where it is from."""
    key = public_key(given, "ed25519")
    own = os.fspath(given) if isinstance(given, str | os.PathLike) else f"key {key_id(key):.16}"
    return TrustedKey(name or own, key_id(key), key.public_bytes_raw())


def _refusal(
    signature: PackageSignature, key: TrustedKey | None, digest: str, now: datetime
) -> str:
    """Why a signature of a package does not count, or ""."""
    if key is None:
        return f"there is one in the name of key {signature.key:.16}, which you do not trust"
    plain = asdict(signature)
    made = bytes.fromhex(plain.pop("signature"))
    if not verifies(key.public, made, _signed_bytes(plain)):
        return f"the one in the name of {key.name} is not by that key, or was changed"
    if signature.digest != digest:
        return f"{key.name} signed another package, {signature.digest:.16}"
    if signature.expires is not None and datetime.fromisoformat(signature.expires) <= now:
        return f"the one by {key.name} expired at {signature.expires}"
    return ""


def _signed_bytes(plain: Mapping[str, Any]) -> bytes:
    """What is signed: every field of a signature but the signature itself."""
    return CONTEXT + json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def sign(
    path: str | os.PathLike[str], key: Any, *, expires: datetime | None = None
) -> PackageSignature:
    """Sign a package: the signature is added to the file `PATH.sig` beside it.

        mk.sign("churn.mk", "release.pem")
        mk.load("churn.mk", trust=mk.Trust(["release.pub"]))

    It covers the digest, and so every byte of the package. Several keys may sign, at once too (on
    Windows one after the other); a key that signs again replaces its own signature. Signatures of what
    the package was before go.

    Args:
        path: the package. Its hashes are checked first.
        key: a private key of Ed25519: a path to PEM, "env:NAME", the bytes of PEM, or a key of the
            library cryptography.
        expires: a time with a zone from which on the signature no longer holds.

    Returns:
        The signature that was added.

    Raises:
        UsageError: for anything but a private key of Ed25519, and for a time that has passed or
            lacks a zone.
        PackageError: for anything but a package, and for a damaged one; its subclass UntrustedError if
            `PATH.sig` cannot be read.
        TypeError: for a package that is not given by its path.
        MissingExtraError: if cryptography is not installed.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"a package is signed where it lies, by its path, not {type(path).__name__}"
        )
    now = datetime.now(UTC)
    _check_expires(expires, now)
    key = private_key(key, "ed25519")
    manifest, _ = read_verified(open_bytes(path))
    author = key_id(key.public_key())
    plain: dict[str, Any] = {
        "digest": manifest.digest,
        "key": author,
        "at": now.isoformat(timespec="seconds"),
        "expires": None if expires is None else expires.isoformat(timespec="seconds"),
    }
    signed = PackageSignature(**plain, signature=key.sign(_signed_bytes(plain)).hex())
    with _alone(path):
        others = [each for each in signatures_of(path, manifest.digest) if each.key != author]
        write_file(Path(_beside(path)), write_signatures([*others, signed]))
    emit(Signed(manifest.name, manifest.version, manifest.digest, author))
    return signed


@contextmanager
def _alone(path: str | os.PathLike[str]) -> Iterator[None]:
    """A block that nobody else who signs this package runs; Windows, and some shares, lack such locks."""
    with open(path, "rb") as file:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_expires(expires: datetime | None, now: datetime) -> None:
    if expires is None:
        return
    if not isinstance(expires, datetime):
        raise TypeError(f"expires is a datetime, not {expires!r:.80}")
    if expires.tzinfo is None:
        raise UsageError(
            f"expires lacks a time zone: {expires}; such as datetime(2030, 1, 1, tzinfo=UTC)"
        )
    if expires <= now:
        raise UsageError(f"expires has passed: {expires}")


def check_signed(trust: Trust | None, digest: str, source: Openable) -> tuple[str, ...]:
    """The names of the keys that signed a package, as `Trust.check` has them; none where nobody is asked for.

    Raises:
        UntrustedError: as it does, and where the signatures cannot be read.
        UsageError: for a package in memory, beside which no file stands.
        TypeError: if `trust` is something else than a Trust.
    """
    if trust is None:
        return ()
    if not isinstance(trust, Trust):
        raise TypeError(f"trust is a mk.Trust of public keys, not {type(trust).__name__}")
    if not isinstance(source, str | os.PathLike | Reference):
        raise UsageError(
            "trust= needs the path of the package, whose signatures are in a file beside it; for "
            "bytes and file objects, pass digest="
        )
    return trust.check(digest, signatures_of(source), datetime.now(UTC))


def signatures_of(source: Openable, digest: str = "") -> tuple[PackageSignature, ...]:
    """The signatures beside a package, or those that a Reference gives; of a digest alone where one is given.

    Bytes have none. Raises UntrustedError for those that cannot be read.
    """
    from modelkit.store.folder import DiskFolder

    try:
        if isinstance(source, Reference):
            found = read_signatures(source.signatures(), repr(source))
        elif isinstance(source, str | os.PathLike):
            path = _beside(source)
            folder, name = os.path.split(path)
            found = read_signatures(DiskFolder(folder).read(name, MOST_BYTES), path)
        else:
            return ()
    except NotAFile as error:
        raise UntrustedError(f"the signatures cannot be read: {error}") from None
    return tuple(each for each in found if digest in ("", each.digest))


def copy_signatures(source: Openable, digest: str, path: str | os.PathLike[str]) -> None:
    """Put the signatures of a digest beside another copy of the package."""
    found = signatures_of(source, digest)
    if found:
        write_file(Path(_beside(path)), write_signatures(found))


def _beside(path: str | os.PathLike[str]) -> str:
    """The file of the signatures of a package."""
    return f"{os.fspath(path)}.sig"


def read_signatures(data: bytes | None, where: str) -> tuple[PackageSignature, ...]:
    """The inverse of `write_signatures`; none of None. Raises UntrustedError."""
    if data is None:
        return ()
    try:
        return from_record(SignatureFile, data.decode(), SCHEMA, where).signatures
    except ValueError as error:
        raise UntrustedError(
            f"the signatures cannot be read, {str(error)[:300]}; remove the file and sign the package "
            f"again: {where}"
        ) from None


def write_signatures(signatures: Sequence[PackageSignature]) -> bytes:
    """The content of a file of signatures."""
    return to_record(SignatureFile(tuple(signatures)), SCHEMA).encode()

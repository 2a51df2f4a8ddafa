"""Sealed packages: every member is ciphertext, which the holders of a recipient's key can read.

The container is the same: `modelkit.json` in clear, then `sealed.json`, then each member under its
own path. A random data key gives a key for each member and one for the HMAC over the recipients, by
HKDF-SHA256 (RFC 5869). A member is AES-256-GCM in chunks of 1 MiB; the nonce is the number of the
chunk and whether it is the last, as in the payload of age (age-encryption.org/v1). The id of the
seal, the digest of the package and the path go into the key, so a chunk opens in its own place
only. HPKE (RFC 9180) wraps the data key for a public key of X25519.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.json import parse_json
from modelkit.errors import IntegrityError, UntrustedError, UsageError
from modelkit.model.manifest import MAX_MANIFEST_BYTES, Manifest, Member
from modelkit.package import container
from modelkit.package.contents import MANIFEST, SEALED, is_sealed
from modelkit.package.keys import lasting, primitives, private_key, public_key
from modelkit.package.signing import copy_signatures
from modelkit.package.source import Openable, open_bytes, read_verified
from modelkit.package.write import replace_file
from modelkit.report import html
from modelkit.runtimes.bulk import run_all
from modelkit.runtimes.machine import release, usable_cpus

CHUNK = 1 << 20
TAG = 16  # bytes that AES-GCM adds to a chunk
KEY_BYTES = 32
MOST_RECIPIENTS = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@_+-]{0,63}")  # of a recipient
HEX = re.compile("(?:[0-9a-f]{2})+")


@final
@dataclass(frozen=True)
class Seal:
    """What `sealed.json` holds: a random id, the wrapped data key by recipient, and their HMAC."""

    id: str
    mac: str
    recipients: dict[str, str]

    @property
    def fits(self) -> bool:
        """Whether it is written and read: it is small, and has some recipients with plain names."""
        digits = (self.id, self.mac, *self.recipients.values())
        return (
            0 < len(self.recipients) <= MOST_RECIPIENTS
            and all(map(NAME.fullmatch, self.recipients))
            and all(map(HEX.fullmatch, digits))
            and len(self.to_json()) <= MAX_MANIFEST_BYTES
        )

    def to_json(self) -> bytes:
        """The one form that is read: no two texts say the same."""
        return json.dumps(vars(self), sort_keys=True, indent=1).encode() + b"\n"


@final
class DataKey:
    """The key of one sealed package, from which each purpose gets its own."""

    def __init__(self, secret: bytes, seal_id: str, digest: str) -> None:
        self._secret = secret
        self.id = seal_id
        self.place = partial(_place, seal_id, digest)

    def derived(self, purpose: str) -> bytes:
        """The key for a purpose: the path of a member, or what no path can be."""
        sha256 = primitives("hashes").SHA256()
        hkdf = primitives("kdf.hkdf").HKDF(sha256, KEY_BYTES, None, self.place(purpose))
        return bytes(hkdf.derive(self._secret))

    def mac(self, recipients: Mapping[str, str]) -> str:
        """The HMAC over the recipients, in hex."""
        listed = json.dumps(recipients, sort_keys=True).encode()
        return hmac.new(self.derived("MAC"), listed, hashlib.sha256).hexdigest()

    def cipher(self, path: str) -> Any:
        """What encrypts a member."""
        return primitives("ciphers.aead").AESGCM(self.derived(path))

    def wrapped_for(self, name: str, recipient: Any) -> str:
        """The data key in hex, as a recipient gets it: under its public key, or by its function."""
        if not callable(recipient):
            key = public_key(recipient, "x25519")
            try:
                return str(_suite().encrypt(self._secret, key, self.place(f"TO {name}")).hex())
            except ValueError:  # of a point of low order, with which every secret is the same
                raise UsageError(f"the key of recipient {name!r} hides nothing") from None
        wrapped = recipient(self._secret)
        if not isinstance(wrapped, bytes) or not wrapped or self._secret in wrapped:
            raise UsageError(
                f"the function of recipient {name!r} has to give the data key as bytes that hide "
                f"it; it gave {type(wrapped).__name__}"
            )
        return wrapped.hex()


def _place(seal_id: str, digest: str, purpose: str) -> bytes:
    """What a key is for. The purpose stands last, without line ends."""
    return f"modelkit seal 1\n{seal_id}\n{digest}\n{purpose}".encode()


def seal(
    source: Openable,
    recipients: Mapping[str, Any],
    *,
    out: str | os.PathLike[str],
    unseal: Any = None,
) -> Manifest:
    """Encrypt a package for recipients, each of whom can open it alone.

        mk.seal("churn.mk", {"scoring": "scoring.pub"}, out="churn.sealed.mk")
        mk.load("churn.sealed.mk", unseal="scoring.pem")

    `modelkit.json` stays readable: name, version, signature, digest, hashes and metadata. Sealing
    changes neither digest, so the signatures beside the package hold, and are put beside `out`. A
    package that is sealed already gets other recipients: only `sealed.json` changes. Whoever could
    open the old file still can, and the data key in it opens the new one.

    Args:
        source: the package, as `load` takes it. It stays as it is; delete it where it must not be.
        recipients: names, such as "scoring", with what wraps the data key for each: a public key of
            X25519 (the path of a PEM file, "env:NAME", the bytes of PEM, or a key of
            `cryptography`), or a function of the 32 bytes that gives the wrapped key as bytes, such
            as a call to a KMS.
        out: where to write the sealed package. The file appears whole or not at all.
        unseal: of a package that is sealed already, as `load` takes it.

    Returns:
        The manifest, which equals the source's.

    Raises:
        PackageError: if the source cannot be read, is damaged, is sealed and `unseal` does not open
            it, or is not sealed and `unseal` was passed.
        UsageError: for no recipient or more than 1,000, a name or key that cannot be used, and a
            function that does not give bytes, gives too many, or gives the data key as it is.
        TypeError: for recipients that are not a mapping.
        MissingExtraError: if cryptography is not installed.
    """
    if not isinstance(recipients, Mapping):
        raise TypeError(f"recipients are keys by name, not {type(recipients).__name__}")
    unseal = lasting(unseal)
    manifest, views = read_verified(open_bytes(source))
    members: container.Members = {MANIFEST: bytes(views[MANIFEST]), SEALED: b""}
    if check_unseal(views, unseal):
        key = _open_key(views, manifest, unseal)
        members |= {path: bytes(view) for path, view in views.items()}
    else:
        key = DataKey(os.urandom(KEY_BYTES), os.urandom(16).hex(), manifest.digest)
        members |= {each.path: _encrypted(key, views[each.path], each) for each in manifest.files}
    del views  # Windows replaces no file that is mapped
    wrapped = {str(name): key.wrapped_for(name, recipients[name]) for name in recipients}
    made = Seal(key.id, key.mac(wrapped), wrapped)
    if not made.fits:
        raise UsageError(
            f"a package is sealed for 1 to {MOST_RECIPIENTS} recipients, whose names match "
            f"{NAME.pattern}, and whose wrapped keys take at most 1 MiB in hexadecimal digits"
        )
    members[SEALED] = made.to_json()
    replace_file(Path(out), members)
    copy_signatures(source, manifest.digest, out)
    return manifest


def check_unseal(members: Mapping[str, memoryview], unseal: Any) -> bool:
    """Whether a package is sealed.

    Raises UntrustedError for one without `unseal`, and IntegrityError for `unseal` with another one.
    """
    sealed = is_sealed(members)
    if sealed and unseal is None:
        raise UntrustedError(
            f"the package is sealed for {_names(read_seal(members))}: pass unseal= with the private "
            'key of one of them, as a path or "env:NAME", or the function that unwraps its data key',
            missing=("unseal=",),
        )
    if not sealed and unseal is not None:
        raise IntegrityError(
            "unseal= was passed, and the package is not sealed, so it may have taken the place of one "
            "that is; if it is the one that you mean, leave out unseal="
        )
    return sealed


def unsealed(
    members: Mapping[str, memoryview], manifest: Manifest, unseal: Any
) -> container.Members:
    """The members of a sealed package in memory. Their hashes are not checked here.

    Raises what `check_unseal` does, UntrustedError for a key of nobody whom it is sealed for, and
    IntegrityError for anything that was changed.
    """
    check_unseal(members, unseal)
    key = _open_key(members, manifest, unseal)
    return {each.path: _decrypted(key, members[each.path], each) for each in manifest.files}


def read_seal(members: Mapping[str, memoryview]) -> Seal:
    """What `sealed.json` holds. Raises IntegrityError for anything that `seal` does not write."""
    raw = bytes(members[SEALED][: MAX_MANIFEST_BYTES + 1])
    try:
        found = fields.read_object(Seal, parse_json(raw[:MAX_MANIFEST_BYTES].decode()), SEALED)
    except (RecursionError, ValueError) as error:
        raise IntegrityError(f"{SEALED} cannot be read: {error}", member=SEALED) from None
    if not found.fits or found.to_json() != raw:
        raise IntegrityError(f"{SEALED} is not as modelkit writes it", member=SEALED)
    return found


def _names(found: Seal) -> str:
    return html.some(list(found.recipients))


def _open_key(members: Mapping[str, memoryview], manifest: Manifest, unseal: Any) -> DataKey:
    """The data key, and the recipients were found to be those it was wrapped for."""
    found = read_seal(members)
    unwrap = unseal
    if not callable(unseal):
        place = partial(_place, found.id, manifest.digest)
        unwrap = partial(_unwrapped, private_key(unseal, "x25519"), place)
    for name, wrapped in found.recipients.items():
        secret = unwrap(bytes.fromhex(wrapped), name)
        if secret is not None:
            break
    else:
        given = repr(unseal) if isinstance(unseal, str) else ""
        raise UntrustedError(
            f"the package is sealed for {_names(found)}, and unseal={given} opens it for none of them: pass "
            "the private key of one, or have it sealed for you too"
        )
    key = DataKey(secret, found.id, manifest.digest)
    fits, given = isinstance(secret, bytes) and len(secret) == KEY_BYTES, type(secret).__name__
    del secret  # who reports an error may report the variables of this function
    if not fits:
        raise UsageError(
            f"the function unseal= gives the {KEY_BYTES} bytes of the data key, or None for a "
            f"recipient that it is not; for {name!r} it gave {given}"
        )
    if not hmac.compare_digest(key.mac(found.recipients), found.mac):
        raise IntegrityError(
            f"the recipients in {SEALED} were changed, or belong to another package", member=SEALED
        )
    return key


def _unwrapped(key: Any, place: Callable[[str], bytes], wrapped: bytes, name: str) -> bytes | None:
    """A data key that was wrapped for a public key; None where that was another one."""
    from cryptography.exceptions import InvalidTag

    try:
        return bytes(_suite().decrypt(wrapped, key, place(f"TO {name}")))
    except InvalidTag:
        return None


def _chunks(
    sealed: memoryview, plain: memoryview
) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """The nonce of each chunk, and where it lies in a sealed member and in the plain one."""
    count = _count(len(plain))
    for number in range(count):
        nonce = number.to_bytes(11, "big") + bytes([number == count - 1])
        start = number * CHUNK
        at = start + number * TAG
        yield nonce, sealed[at : at + CHUNK + TAG], plain[start : start + CHUNK]


def _count(size: int) -> int:
    """The number of chunks of a member; an empty one has a chunk too."""
    return max(1, -(-size // CHUNK))


def _encrypted(key: DataKey, plain: memoryview, member: Member) -> memoryview:
    cipher = key.cipher(member.path)
    sealed = memoryview(bytearray(len(plain) + _count(len(plain)) * TAG))
    for nonce, box, part in _chunks(sealed, plain):
        cipher.encrypt_into(nonce, part, None, box)
    return sealed


def _decrypted(key: DataKey, sealed: memoryview, member: Member) -> memoryview:
    from cryptography.exceptions import InvalidTag

    cipher = key.cipher(member.path)
    count = _count(member.size)

    def open_chunk(nonce: bytes, box: memoryview, part: memoryview) -> None:
        cipher.decrypt_into(nonce, box, None, part)
        release(sealed)  # else the ciphertext would be in memory beside the weights

    try:
        if member.size < 0 or len(sealed) != member.size + count * TAG:
            raise InvalidTag
        plain = np.empty(member.size, np.uint8).data  # its pages come as they are written
        run_all(open_chunk, _chunks(sealed, plain), min(usable_cpus(), count) - 1)
    except InvalidTag:
        raise IntegrityError(
            f"member {member.path!r} of the sealed package was changed or damaged, or is of another one",
            member=member.path,
        ) from None
    return plain.toreadonly()


def _suite() -> Any:
    hpke = primitives("hpke")
    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)

"""Keys in PEM: of Ed25519, which sign packages, and of X25519, for which packages are sealed.

The algorithm follows from the key that the caller passes, never from a file that is checked.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from modelkit.errors import UsageError, importing

Algorithm = Literal["ed25519", "x25519"]
ENVIRONMENT = "env:"  # begins the name of an environment variable that holds a key


def private_key(given: Any, algorithm: Algorithm) -> Any:
    """The private key that a caller passed: a path, "env:NAME", the bytes of PEM, or a key.

    Raises UsageError for anything else: another algorithm, a public key, a key under a password.
    """
    kind = getattr(_library(algorithm), f"{algorithm.title()}PrivateKey")
    key = _parsed(given, "load_pem_private_key", password=None)
    if not isinstance(key, kind):
        raise _wrong(key, algorithm, "private")
    return key


def public_key(given: Any, algorithm: Algorithm) -> Any:
    """The public key that a caller passed, in the forms that `private_key` takes."""
    kind = getattr(_library(algorithm), f"{algorithm.title()}PublicKey")
    key = _parsed(given, "load_pem_public_key")
    if not isinstance(key, kind):
        raise _wrong(key, algorithm, "public")
    return key


def key_id(key: Any) -> str:
    """The id of a public key: the sha256 of its 32 bytes, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether an Ed25519 signature of some data is by the key whose 32 public bytes these are."""
    from cryptography.exceptions import InvalidSignature

    try:
        _library("ed25519").Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _library(module: str) -> ModuleType:
    from importlib import import_module

    with importing("cryptography", "a signed or sealed package", "trust"):
        return import_module(f"cryptography.hazmat.primitives.asymmetric.{module}")


def _parsed(given: Any, parse: str, **password: None) -> Any:
    """What a PEM text holds; a key of the library is what it is."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if not isinstance(given, str | os.PathLike | bytes):
        return given
    try:
        return getattr(serialization, parse)(_text(given), **password)
    except TypeError:  # what the library raises for a key under a password
        raise UsageError(
            f"{_named(given)} is under a password: open it by cryptography's load_pem_private_key and "
            "pass the key"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        kind = "private" if "private" in parse else "public"
        raise UsageError(f"{_named(given)} is not a {kind} key in PEM: {error}") from None


def _text(given: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(given, bytes):
        return given
    if isinstance(given, str) and given.startswith(ENVIRONMENT):
        name = given.removeprefix(ENVIRONMENT)
        if name not in os.environ:
            raise UsageError(
                f"the environment variable {name!r}, which was to hold a key, is not set"
            )
        return os.environ[name].encode()
    return Path(given).read_bytes()


def _named(given: str | os.PathLike[str] | bytes) -> str:
    return "the key" if isinstance(given, bytes) else repr(os.fspath(given))


def _wrong(key: Any, algorithm: str, kind: str) -> UsageError:
    return UsageError(
        f"a {kind} key of {algorithm.title()} is needed here, not {type(key).__name__}; `openssl "
        f"genpkey -algorithm {algorithm}` makes a private key, and `openssl pkey -pubout` its public part"
    )

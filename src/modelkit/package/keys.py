"""Keys in PEM: of Ed25519, which sign packages, and of X25519, for which packages are sealed.

The algorithm follows from the key that the caller passes, never from a file that is checked.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NoReturn, final

from modelkit.errors import UsageError, importing

Algorithm = Literal["ed25519", "x25519"]
ENVIRONMENT = "env:"  # begins the name of an environment variable that holds a key


def private_key(given: Any, algorithm: Algorithm) -> Any:
    """The private key that a caller passed: a path, "env:NAME", the bytes of PEM, or a key.

    Raises UsageError for anything else: another algorithm, a public key, a key under a password.
    """
    return _key(given, algorithm, "private")


def public_key(given: Any, algorithm: Algorithm) -> Any:
    """The public key that a caller passed, in the forms that `private_key` takes."""
    return _key(given, algorithm, "public")


def key_id(key: Any) -> str:
    """The id of a public key: the sha256 of its 32 bytes, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether an Ed25519 signature of some data is by the key whose 32 public bytes these are."""
    key = primitives("asymmetric.ed25519").Ed25519PublicKey.from_public_bytes(public)
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def lasting(given: Any) -> Any:
    """What opens sealed packages, as it is kept by a value that may be pickled.

    A function and "env:NAME" stay, a path becomes absolute, and a key in memory is not pickled.
    Raises UsageError for the text of a key.
    """
    if isinstance(given, str | os.PathLike):
        path = _path(given)
        return path if path.startswith(ENVIRONMENT) else os.path.abspath(path)
    stays = given is None or callable(given) or isinstance(given, KeyInMemory)
    return given if stays else KeyInMemory(given)


@final
class KeyInMemory:
    """Holds a key that is neither pickled nor shown."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "what opens a sealed package is pickled with unseal=, and this was a key in memory, which "
            'is not written anywhere: pass the path of the key, "env:NAME", or a function of a module'
        )


def primitives(module: str) -> ModuleType:
    """A module of the primitives of cryptography. Raises MissingExtraError."""
    from importlib import import_module

    with importing("cryptography", "a signed or sealed package", "trust"):
        return import_module(f"cryptography.hazmat.primitives.{module}")


def _key(given: Any, algorithm: Algorithm, part: Literal["private", "public"]) -> Any:
    kind = getattr(primitives(f"asymmetric.{algorithm}"), f"{algorithm.title()}{part.title()}Key")
    found = given.key if isinstance(given, KeyInMemory) else given
    named = "the key"
    if isinstance(found, str | os.PathLike | bytes):
        named = named if isinstance(found, bytes) else repr(_path(found))
        found = _parsed(_text(found), part, named)
    if not isinstance(found, kind):
        what = found if isinstance(found, str) else type(found).__name__
        raise UsageError(
            f"{named} is not a {part} key of {algorithm.title()}, but {what}; `openssl genpkey -algorithm "
            f"{algorithm}` makes a private key, and `openssl pkey -pubout` its public part"
        )
    return found


def _parsed(text: bytes, part: str, named: str) -> Any:
    """The key in a PEM text, or in words what that is instead."""
    from cryptography.exceptions import UnsupportedAlgorithm

    parse = getattr(primitives("serialization"), f"load_pem_{part}_key")
    try:
        return parse(text, None)  # None: a private key is without a password here
    except TypeError:  # what the library raises for a key under a password
        raise UsageError(
            f"{named} is under a password: open it by cryptography's load_pem_private_key and "
            "pass the key"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        other = "public" if part == "private" else "private"
        is_other = f"{other} KEY-".upper().encode() in text
        return f"a {other} key" if is_other else "a text that cannot be read as one"


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


def _path(given: str | os.PathLike[str]) -> str:
    """A path, or "env:NAME". Raises UsageError for the text of a key, which would be shown and pickled as a path is."""
    path = os.fspath(given)
    if "-----BEGIN" in path:
        raise UsageError("the text of a key was passed, as a path: pass its bytes, text.encode()")
    return path

"""Which arm a unit goes to; pure.

A unit is a key or, without keys, a call. A key goes where its hash, salted for the rollout, says:
the keys of a small share are among the keys of every larger one, and two rollouts of different
salts choose independently of each other.
"""

from __future__ import annotations

from hashlib import blake2b

WHOLE = 1 << 64
LOW_BITS = (1 << 32) - 1  # the bits of a hash that say nothing of the arm


def limit_of(share: float) -> int:
    """The hash below which a key goes to the candidate. Raises ValueError beyond 0 to 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share is from 0 to 1, not {share!r}")
    return int(share * WHOLE)


def place_of(unit: int) -> int:
    """The place of a key in an order that knows nothing of its arm, nor of what became of it."""
    return unit & LOW_BITS


def hash_of(key: str, salt: bytes) -> int:
    """The hash of a key, from 0 to 2^64 - 1; the same on every machine.

    Args:
        key: any text, surrogates too.
        salt: at most 64 bytes, which are the rollout's own.

    Raises TypeError for a key that is not a text.
    """
    try:
        text = key.encode("utf-8", "surrogatepass")
    except AttributeError:
        raise TypeError(f"a key is a text, such as str(customer); got {key!r}") from None
    return int.from_bytes(blake2b(text, digest_size=8, key=salt).digest(), "big")

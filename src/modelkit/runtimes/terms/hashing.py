"""MurmurHash3 of terms, by which a vectorizer without a vocabulary finds their columns.

The 32-bit variant for x86 with the seed 0 (A. Appleby, 2011, in the public domain).
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
FIRST = 0xCC9E2D51
SECOND = 0x1B873593
ADDED = 0xE6546B64
LEAST = -(1 << 31)


def murmur(data: bytes) -> int:
    """The hash of some bytes, as a signed number of 32 bits."""
    found = 0
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        found ^= _scrambled(int.from_bytes(data[at : at + 4], "little"))
        found = ((found << 13) | (found >> 19)) & MASK
        found = (found * 5 + ADDED) & MASK
    if whole < len(data):
        found ^= _scrambled(int.from_bytes(data[whole:], "little"))
    found ^= len(data)
    found ^= found >> 16
    found = (found * 0x85EBCA6B) & MASK
    found ^= found >> 13
    found = (found * 0xC2B2AE35) & MASK
    found ^= found >> 16
    return found - (1 << 32) if found >> 31 else found


def _scrambled(block: int) -> int:
    block = (block * FIRST) & MASK
    block = ((block << 15) | (block >> 17)) & MASK
    return (block * SECOND) & MASK


def bucket_of(term: str, buckets: int) -> tuple[int, int]:
    """The column of a term among `buckets` columns, and the sign that its count is added with."""
    # Half a surrogate pair, which the source refuses, has a hash here: a row fails no batch.
    found = murmur(term.encode("utf-8", "surrogatepass"))
    if found == LEAST:  # whose size is no signed number of 32 bits
        return (-LEAST - 1 - (buckets - 1)) % buckets, -1
    return abs(found) % buckets, 1 if found >= 0 else -1

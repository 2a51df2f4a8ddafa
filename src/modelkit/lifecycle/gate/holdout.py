"""The labelled rows of a gate in one order, what tells them apart, and how often they were used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.registry.shelf import Shelf
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import TensorSpec
from modelkit.store.sequence import Sequence

ROW_KEY = 16  # bytes


class HoldOut(NamedTuple):
    """An order of rows that does not depend on the one they came in, and their digest."""

    order: Array
    digest: str


def hold_out_of(
    feeds: Feeds, signature: Signature, truth: Array, beside: Mapping[str, Array]
) -> HoldOut:
    """Put rows in the order of their hashes.

    Args:
        feeds: the rows, as a signature has coerced them.
        signature: that one.
        truth: of the rows, (n,) or (n, L).
        beside: what else belongs to rows, (n,) each, such as their clusters; it enters the order of
            rows that are equal else, and not the digest.

    Two rows that are equal in everything are exchangeable.
    """
    n = len(truth)
    header = [f"truth {truth.dtype.str} {truth.shape[1:]}"]
    columns = [_as_bytes(truth.reshape(n, -1))]
    for spec in signature.inputs:
        told, rows = _of_tensor(feeds[spec.name], spec, signature.row_dim)
        header.append(told)
        if rows is not None:
            columns.append(_as_bytes(rows.reshape(n, -1)))
    keys = _row_keys(columns)
    more = _row_keys([_as_bytes(values.reshape(n, -1)) for values in beside.values()], n)
    order = np.lexsort((*more.T[::-1], *keys.T[::-1]))
    digest = hashlib.sha256("\0".join(header).encode())
    digest.update(np.ascontiguousarray(keys[order]).tobytes())
    return HoldOut(order, digest.hexdigest())


def _of_tensor(values: Array, spec: TensorSpec, row_dim: str | None) -> tuple[str, Array | None]:
    """What all rows of a tensor share, as text, and the rows; None where it has none."""
    told = f"{spec.name} {values.dtype.str}"
    if row_dim not in spec.shape:
        return f"{told} {_as_bytes(values.reshape(1, -1)).tobytes().hex()}", None
    rows = np.moveaxis(values, spec.shape.index(row_dim), 0)
    return f"{told} {rows.shape[1:]}", rows


def _as_bytes(values: Array) -> Array:
    """Values (n, k) as bytes (n, m), equal ones as equal bytes."""
    if values.dtype == object:
        known, codes = np.unique(values.astype(str), return_inverse=True)
        texts = [_digest(text.encode("utf-8", "surrogatepass")) for text in known.tolist()]
        table = np.frombuffer(b"".join(texts), np.uint8).reshape(-1, ROW_KEY)
        return table[codes.reshape(len(values), -1)].reshape(len(values), -1)
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0.0 is 0.0
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=ROW_KEY).digest()


def _row_keys(columns: list[Array], n: int = 0) -> Array:
    """A hash of each row of bytes, uint64 (n, 2)."""
    if not columns:
        return np.zeros((n, 2), ">u8")
    data = np.ascontiguousarray(np.concatenate(columns, axis=1))
    width = data.shape[1]
    whole = data.tobytes()
    keys = [_digest(whole[at : at + width]) for at in range(0, len(whole), width)]
    return np.frombuffer(b"".join(keys), ">u8").reshape(-1, 2)


def counted_use(shelf: Shelf, gate: str) -> int:
    """Which use of a hold-out a gate is, from 1; the same gate again is the same use.

    Args:
        shelf: of the hold-out.
        gate: the digest of both models and of what was asked.
    """
    return Sequence(shelf, "uses").append(gate.encode())


def share_of_alpha(alpha: float, use: int) -> float:
    """The part of alpha that a use of a hold-out has: alpha / (k (k + 1)).

    The parts of all uses add up to alpha, however many there are: the sum to k is alpha k / (k + 1).
    So the probability that any candidate, of as many as one likes, is promoted falsely is at most
    alpha (Bonferroni). 0 uses are not counted, and have all of it.
    """
    return alpha / (use * (use + 1)) if use else alpha

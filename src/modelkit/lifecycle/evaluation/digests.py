"""The digest of rows and their truth: whether two evaluations, or gates, are of the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.signature import Feeds, Signature

ROW_KEY = 16  # bytes


class RowKeys(NamedTuple):
    """A hash of each row, uint64 (n, 2), and the digest of all, which their order does not change."""

    keys: Array
    digest: str


def keys_of_feeds(feeds: Feeds, signature: Signature, truth: Array | None = None) -> RowKeys:
    """The keys of rows as a model takes them, with their truth, (n,) or (n, L), if it is given."""
    rows = {} if truth is None else {"truth": truth}
    shared = {}
    for spec in signature.inputs:
        values = feeds[spec.name]
        if signature.row_dim in spec.shape:
            rows[f"X: {spec.name}"] = np.moveaxis(values, spec.shape.index(signature.row_dim), 0)
        else:
            shared[spec.name] = values
    return keys_of_rows(rows, shared)


def keys_of_rows(rows: Mapping[str, Array], shared: Mapping[str, Array] | None = None) -> RowKeys:
    """The keys of rows that are arrays (n, ...) by name, and of what all of them share.

    Equal rows have equal keys. The digest is of the sum of the keys, and of names, dtypes and shapes.
    """
    digest = hashlib.sha256()
    columns = []
    for name, values in rows.items():
        digest.update(f"{name} {values.dtype.str} {values.shape[1:]}\0".encode())
        columns.append(_as_bytes(values.reshape(len(values), -1)))
    for name, values in (shared or {}).items():
        digest.update(f"{name} {values.dtype.str} {values.shape}\0".encode())
        digest.update(_as_bytes(values.reshape(1, -1)).tobytes())
    keys = _row_keys(columns)
    digest.update(len(keys).to_bytes(8, "big") + keys.sum(axis=0).tobytes())
    return RowKeys(keys, digest.hexdigest())


def _as_bytes(values: Array) -> Array:
    """Values (n, k) as bytes (n, m), equal ones as equal bytes."""
    if values.dtype == object:
        known, codes = np.unique(values.astype(str), return_inverse=True)
        texts = [_hash(text.encode("utf-8", "surrogatepass")) for text in known.tolist()]
        table = np.frombuffer(b"".join(texts), np.uint8).reshape(-1, ROW_KEY)
        return table[codes.reshape(len(values), -1)].reshape(len(values), -1)
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0.0 is 0.0
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=ROW_KEY).digest()


def _row_keys(columns: list[Array]) -> Array:
    """A hash of each row of bytes, uint64 (n, 2)."""
    data = np.ascontiguousarray(np.concatenate(columns, axis=1))
    width = data.shape[1]
    whole = data.tobytes()
    keys = [_hash(whole[at : at + width]) for at in range(0, len(whole), width)]
    return np.frombuffer(b"".join(keys), ">u8").reshape(-1, 2).astype(np.uint64)

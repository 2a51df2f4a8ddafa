"""From a vector for each token to one for the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit.cast import Array


def pool(hidden: Array, lengths: Array, pooling: str) -> Array:
    """One float32 vector for each text.

    Args:
        hidden: a vector for each token, (texts, tokens, d); what is beyond the length of a text is
            padding.
        lengths: the tokens of each text, (texts,), at least 1.
        pooling: "mean" or "max" over the tokens, or the "cls" (first) or "last" token.
    """
    hidden = hidden.astype(np.float32, copy=False)
    if pooling == "cls":
        return np.asarray(hidden[:, 0])
    if pooling == "last":
        return np.asarray(hidden[np.arange(len(hidden)), lengths - 1])
    held = np.arange(hidden.shape[1]) < lengths[:, None]
    if pooling == "max":
        return np.asarray(np.where(held[:, :, None], hidden, -np.inf).max(axis=1))
    with np.errstate(invalid="ignore"):
        total = np.matmul(held[:, None, :].astype(np.float32), hidden)[:, 0]
    if not np.isfinite(
        total
    ).all():  # some graphs give NaN where nothing is attended to, and 0 times that is NaN
        total = np.where(held[:, :, None], hidden, 0).sum(axis=1)
    return np.asarray(total / lengths[:, None].astype(np.float32))


def unit(vectors: Array) -> Array:
    """Vectors of length 1; a vector of zeros stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1).astype(vectors.dtype))


def pad(
    rows: Sequence[Array], names: Sequence[str], dtypes: Sequence[str], padding: int
) -> tuple[dict[str, Array], Array]:
    """The tensors of one run by name, each (texts, tokens), and the tokens of each text."""
    lengths = np.array([len(row) for row in rows])
    width = int(lengths.max())
    held = np.arange(width) < lengths[:, None]
    feeds = {}
    for name, dtype in zip(names, dtypes, strict=True):
        if name == "input_ids":
            tensor = np.full(held.shape, padding, dtype)
            tensor[held] = np.concatenate(rows)
        elif name == "attention_mask":
            tensor = held.astype(dtype)
        elif name == "position_ids":
            tensor = np.broadcast_to(np.arange(width, dtype=dtype), held.shape).copy()
        else:  # token_type_ids: one text is one segment
            tensor = np.zeros(held.shape, dtype)
        feeds[name] = tensor
    return feeds, lengths

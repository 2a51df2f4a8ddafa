"""From a vector for each token to one for the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.spec import TensorSpec


def pool(hidden: Array, lengths: Array, pooling: str) -> Array:
    """One vector for each text, float32 (texts, d).

    Args:
        hidden: a vector for each token, (texts, tokens, d), padded behind the tokens of a text.
        lengths: the tokens of each text, (texts,), at least 1.
        pooling: "mean" or "max" over the tokens, the "cls" (first) or "last" token, or "splade":
            the logarithm of 1 plus the maximum over the tokens, where that is positive (Formal et
            al. 2021, SPLADE v2); or "none" for a `hidden` of finished vectors.
    """
    hidden = hidden.astype(np.float32, copy=False)
    if pooling == "none":
        return hidden
    if pooling == "cls":
        return np.asarray(hidden[:, 0])
    if pooling == "last":
        rows = np.arange(len(hidden))
        return np.asarray(hidden[rows, lengths - 1])
    held = np.arange(hidden.shape[1]) < lengths[:, None]
    if pooling in ("max", "splade"):
        masked = np.where(held[:, :, None], hidden, -np.inf)
        most = np.asarray(masked.max(axis=1))
        return most if pooling == "max" else np.log1p(np.maximum(most, 0))
    return np.asarray(_sums(hidden, held) / lengths[:, None].astype(np.float32))


def _sums(hidden: Array, held: Array) -> Array:
    """The sum of the vectors of each text, without padding."""
    with np.errstate(invalid="ignore"):
        total = np.matmul(held[:, None, :].astype(np.float32), hidden)[:, 0]
    # Some graphs give NaN for padding, and 0 times that is NaN.
    if not np.isfinite(total).all():
        total = np.where(held[:, :, None], hidden, 0).sum(axis=1)
    return np.asarray(total)


def unit(vectors: Array) -> Array:
    """The vectors scaled to length 1, (n, d); a vector of zeros stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    divisors = np.where(norms > 0, norms, 1).astype(vectors.dtype)
    return np.asarray(vectors / divisors)


def pad(
    rows: Sequence[Array], inputs: Sequence[TensorSpec], padding: int
) -> tuple[dict[str, Array], Array]:
    """The tensors of one run by name, each (texts, tokens), and the tokens of each text.

    `rows` are the ids of each text, (tokens,); or ids and segments of each pair, (tokens, 2).
    """
    lengths = np.array([len(row) for row in rows])
    positions = np.arange(lengths.max())
    held = positions < lengths[:, None]
    tokens = np.concatenate(rows)
    feeds = {}
    for spec in inputs:
        tensor = np.zeros(held.shape, spec.dtype)  # token_type_ids: one text is one segment
        if spec.name == "input_ids":
            tensor[:] = padding
            tensor[held] = tokens if tokens.ndim == 1 else tokens[:, 0]
        elif spec.name == "token_type_ids" and tokens.ndim == 2:
            tensor[held] = tokens[:, 1]
        elif spec.name == "attention_mask":
            tensor[:] = held
        elif spec.name == "position_ids":
            tensor[:] = positions
        feeds[spec.name] = tensor
    return feeds, lengths

"""Embeddings as 19 numbers: the nearest of 32 centroids, the distance to it, 16 principal components, what they leave.

A shift, a new topic or another spread of the vectors shows in one of these, and each is monitored
like a column.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from modelkit.cast import Array
from modelkit.errors import DriftError, importing

COMPONENTS = 16
CENTROIDS = 32
SAMPLE = 4096  # rows that centroids and components are found from


@final
@dataclass(frozen=True, eq=False)
class Basis:
    """What vectors of one embedding are compared with.

    `mean` (d,), `components` (up to 16, d) and `centroids` (up to 32, d) are float16, of vectors
    divided by `scale`.
    """

    mean: Array
    components: Array
    centroids: Array
    scale: float

    def same(self, other: Basis) -> bool:
        """Whether vectors are made into the same numbers."""
        pairs = (
            (self.mean, other.mean),
            (self.components, other.components),
            (self.centroids, other.centroids),
        )
        return self.scale == other.scale and all(np.array_equal(mine, its) for mine, its in pairs)

    def numbers(self, vectors: Array, name: str) -> dict[str, Array]:
        """Columns made of vectors (n, d), each (n,).

        Raises DriftError for another d. A vector with NaN is missing.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise DriftError(
                f"embedding {name!r} has shape {vectors.shape}; the profile knows (n, "
                f"{len(self.mean)})"
            )
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # what is too large for a distance is missing or infinite
            return self._numbers(_floats(vectors, name) / np.float32(self.scale), name)

    def _numbers(self, x: Array, name: str) -> dict[str, Array]:
        centroids = self.centroids.astype(np.float32)
        away = (
            (x * x).sum(axis=1)[:, None] - 2 * x @ centroids.T + (centroids * centroids).sum(axis=1)
        )
        nearest = np.argmin(away, axis=1)
        gone = np.isnan(away).any(axis=1)
        centred = x - self.mean.astype(np.float32)
        scores = centred @ self.components.astype(np.float32).T
        left = (centred * centred).sum(axis=1) - (scores * scores).sum(axis=1)
        columns = {
            f"{name}: centroid": np.where(gone, np.nan, nearest),
            f"{name}: distance": np.sqrt(np.maximum(away[np.arange(len(x)), nearest], 0)),
            f"{name}: residual": np.sqrt(np.maximum(left, 0)),
        }
        return columns | {
            f"{name}: component {i + 1}": scores[:, i] for i in range(scores.shape[1])
        }


def fit_basis(vectors: Array, name: str, seed: int) -> Basis:
    """A basis from training vectors (n, d). Raises DriftError for fewer than 64 whole ones."""
    with importing("scipy", "a profile of embeddings", "drift"):
        from scipy.cluster.vq import kmeans2

    with np.errstate(over="ignore"):
        vectors = _floats(vectors, name)
    whole = vectors[np.isfinite(vectors).all(axis=1)]
    if len(whole) < 2 * CENTROIDS:
        raise DriftError(
            f"embedding {name!r} has {len(whole)} whole vectors; {2 * CENTROIDS} are needed",
            feature=name,
        )
    rng = np.random.default_rng(seed)
    if len(whole) > SAMPLE:
        whole = whole[np.sort(rng.choice(len(whole), SAMPLE, replace=False))]
    scale = float(np.abs(whole).max()) or 1.0
    whole = whole / np.float32(scale)
    mean = whole.mean(axis=0)
    _, _, axes = np.linalg.svd(whole - mean, full_matrices=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a centroid is nobody's nearest: it is left out below
        centroids, member = kmeans2(whole, CENTROIDS, iter=20, minit="++", seed=rng)
    used = np.bincount(member, minlength=CENTROIDS)
    by_size = np.argsort(-used, kind="stable")
    return Basis(
        mean.astype(np.float16),
        axes[: min(COMPONENTS, *whole.shape)].astype(np.float16),
        centroids[by_size[used[by_size] > 0]].astype(np.float16),
        scale,
    )


def _floats(vectors: Array, name: str) -> Array:
    if vectors.dtype.kind not in "biuf":
        raise DriftError(f"embedding {name!r} is {vectors.dtype}; it holds numbers", feature=name)
    return vectors.astype(np.float32)


def source_of(name: str, bases: Mapping[str, Basis]) -> str:
    """The column that a feature is made from."""
    head = name.rpartition(": ")[0]
    return head if head in bases else name


def expand(columns: Mapping[str, Array], bases: Mapping[str, Basis]) -> dict[str, Array]:
    """Columns (n,) with each embedding as its numbers."""
    out: dict[str, Array] = {}
    for name, column in columns.items():
        if name in bases:
            out |= bases[name].numbers(column, name)
        elif column.ndim == 1:
            out[name] = column
        else:
            raise DriftError(
                f"column {name!r} has shape {column.shape}; the profile has it as (n,)",
                feature=name,
            )
    return out

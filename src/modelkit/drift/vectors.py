"""Embeddings as 19 numbers, each of which is monitored like a column.

They are the nearest of 32 centroids, the distance to it, 16 principal components, and the residual
beside these. A shift, a new topic or another spread of the vectors shows in one of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import UsageError, importing

COMPONENTS = 16
CENTROIDS = 32
SAMPLE_VECTORS = 4096  # rows that centroids and components are found from


@final
@dataclass(frozen=True, eq=False)
class Basis:
    """The centroids and components that the vectors of one embedding are compared with.

    `name` is the embedding's. `mean` (d,), `components` (up to 16, d) and `centroids` (up to 32, d)
    are float16, of vectors divided by `scale`.
    """

    name: str
    mean: Array
    components: Array
    centroids: Array
    scale: float

    def numbers(self, vectors: Array) -> dict[str, Array]:
        """The columns made of vectors (n, d), each (n,), by name.

        A vector with NaN is missing. Raises UsageError for another d.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise UsageError(
                f"embedding {self.name!r} has shape {vectors.shape}; the profile knows (n, "
                f"{len(self.mean)})"
            )
        # A value that is too large for a distance is missing or infinite.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._numbers(_floats(vectors, self.name) / np.float32(self.scale))

    def _numbers(self, x: Array) -> dict[str, Array]:
        centroids = self.centroids.astype(np.float32)
        own = (x * x).sum(axis=1)[:, None]
        away = own - 2 * x @ centroids.T + (centroids * centroids).sum(axis=1)
        gone = np.isnan(away).any(axis=1)
        centred = x - self.mean.astype(np.float32)
        scores = centred @ self.components.astype(np.float32).T
        left = (centred * centred).sum(axis=1) - (scores * scores).sum(axis=1)
        columns = {
            "centroid": np.where(gone, np.nan, away.argmin(axis=1)),
            "distance": np.sqrt(np.maximum(away.min(axis=1), 0)),
            "residual": np.sqrt(np.maximum(left, 0)),
        }
        columns |= {f"component {i + 1}": own for i, own in enumerate(scores.T)}
        return {f"{self.name}: {what}": values for what, values in columns.items()}


def fit_basis(vectors: Array, name: str, seed: int) -> Basis:
    """A basis from training vectors (n, d). Raises UsageError for fewer than 64 whole ones."""
    with np.errstate(over="ignore"):
        vectors = _floats(vectors, name)
    whole = vectors[np.isfinite(vectors).all(axis=1)]
    if len(whole) < 2 * CENTROIDS:
        raise UsageError(
            f"embedding {name!r} has {len(whole)} whole vectors; {2 * CENTROIDS} are needed",
            feature=name,
        )
    rng = np.random.default_rng(seed)
    if len(whole) > SAMPLE_VECTORS:
        chosen = rng.choice(len(whole), SAMPLE_VECTORS, replace=False)
        whole = whole[np.sort(chosen)]
    scale = float(np.abs(whole).max()) or 1.0
    whole = whole / np.float32(scale)
    mean = whole.mean(axis=0)
    _, _, axes = np.linalg.svd(whole - mean, full_matrices=False)
    most = min(COMPONENTS, *whole.shape)
    return Basis(
        name,
        mean.astype(np.float16),
        axes[:most].astype(np.float16),
        _centroids(whole, rng).astype(np.float16),
        scale,
    )


def _centroids(whole: Array, rng: np.random.Generator) -> Array:
    """Up to 32 centroids of vectors (n, d), the most frequent first."""
    with importing("scipy", "a profile of embeddings", "drift"):
        from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a centroid is nobody's nearest: it is left out below
        centroids, member = kmeans2(whole, CENTROIDS, iter=20, minit="++", seed=rng)
    sizes = np.bincount(member, minlength=CENTROIDS)
    by_size = np.argsort(-sizes, kind="stable")
    used = by_size[sizes[by_size] > 0]
    found: Array = centroids[used]
    return found


def _floats(vectors: Array, name: str) -> Array:
    if vectors.dtype.kind not in "biuf":
        raise UsageError(f"embedding {name!r} is {vectors.dtype}; it holds numbers", feature=name)
    return vectors.astype(np.float32)


def source_of(name: str, bases: Sequence[Basis]) -> str:
    """The column that a feature is made from."""
    head = name.rpartition(": ")[0]
    return head if any(basis.name == head for basis in bases) else name


def expand(columns: Mapping[str, Array], bases: Sequence[Basis]) -> dict[str, Array]:
    """Columns (n,) by name, with each embedding as its numbers.

    Raises UsageError for a column of another form than the profile has.
    """
    known = {basis.name: basis for basis in bases}
    out: dict[str, Array] = {}
    for name, column in columns.items():
        if name in known:
            out |= known[name].numbers(column)
        elif column.ndim == 1:
            out[name] = column
        else:
            raise UsageError(
                f"column {name!r} has shape {column.shape}; the profile has it as (n,)",
                feature=name,
            )
    return out

"""Texts in, vectors or places out, through whatever wraps an encoder or a reranker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.fields import check_integer
from modelkit._internal.progress import bars
from modelkit.embedding.pooling import unit
from modelkit.embedding.precision import quantize_embeddings
from modelkit.embedding.recipe import QUERY, TEXT, PairRecipe, Recipe
from modelkit.errors import SignatureError, UsageError
from modelkit.model.model import Model


def embed(
    model: Model,
    texts: Iterable[str],
    *,
    role: str | None = None,
    dims: int | None = None,
    precision: str = "float32",
    progress: bool | None = None,
    deadline: float | None = None,
    priority: int = 0,
    key: str | None = None,
) -> Array:
    """The vectors of texts, in their order, through whatever wraps the encoder.

        encoder.embed(["a text", "another one"])
        mk.embed(mk.Batcher(encoder), ["a text", "another one"], role="query")

    Args:
        model: a TextEncoder, or a Batcher or Monitor around one.
        texts: any number of strings.
        role: one of the encoder's roles, whose prefix is put before each text.
        dims: one of the encoder's lengths; vectors are cut to it and, where they are normalised,
            made unit again.
        precision: "float32", or "int8" or "ubinary" as `quantize_embeddings` makes them. The call
            holds the float32 vectors of all its texts too, since one version of the model answers
            it; so embed many texts some thousand at a time.
        progress: whether to show a bar for more than 512 texts, if tqdm is there; by default in
            notebooks alone.
        deadline: as for `Model.predict`, like the next two.
        priority: 0, or -1 for work that may wait.
        key: what a rollout routes by.

    Returns:
        Vectors of float32, (n, dims), in the order of the texts; or codes of int8 (n, dims), or
        uint8 (n, dims / 8, rounded up).

    Raises:
        SignatureError: for an unknown role or length, naming the known ones; for a text that is not
            a string or not valid Unicode; for a text that is too long for an encoder with
            on_long="error".
        UsageError: for an unknown precision.
        TypeError: for a model without an encoder.
        ClosedError: if it was closed.
    """
    recipe = recipe_of(model)
    if type(recipe) is not Recipe:
        raise TypeError(f"texts are embedded by a TextEncoder or what wraps one; got {model!r}")
    quantize_embeddings(np.empty((0, 1)), precision)  # one that is not known fails before the work
    feeds = {TEXT: np.array(prefixed(texts, recipe.prefix(role)), object)}
    size = recipe.cut(dims)
    with bars(progress):
        vectors = model.predict(feeds, deadline=deadline, priority=priority, key=key)
    return quantize_embeddings(shortened(vectors, size, recipe), precision)


def shortened(vectors: Array, size: int, recipe: Recipe) -> Array:
    """Whole vectors cut to `size` numbers and, where they are normalised, made unit again."""
    if size == recipe.dims[0]:
        return vectors
    return unit(vectors[:, :size]) if recipe.normalize else vectors[:, :size]


@dataclass(frozen=True)
class Ranked:
    """A text that was ranked: its place among the texts, from 0, and its score."""

    index: int
    score: float


def rank(
    model: Model,
    query: str,
    texts: Iterable[str],
    *,
    top: int | None = None,
    deadline: float | None = None,
    priority: int = 0,
    key: str | None = None,
) -> list[Ranked]:
    """The places of texts and their scores for a query, the best first.

        reranker.rank("a question", ["a text", "another one"])
        mk.rank(mk.Batcher(reranker), "a question", ["a text", "another one"], top=1)

    Args:
        model: a Reranker, or a Batcher or Monitor around one.
        query: what the texts are compared with.
        texts: any number of strings.
        top: the most places to give; all by default.
        deadline: as for `Model.predict`, like the next two.
        priority: 0, or -1 for work that may wait.
        key: what a rollout routes by.

    Returns:
        A `types.Ranked` for each text, or for the `top` best ones, with `index` and `score`. Equal
        scores stay in the order of the texts, and NaN is last.

    Raises:
        SignatureError: for a query or a text that is not a string or not valid Unicode, and for a
            pair that is too long for a reranker with on_long="error".
        UsageError: for a reranker with several scores a pair, and for a `top` below 1.
        TypeError: for a model without a reranker.
        ClosedError: if it was closed.
    """
    recipe = recipe_of(model)
    if not isinstance(recipe, PairRecipe):
        raise TypeError(f"texts are ranked by a Reranker or what wraps one; got {model!r}")
    if recipe.dims[0] != 1:
        raise UsageError(
            f"this reranker gives {recipe.dims[0]} scores for a pair, and texts are ranked by one: "
            "use predict"
        )
    if top is not None:
        check_integer("top", top, 1)
    if not isinstance(query, str):
        raise SignatureError(
            f"query is {query!r:.60}, of type {type(query).__name__}; pass a string"
        )
    found = prefixed(texts, "")
    feeds = {QUERY: [query] * len(found), TEXT: found}
    scores = model.predict(feeds, deadline=deadline, priority=priority, key=key)
    order = np.argsort(-scores, kind="stable")[:top]
    return [Ranked(int(index), float(scores[index])) for index in order]


def is_encoder(model: Model) -> bool:
    """Whether a Model is a TextEncoder, or wraps one."""
    return type(recipe_of(model)) is Recipe


def recipe_of(model: Model) -> Recipe | None:
    """What a TextEncoder, a Reranker, or the one that a Model wraps does around its graph; None of another Model."""
    recipe = getattr(model.base, "recipe", None)
    return recipe if isinstance(recipe, Recipe) else None


def prefixed(texts: Iterable[str], prefix: str) -> list[str]:
    """A batch of texts after the prefix of a role.

    Raises SignatureError for one text, table or mapping, and for what is not a string.
    """
    found = []
    for row, text in enumerate(_each(texts)):
        if not isinstance(text, str):
            raise SignatureError(
                f"text {row} is {text!r:.60}, of type {type(text).__name__}; pass strings",
                rows=(row,),
            )
        found.append(prefix + text if prefix else text)
    return found


def _each(texts: Iterable[str]) -> Iterable[str]:
    # To go through a frame gives the names of its columns.
    table = hasattr(texts, "columns")
    if not table and not isinstance(texts, str | bytes | bytearray | Mapping | set | frozenset):
        try:
            return iter(texts)
        except TypeError:
            pass
    fix = "a list of strings"
    if isinstance(texts, str):
        fix = f"[{texts!r:.40}]"
    elif table:
        fix = "the column with the texts"
    raise SignatureError(f"texts are always a batch: pass {fix}, not {type(texts).__name__}")

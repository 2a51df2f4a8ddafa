"""Texts in, vectors out, through whatever wraps an encoder: roles before, lengths after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.embedding.pooling import unit
from modelkit.embedding.recipe import TEXT, Recipe
from modelkit.errors import SignatureError
from modelkit.model.model import Model


def embed(
    model: Model,
    texts: Iterable[str],
    *,
    role: str | None = None,
    dims: int | None = None,
    deadline: float | None = None,
    priority: int = 0,
    key: str | None = None,
) -> Array:
    """The vectors of texts, float32 (n, dims), in their order, through whatever wraps the encoder.

        mk.embed(mk.Batcher(encoder), ["a text", "another one"], role="query")

    Args:
        model: a TextEncoder, or a Batcher or Monitor around one.
        texts: any number of strings.
        role: one of the encoder's roles, whose prefix is put before each text.
        dims: one of the encoder's lengths; vectors are cut to it and, where they are normalised,
            made unit again.
        deadline: as for `Model.predict`, like the next two.
        priority: 0, or -1 for work that may wait.
        key: what a rollout routes by.

    Raises:
        SignatureError: for an unknown role or length, naming the known ones; for a text that is no
            string or no valid Unicode; for a text that is too long for an encoder with
            on_long="error".
        TypeError: for a model without an encoder.
        ClosedError: if it was closed.
    """
    recipe = recipe_of(model)
    feeds = prefixed(texts, recipe.prefix(role))
    size = recipe.cut(dims)
    vectors = model.predict(feeds, deadline=deadline, priority=priority, key=key)
    return cut_to(vectors, size, recipe)


def recipe_of(model: Model) -> Recipe:
    """The recipe of the encoder inside whatever wraps it. Raises TypeError."""
    recipe = getattr(model.base, "recipe", None)
    if not isinstance(recipe, Recipe):
        raise TypeError(f"texts are embedded by a TextEncoder or what wraps one; got {model!r}")
    return recipe


def is_encoder(model: Model) -> bool:
    """Whether a Model is a TextEncoder, or wraps one."""
    return isinstance(getattr(model.base, "recipe", None), Recipe)


def check_texts(texts: Iterable[str]) -> list[str]:
    """Any number of strings as a list. Raises SignatureError."""
    found = list(one_by_one(texts))
    for row, text in enumerate(found):
        if not isinstance(text, str):
            raise SignatureError(
                f"text {row} is {text!r:.60}, of type {type(text).__name__} and no string",
                rows=(row,),
            )
    return found


def one_by_one(texts: Iterable[str]) -> Iterator[str]:
    """An iterator over a batch of texts. Raises SignatureError for one text, table or mapping."""
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


def prefixed(texts: Iterable[str], prefix: str) -> dict[str, Array]:
    """Texts after the prefix of a role, as feeds. Raises SignatureError."""
    found = check_texts(texts)
    column = np.empty(len(found), object)
    column[:] = [prefix + text for text in found] if prefix else found
    return {TEXT: column}


def cut_to(vectors: Array, size: int, recipe: Recipe) -> Array:
    """The first numbers of vectors, of length 1 again where the recipe says so."""
    if size == vectors.shape[1]:
        return vectors
    return unit(vectors[:, :size]) if recipe.normalize else vectors[:, :size]

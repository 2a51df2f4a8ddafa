"""Texts in, vectors out, through whatever wraps an encoder: roles before, lengths after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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

        encoder.embed(["a text", "another one"])
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

    Returns:
        Vectors of float32, (n, dims), in the order of the texts.

    Raises:
        SignatureError: for an unknown role or length, naming the known ones; for a text that is not
            a string or not valid Unicode; for a text that is too long for an encoder with
            on_long="error".
        TypeError: for a model without an encoder.
        ClosedError: if it was closed.
    """
    if not is_encoder(model):
        raise TypeError(f"texts are embedded by a TextEncoder or what wraps one; got {model!r}")
    recipe: Recipe = model.base.recipe  # type: ignore[attr-defined]
    feeds = {TEXT: np.array(prefixed(texts, recipe.prefix(role)), object)}
    size = recipe.cut(dims)
    vectors = model.predict(feeds, deadline=deadline, priority=priority, key=key)
    return shortened(vectors, size, recipe)


def shortened(vectors: Array, size: int, recipe: Recipe) -> Array:
    """Whole vectors cut to `size` numbers and, where they are normalised, made unit again."""
    if size == recipe.dims[0]:
        return vectors
    return unit(vectors[:, :size]) if recipe.normalize else vectors[:, :size]


def is_encoder(model: Model) -> bool:
    """Whether a Model is a TextEncoder, or wraps one."""
    return isinstance(getattr(model.base, "recipe", None), Recipe)


def prefixed(texts: Iterable[str], prefix: str) -> list[str]:
    """A batch of texts after the prefix of a role.

    Raises SignatureError for one text, table or mapping, and for what is not a string.
    """
    found = []
    for row, text in enumerate(_each(texts)):
        if not isinstance(text, str):
            raise SignatureError(
                f"text {row} is {text!r:.60}, of type {type(text).__name__} and no string",
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

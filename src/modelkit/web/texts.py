"""Embeddings, as the clients of OpenAI and of text-embeddings-inference (TEI) ask for them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.embedding.recipe import EMBEDDING, TEXT, Recipe
from modelkit.embedding.tokens import windows
from modelkit.embedding.verbs import is_encoder, prefixed, shortened
from modelkit.model.model import Model
from modelkit.web import json
from modelkit.web.query import Limits, Query, check_known, check_letters, check_rows, read_text
from modelkit.web.replies import JSON, Refused, Reply
from modelkit.web.request import Turns
from modelkit.web.routes import Verb

FIELDS: dict[Verb, tuple[str, ...]] = {  # the first one has the texts
    "embeddings": ("input", "model", "input_type", "dimensions", "encoding_format", "user"),
    "embed": ("inputs", "model", "prompt_name", "dimensions", "truncate", "truncation_direction", "normalize"),
}  # fmt: skip
# The names that clients have for the same role, of which an encoder may have any or none.
SAME_ROLES = (("query", "search_query"), ("document", "passage", "search_document", "corpus"))
# Bytes of a body from which its texts are better counted in a thread, as a Batcher does.
LONG_TEXTS = 1 << 13


def model_in(body: bytes, models: Mapping[str, Model]) -> str:
    """The name of the model that a body asks, which may leave out that of the only encoder.

    Raises Refused, 400.
    """
    name = json.parse_object(body).get("model")
    names = text_models(models)
    if name is None and len(names) == 1:
        return names[0]
    if type(name) is str and name:
        return name
    raise Refused(400, f"model is {json.shown(name)}; it is one of the names {names}")


def text_models(models: Mapping[str, Model]) -> list[str]:
    """The names of those that embed texts."""
    return [name for name, model in models.items() if is_encoder(model)]


def read(body: bytes, verb: Verb, model: Model, limits: Limits) -> Turns[Query]:
    """A request for the vectors of one text or more.

    Raises:
        Refused: 400 for another request; 413 for more texts than `limits` allow; 422 for one that is
            too long where the request does not want it cut.
        SignatureError: for a text that is too long for an encoder with on_long="error".
    """
    given = json.parse_object(body)
    yield
    json.check_keys(body, len(given))
    check_known(given, FIELDS[verb], "a request for embeddings")
    if not is_encoder(model):
        raise Refused(400, "this model embeds no texts; ask it at /models/{model}/predict")
    encoder: Any = model.base
    recipe: Recipe = encoder.recipe
    asked = {name: value for name, value in given.items() if value is not None}
    texts = _texts(asked, FIELDS[verb][0], limits)
    size = _choice(asked, "dimensions", recipe.dims)
    rows = prefixed(texts, recipe.prefix(_role(asked, recipe.roles)))
    if verb == "embed":
        _check_usual(asked, recipe)
        if asked.get("truncate") is False:
            _count(rows, encoder, cut=False)
        write = partial(_write_vectors, recipe, size)
    else:
        in_bytes = _choice(asked, "encoding_format", ("float", "base64")) == "base64"
        write = partial(_write_list, recipe, size, _count(rows, encoder), in_bytes=in_bytes)
    return Query({TEXT: np.array(rows, object)}, (EMBEDDING,), write=write)


def _texts(asked: Mapping[str, Any], field: str, limits: Limits) -> list[str]:
    """One text, or a list of them. Raises Refused."""
    given = asked.get(field)
    texts = [given] if type(given) is str else given
    if type(texts) is not list or not texts:
        raise Refused(
            400, f"{field} is {json.shown(given)}; it is a text, or a list of one text or more"
        )
    check_rows(len(texts), limits)
    if {*map(type, texts)} == {str}:
        check_letters(texts, limits)
        return texts
    at = next(at for at, text in enumerate(texts) if type(text) is not str)
    hint = ""
    if type(texts[at]) in (int, list):
        hint = (
            ". Numbers of tokens mean other words to another tokenizer, so send the texts; "
            "OpenAIEmbeddings of LangChain does with check_embedding_ctx_length=False"
        )
    raise Refused(400, f"{field}[{at}] is {json.shown(texts[at])}; it is a text{hint}")


def _choice(asked: Mapping[str, Any], field: str, choices: tuple[Any, ...]) -> Any:
    """A field that has one of these values, by default the first. Raises Refused, 400."""
    value = asked.get(field, choices[0])
    if type(value) in {*map(type, choices)} and value in choices:  # 4.0 is not 4, nor 1 true
        return value
    known = json.dump(choices).decode()
    raise Refused(400, f"{field} is {json.shown(value)}; it is one of {known}")


def _check_usual(asked: Mapping[str, Any], recipe: Recipe) -> None:
    """Raise Refused, 400, for what only another encoder could do."""
    _choice(asked, "truncate", (True, False))
    _choice(asked, "truncation_direction", ("right", "Right"))
    _choice(asked, "normalize", (recipe.normalize,))


def _role(asked: Mapping[str, Any], roles: Collection[str]) -> str | None:
    """The role of a `prompt_name`, or that for an `input_type`.

    Where the encoder has none by any of the names for a type, nothing stands before the text, as
    sentence-transformers has it. Raises Refused, 400, for an unknown one.
    """
    if "input_type" not in asked:
        return _choice(asked, "prompt_name", (None, *roles))
    kind = read_text(asked, "input_type")
    if kind in roles:
        return kind
    for names in SAME_ROLES:
        if kind in names:
            return next((name for name in names if name in roles), None)
    known = [*roles, *(name for names in SAME_ROLES for name in names)]
    raise Refused(400, f"input_type is {json.quoted(kind)}; it is one of {known}")


def _count(texts: list[str], encoder: Any, *, cut: bool = True) -> int:
    """The number of tokens that run. Raises Refused, 422, for a long text that is not to be cut."""
    count = 0
    for rows in windows(texts):
        tokens, long = encoder.pipeline.tokens.read(texts[rows.start : rows.stop], rows)
        if long and not cut:
            most = encoder.recipe.max_tokens
            raise Refused(
                422,
                f"{long} of the texts have more than the {most:,} tokens that this encoder takes: "
                'split them, or let them be cut by "truncate": true',
            )
        count += sum(map(len, tokens))
    return count


def _finite(answers: Mapping[str, Array], recipe: Recipe, size: int) -> Array:
    """The vectors in the length that was asked for. Raises Refused, 500, where one is not finite."""
    vectors = shortened(answers[EMBEDDING], size, recipe)
    good = np.isfinite(vectors).all(axis=1)
    if good.all():
        return vectors
    raise Refused(
        500, f"the model's vector of text {good.argmin()} has a number that is not finite"
    )


def _write_vectors(
    recipe: Recipe, size: int, _query: Query, answers: Mapping[str, Array], *_who: str
) -> Turns[Reply]:
    """A list of vectors, as TEI answers."""
    vectors = yield from json.encode(_finite(answers, recipe, size))
    return Reply(200, [JSON], json.dump(vectors))


def _write_list(
    recipe: Recipe,
    size: int,
    tokens: int,
    _query: Query,
    answers: Mapping[str, Array],
    name: str,
    _version: str,
    *,
    in_bytes: bool,
) -> Turns[Reply]:
    """A list of objects with a vector each, as OpenAI answers: of floats, or base64 of float32."""
    vectors = _finite(answers, recipe, size)

    def objects(rows: slice) -> list[Any]:
        some: list[Any] = [*vectors[rows]]
        if in_bytes:  # little-endian, as every client reads it
            some = [b64encode(vector.astype("<f4")).decode() for vector in some]
        return [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(some, rows.start or 0)
        ]

    data = yield from json.encode_rows(objects, len(vectors), max(1, json.LONG // size))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": name, "usage": usage}
    return Reply(200, [JSON], json.dump(answer))

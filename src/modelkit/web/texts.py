"""Embeddings and ranks, as clients of OpenAI, text-embeddings-inference (TEI) and Cohere ask for them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.embedding.pooling import unit
from modelkit.embedding.recipe import EMBEDDING, QUERY, SCORE, TEXT, PairRecipe, Recipe, sigmoid
from modelkit.embedding.verbs import prefixed, recipe_of, shortened
from modelkit.model.model import Model, Outputs
from modelkit.web import json
from modelkit.web.query import Limits, Query, check_known, check_letters, check_rows, read_text
from modelkit.web.replies import Refused, Reply
from modelkit.web.request import Turns
from modelkit.web.routes import Verb


class Form(NamedTuple):
    """What the clients of one API call the fields of a request, and of its answer.

    Attributes:
        texts: the field of the texts.
        fields: the other fields.
        return_texts: the field that asks for the ranked texts too.
        score: of a ranked text, in the answer.
        text: the ranked text itself, in the answer.
    """

    texts: str
    fields: tuple[str, ...]
    return_texts: str = ""
    score: str = ""
    text: str = ""


OPENAI = Form("input", ("model", "input_type", "dimensions", "encoding_format", "user"))
TEI = Form(
    "inputs",
    ("model", "prompt_name", "dimensions", "truncate", "truncation_direction", "normalize"),
)
TEI_RANKS = Form(
    "texts",
    ("query", "model", "raw_scores", "return_text", "truncate", "truncation_direction"),
    "return_text",
    "score",
    "text",
)
COHERE_RANKS = Form(
    "documents",
    ("query", "model", "top_n", "return_documents", "rank_fields", "max_chunks_per_doc",
     "max_tokens_per_doc", "priority"),
    "return_documents",
    "relevance_score",
    "document",
)  # fmt: skip
FORMS = {"embeddings": OPENAI, "embed": TEI, "rerank": TEI_RANKS}
# The names that clients have for the same role, of which an encoder may have any or none.
SAME_ROLES = (("query", "search_query"), ("document", "passage", "search_document", "corpus"))
NUMBERS = (
    ". Numbers of tokens mean other words to another tokenizer, so send the texts; OpenAIEmbeddings "
    "of LangChain does with check_embedding_ctx_length=False"
)
# Bytes of a body from which its texts are better counted in a thread, as a Batcher does.
LONG_TEXTS = 1 << 13


def parse(body: bytes) -> dict[str, Any]:
    """The fields of a request. Raises Refused, 400."""
    given = json.parse_object(body)
    json.check_keys(body, len(given))
    return given


def model_name(given: Mapping[str, Any], verb: Verb, models: Mapping[str, Model]) -> str:
    """The name of the model that a request asks, which may leave out the only one that answers this.

    Raises Refused, 400.
    """
    name = given.get("model")
    names = text_models(models, verb)
    if name is None and len(names) == 1:
        return names[0]
    if type(name) is str and name:
        return name
    raise Refused(
        f"model is {json.shown(name)}; the models of this App that answer such requests: {names or 'none'}"
    )


def text_models(models: Mapping[str, Model], verb: Verb) -> list[str]:
    """The names of those that embed texts, or rank them."""
    kind = PairRecipe if verb == "rerank" else Recipe
    return [name for name, model in models.items() if type(recipe_of(model)) is kind]


def read(given: Mapping[str, Any], verb: Verb, model: Model, limits: Limits) -> Query:
    """A request for the vectors of one text or more, or for their ranks.

    Raises:
        Refused: 400 for another request; 413 for more texts, or a longer one, than `limits` allow; 422
            for one of too many tokens where the request does not want it cut.
        SignatureError: for such a text, of a model with on_long="error".
    """
    form = COHERE_RANKS if verb == "rerank" and "documents" in given else FORMS[verb]
    check_known(given, (form.texts, *form.fields), "this request")
    if not text_models({"": model}, verb):
        raise Refused("this path is for another kind of model; ask /models/NAME/predict")
    asked = {name: value for name, value in given.items() if value is not None}
    texts = _texts(asked, form, limits)
    return (_ranking if verb == "rerank" else _embedding)(asked, texts, model.base, form)


def _texts(asked: dict[str, Any], form: Form, limits: Limits) -> list[str]:
    """One text, or those of a list. In `asked`, each becomes what an answer returns. Raises Refused."""
    field = form.texts
    given = asked.get(field)
    if type(given) is str:
        given = [given]
    if type(given) is not list or not given:
        raise Refused(f"{field} is {json.shown(given)}; send a text, or a list of one text or more")
    check_rows(len(given), limits)
    texts = given
    if form is COHERE_RANKS:
        given = [each if type(each) is dict else {TEXT: each} for each in given]
        texts = [each.get(TEXT, each) for each in given]
    asked[field] = given
    for at, text in enumerate(texts):
        if type(text) is not str:
            raise Refused(
                f"{field}[{at}] is {json.shown(text)}; send a text"
                f"{NUMBERS if type(text) in (int, list) else ''}"
            )
    check_letters([texts, asked.get(QUERY)], limits)
    return texts


def _choice(asked: Mapping[str, Any], field: str, choices: tuple[Any, ...]) -> Any:
    """A field that has one of these values, by default the first. Raises Refused, 400."""
    value = asked.get(field, choices[0])
    if type(value) in {*map(type, choices)} and value in choices:  # 4.0 is not 4, nor 1 true
        return value
    raise Refused(f"{field} is {json.shown(value)}; send one of {json.dump(choices).decode()}")


def _check_truncation(asked: Mapping[str, Any], rows: list[Any], model: Any) -> None:
    """Raise Refused for another end to cut at, 400, and for a long text that is not to be cut, 422."""
    side = model.pipeline.tokens.side
    _choice(asked, "truncation_direction", (side, side.title()))
    if _choice(asked, "truncate", (True, False)):
        return
    _, long = model.pipeline.tokens.read(rows, range(len(rows)))
    if long:
        raise Refused(
            f"{long} of the texts have more than the {model.recipe.max_tokens:,} tokens that this "
            'model takes: split them, or let them be cut by "truncate": true',
            422,
        )


def _role(asked: Mapping[str, Any], roles: Collection[str]) -> str | None:
    """The role of a `prompt_name`, or that for an `input_type`.

    Where the encoder has none by any of the names for a type, nothing stands before the text, as
    sentence-transformers has it. Raises Refused, 400, for an unknown one.
    """
    role = _choice(asked, "prompt_name", (None, *roles))
    known = dict.fromkeys([role, *roles, *SAME_ROLES[0], *SAME_ROLES[1]])
    role = _choice(asked, "input_type", (*known,))
    same = [name for names in SAME_ROLES if role in names for name in names]
    return next((name for name in (role, *same) if name in roles), None)


def _finite(values: Array) -> Array:
    """The values, a vector or a score for each text. Raises Refused, 500, where one is not finite."""
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if good.all():
        return values
    raise Refused(f"what the model gives for text {good.argmin()} is not finite", 500)


def _embedding(asked: dict[str, Any], texts: list[str], model: Any, form: Form) -> Query:
    """A request for vectors. Raises Refused."""
    recipe: Recipe = model.recipe
    size = _choice(asked, "dimensions", recipe.dims)
    to_unit = _choice(asked, "normalize", (False, True)) and not recipe.normalize
    in_bytes = _choice(asked, "encoding_format", ("float", "base64")) == "base64"
    rows = prefixed(texts, recipe.prefix(_role(asked, recipe.roles)))
    _check_truncation(asked, rows, model)
    tokens = 0
    if form is OPENAI:
        ids, _ = model.pipeline.tokens.read(rows, range(len(rows)))
        tokens = sum(map(len, ids))

    def write(_query: Query, answers: Outputs, name: str, _version: str) -> Turns[Reply]:
        vectors = _finite(shortened(answers[EMBEDDING], size, recipe))
        if to_unit:
            vectors = unit(vectors)
        if form is TEI:
            answer = yield from json.encode(vectors)
        else:
            entries = partial(_entries, vectors, in_bytes=in_bytes)
            data = yield from json.encode_rows(entries, len(vectors), max(1, json.LONG // size))
            answer = {
                "object": "list",
                "data": data,
                "model": name,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        return Reply(json.dump(answer))

    return Query({TEXT: np.array(rows, object)}, (EMBEDDING,), write=write)


def _entries(vectors: Array, rows: slice, *, in_bytes: bool) -> list[Any]:
    """An object for each of some vectors, of floats or base64 of float32."""
    some: list[Any] = [*vectors[rows]]
    if in_bytes:  # little-endian, as every client reads it
        some = [b64encode(vector.astype("<f4")).decode() for vector in some]
    return [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(some, rows.start or 0)
    ]


def _ranking(asked: dict[str, Any], texts: list[str], model: Any, form: Form) -> Query:
    """A request for the best of texts. Raises Refused."""
    recipe: PairRecipe = model.recipe
    query = read_text({QUERY: None, **asked}, QUERY)
    if recipe.dims[0] != 1:
        raise Refused(f"this model gives {recipe.dims[0]} scores a text; ask .../predict")
    top = _whole(asked, "top_n", len(texts))
    # Of Cohere's priorities 0 is the first.
    priority = -min(1, _whole(asked, "priority", 0, least=0))
    to_sigmoid = _wants_sigmoid(asked, recipe)
    _check_documents(asked, recipe.max_tokens)
    returned = asked[form.texts] if _choice(asked, form.return_texts, (False, True)) else []
    _check_truncation(asked, [(query, text) for text in texts], model)
    # np.full drops the "\0" at the end of a text.
    X = {QUERY: np.array([query] * len(texts), object), TEXT: np.array(texts, object)}
    write = _writer_of_ranks(form, returned, top, to_sigmoid)
    return Query(X, (SCORE,), priority=priority, write=write)


def _writer_of_ranks(
    form: Form, returned: list[Any], top: int, to_sigmoid: bool
) -> Callable[..., Turns[Reply]]:
    """What writes the places and scores of the best, with the texts that are to be returned."""

    def write(_query: Query, answers: Outputs, name: str, _version: str) -> Turns[Reply]:
        scores = _finite(answers[SCORE])
        if to_sigmoid:
            scores = sigmoid(scores)
        order = np.argsort(-scores, kind="stable")[:top].tolist()

        def entries(rows: slice) -> list[Any]:
            ranks = [{"index": at, form.score: scores[at]} for at in order[rows]]
            for rank in ranks if returned else ():
                rank[form.text] = returned[rank["index"]]
            return ranks

        answer = yield from json.encode_rows(entries, len(order), json.LONG // 4)
        if form is COHERE_RANKS:
            answer = {"model": name, "results": answer}
        return Reply(json.dump(answer))

    return write


def _wants_sigmoid(asked: Mapping[str, Any], recipe: PairRecipe) -> bool:
    """Whether scores are to become sigmoids. Raises Refused, 400, where those of the model cannot be undone."""
    raw = _choice(asked, "raw_scores", (False, True))
    if raw and recipe.activation != "none":
        raise Refused(
            "raw_scores is true, and this model gives sigmoids, which cannot be undone near 1: make "
            'it with activation="none"'
        )
    return recipe.activation == "none" and not raw


def _whole(asked: Mapping[str, Any], field: str, usual: int, *, least: int = 1) -> int:
    """A field that has an integer. Raises Refused, 400."""
    value = asked.get(field, usual)
    if type(value) is int and value >= least:
        return value
    raise Refused(f"{field} is {json.shown(value)}; send an integer from {least}")


def _check_documents(asked: Mapping[str, Any], longest: int) -> None:
    """Raise Refused, 400, where Cohere would rank something else than whole texts, each at once."""
    _choice(asked, "rank_fields", ([TEXT],))
    _whole(asked, "max_chunks_per_doc", 1)
    most = _whole(asked, "max_tokens_per_doc", longest)
    if most < longest:
        raise Refused(
            f"max_tokens_per_doc is {most}, and this model takes pairs of {longest:,} tokens: send "
            "shorter documents, or leave the field out"
        )

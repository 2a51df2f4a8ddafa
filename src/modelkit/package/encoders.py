"""Save text encoders, with a parity check of their own: whether vectors depend on others, and on a reference."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit.convert.source import Source
from modelkit.embedding.encoder import TextEncoder
from modelkit.embedding.examples import made_up
from modelkit.embedding.pipeline import least_cosine
from modelkit.embedding.recipe import EMBEDDING, TEXT, Measurements, Recipe
from modelkit.errors import ConversionError, ParityError
from modelkit.model.manifest import WEIGHTS_REF, Parity
from modelkit.model.model import Model
from modelkit.package import container, scan
from modelkit.package.contents import GRAPH, TOKENIZER, WEIGHTS_MEMBER, open_encoder
from modelkit.package.draws import GOLDEN_ROWS
from modelkit.package.proven import Proven
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.proto import read_proto
from modelkit.signature.signature import Feeds, Signature

TEXTS = 64  # that are run together, to see whether their vectors depend on each other
RTOL = 1e-4  # within which, and within the next, the golden vectors must come out again
ATOL = 1e-6
# A cosine to the reference below this one means another pooling, tokenizer or graph: int8 is above.
LEAST = 0.95


def prove_encoder(model: TextEncoder, example: object, domains: Collection[str]) -> Proven:
    """The encoder's graph, tokenizer and recipe. Raises ConversionError for one of another graph."""
    inner = model.token_model
    if not isinstance(inner, OnnxModel):
        raise ConversionError(
            f"only an encoder of an ONNX graph can be saved, and this one runs {type(inner).__name__}; make "
            "it of the ONNX file of its model"
        )
    graph = inner.stored
    _, weights = inner.graph
    size = None if weights is None else len(weights)
    scan.check_graph(graph, WEIGHTS_REF, size, domains=domains)
    recipe, parity = proof(model, example)
    members: container.Members = {GRAPH: bytes(graph)}
    if weights is not None:
        members[WEIGHTS_MEMBER] = weights
    members[TOKENIZER] = model.tokenizer
    proto = read_proto(graph)
    assert proto is not None  # for the type checker: bytes are read or raise

    def build(_: Signature) -> Model:
        return open_encoder(members, recipe)

    return Proven(
        Source(proto, recipe.signature),
        members,
        build,
        recipe.signature,
        parity,
        trained_with=("tokenizers",),
        runtime="encoder",
        options=fields.write_object(recipe, defaults=False),
        golden=_fitting(model, recipe),
    )


def _fitting(encoder: TextEncoder, recipe: Recipe) -> Feeds:
    """Golden texts that the encoder takes whole."""
    texts = made_up(GOLDEN_ROWS, recipe.max_tokens)
    fitting = encoder.token_count(texts) <= recipe.max_tokens
    kept = [text for text, fits in zip(texts, fitting, strict=True) if fits]
    return recipe.signature.coerce({TEXT: kept or ["a"]})


def proof(encoder: TextEncoder, example: object) -> tuple[Recipe, Parity]:
    """The recipe with what was measured, and the same as figures.

    Raises ConversionError where the graph does not run on texts that the recipe allows, ParityError
    where the vectors are not those of the reference.
    """
    texts = made_up(TEXTS, encoder.recipe.max_tokens)
    try:
        encoder.pipeline.longest()
        alone, gap = encoder.pipeline.prove(texts)
    except Exception as error:
        raise ConversionError(
            f"the graph does not run on a text of {encoder.recipe.max_tokens:,} tokens, or on "
            f"{TEXTS} texts at once; max_tokens= is the most it takes"
        ) from error
    if not np.isfinite(gap):
        raise ConversionError(
            "the graph gives vectors that are not finite; check its weights and pooling"
        )
    measured = Measurements(alone, _reference(encoder, example))
    recipe = replace(encoder.recipe, measured=measured)
    parity = Parity(
        against=None,
        rows=TEXTS,
        missing_rows=0,
        batch_sizes=(1, TEXTS),
        rtol=RTOL,
        # Golden texts may be run in other company.
        atol=max(ATOL, 2 * gap) if recipe.independent else ATOL,
        max_abs=0.0,
        max_rel=0.0,
        label_flips=0,
        ties=0,
        batch_max_abs=gap,
        batch_invariant=bool(recipe.independent),
    )
    return recipe, parity


def _reference(encoder: TextEncoder, example: Any) -> float | None:
    """The least cosine to the reference vectors; None where there are none."""
    if example is None:
        return None
    if not isinstance(example, Mapping) or example.keys() != {TEXT, EMBEDDING}:
        raise ConversionError(
            "the example of an encoder is "
            f"{{{TEXT!r}: n strings, {EMBEDDING!r}: their n vectors by another "
            f"implementation}}; got {example!r:.80}"
        )
    try:
        texts = list(example[TEXT])
        vectors = np.asarray(example[EMBEDDING], np.float32)
    except (TypeError, ValueError) as error:
        raise ConversionError(
            "the reference vectors are not numbers; pass an array of them, (texts, dims)"
        ) from error
    shape = (len(texts), encoder.recipe.dims[0])
    if vectors.shape != shape or not texts:
        raise ConversionError(
            f"the reference vectors have shape {vectors.shape}; {len(texts)} texts make {shape}"
        )
    least = least_cosine(encoder.embed(texts), vectors)
    if not least >= LEAST:  # nor NaN
        raise ParityError(
            f"a vector has the cosine {least:.3f} to its reference, less than {LEAST}: compare "
            "pooling, tokenizer, "
            f"max_tokens and roles with how the reference was made; nothing was saved",
            cosine=least,
        )
    return least

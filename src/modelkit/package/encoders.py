"""Save encoders and rerankers, with a parity check of their own: answers alone, in a batch and elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit.convert.source import Source
from modelkit.embedding.over_tokens import OverTokens
from modelkit.embedding.recipe import Measurements, Recipe
from modelkit.errors import ConversionError, ParityError
from modelkit.model.manifest import Parity
from modelkit.model.model import Model
from modelkit.package import container
from modelkit.package.contents import GRAPH, TOKENIZER, WEIGHTS_MEMBER, open_encoder
from modelkit.package.draws import GOLDEN_ROWS
from modelkit.package.load import scan_graph
from modelkit.package.proven import Proven
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.proto import read_proto
from modelkit.signature.signature import Feeds, Signature

TEXTS = 64  # that are run together, to see whether their vectors depend on each other
RTOL = 1e-4  # within which, and within the next, the golden vectors must come out again
ATOL = 1e-6
# A cosine to the reference below this one means another pooling, tokenizer or graph: int8 is above.
LEAST = 0.95


def prove_encoder(model: OverTokens, example: object, domains: Collection[str]) -> Proven:
    """The graph, tokenizer and recipe of an encoder or a reranker.

    Raises ConversionError for one of another graph.
    """
    inner = model.token_model
    if not isinstance(inner, OnnxModel):
        raise ConversionError(
            f"only a {type(model).__name__} of an ONNX graph can be saved, and this one runs "
            f"{type(inner).__name__}; make it of the ONNX file of its model"
        )
    members: container.Members = {GRAPH: bytes(inner.stored)}
    _, weights = inner.graph
    if weights is not None:
        members[WEIGHTS_MEMBER] = weights
    members[TOKENIZER] = model.tokenizer
    scan_graph(members, domains)
    recipe, parity = proof(model, example)
    proto = read_proto(inner.stored)
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


def _fitting(model: OverTokens, recipe: Recipe) -> Feeds:
    """Golden rows that the model takes whole."""
    rows: list[Any] = recipe.made_up(GOLDEN_ROWS)
    fitting = model.pipeline.tokens.counts(rows) <= recipe.max_tokens
    kept = [row for row, fits in zip(rows, fitting, strict=True) if fits]
    names = recipe.signature.column_names
    columns = [kept] if len(names) == 1 else zip(*kept, strict=True)
    feeds = dict(zip(names, columns, strict=True)) if kept else {name: ["a"] for name in names}
    return recipe.signature.coerce(feeds)


def proof(encoder: OverTokens, example: object) -> tuple[Recipe, Parity]:
    """The recipe with what was measured, and the same as figures.

    Raises ConversionError where the graph does not run on texts that the recipe allows, ParityError
    where the answers differ from the reference.
    """
    try:
        encoder.pipeline.longest()
        alone, gap = encoder.pipeline.prove(TEXTS)
    except Exception as error:
        raise ConversionError(
            f"the graph does not run on a text of {encoder.recipe.max_tokens:,} tokens, or on "
            f"{TEXTS} texts at once; max_tokens= is the most it takes"
        ) from error
    if not np.isfinite(gap):
        raise ConversionError(
            "the graph gives numbers that are not finite; check its weights, and the pooling"
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


def _reference(encoder: OverTokens, example: Any) -> float | None:
    """How close the answers are to reference answers; None where there are none."""
    if example is None:
        return None
    signature = encoder.signature
    (output,) = signature.output_names
    names = signature.column_names
    if not isinstance(example, Mapping) or example.keys() != {*names, output}:
        raise ConversionError(
            f"got {example!r:.80} as the example of a {type(encoder).__name__}: pass a dict of {[*names]}, "
            f"n strings each, and of {output!r}, what another implementation answers"
        )
    try:
        expected = np.asarray(example[output], np.float32)
        rows = {name: list(example[name]) for name in names}
    except (TypeError, ValueError) as error:
        raise ConversionError(
            f"the reference {output} is not numbers; pass an array of them, one row a text"
        ) from error
    got = encoder.predict(rows)
    if expected.shape != got.shape or not len(got):
        raise ConversionError(
            f"the reference {output} has shape {expected.shape}; {len(got)} texts make {got.shape}"
        )
    least = encoder.recipe.closeness(expected, got)
    if not least >= LEAST:  # nor NaN
        raise ParityError(
            f"the closeness to the reference is {least:.3f}, less than {LEAST}: compare pooling, "
            "tokenizer, max_tokens, roles and activation with how the reference was made; nothing "
            "was saved",
            cosine=least,
        )
    return least

"""TextEncoder: a Model over strings, made of a tokenizer, a Model over tokens, and pooling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.embedding import verbs
from modelkit.embedding.directory import limit_beside, read_folder
from modelkit.embedding.examples import made_up
from modelkit.embedding.pipeline import Pipeline
from modelkit.embedding.recipe import EMBEDDING, TEXT, Measurements, Recipe
from modelkit.embedding.tokens import Tokens, windows
from modelkit.errors import SignatureError
from modelkit.model.device import Placement
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.packaged import NOT_PACKAGED, Packaged, reopening
from modelkit.signature.signature import Feeds, Signature

TOKENS = "tokens"  # the tensor of texts that were prepared
PROVEN_TEXTS = 16  # that show whether vectors depend on the texts beside them


@final
class TextEncoder(Model):
    """A Model from texts to vectors: tokenizer, graph, pooling. Safe to call from any thread.

        encoder = mk.TextEncoder.from_directory("minilm")
        encoder.embed(["a text", "another one"])

    Args:
        onnx: a graph over tokens, as a path, bytes or ModelProto; or a Model over input_ids and
            attention_mask.
        tokenizer: a tokenizer.json as a path or bytes, or a `tokenizers.Tokenizer`.
        pooling: how the vectors of the tokens become one: "mean", "max", or the "cls" (first) or
            "last" token.
        normalize: whether vectors have length 1.
        roles: what stands before a text in each role, such as {"query": "query: ", "passage":
            "passage: "}.
        dims: the lengths that vectors may be cut to, of a model that was trained for it, the
            largest first; by default the whole length alone.
        max_tokens: the most tokens of a text, with the special ones. By default what files beside
            the tokenizer or the graph say, where these are paths: sentence_bert_config.json, or
            the less of tokenizer_config.json and config.json. Never the truncation of a
            tokenizer.json, which is left over from its last use.
        on_long: "truncate" texts of more tokens, which `truncated` counts, or "error".
        stable: run every text alone, so that its vector has the same bits whatever is embedded
            beside it: for graphs that scale their activations by the batch, as some int8 ones do.
            Costs what batches gain.
        output: the output with a vector for each token, where the graph has several.

    Raises:
        SignatureError: if the graph takes no tokens or fewer than `max_tokens`, if no file says how
            many it takes, or if an argument does not fit the graph.
        ConversionError: if the ONNX model cannot be read.
        MissingExtraError: if tokenizers is not installed.
    """

    __slots__ = (
        "__weakref__",
        "_identity",
        "_origin",
        "_owned",
        "attachments",
        "manifest",
        "pipeline",
        "recipe",
        "signature",
        "token_model",
    )

    attachments: Mapping[str, memoryview]
    manifest: Manifest | None  # None around your own Model
    signature: Signature
    _identity: str | None
    pipeline: Pipeline  # what makes the vectors
    recipe: Recipe  # what is done around the graph
    # Over token tensors: its rows are tokens, so an encoder is no Wrapper around it.
    token_model: Model

    embed = verbs.embed

    def __init__(
        self,
        onnx: Any,
        tokenizer: Any,
        *,
        pooling: str = "mean",
        normalize: bool = True,
        roles: Mapping[str, str] | None = None,
        dims: Sequence[int] | None = None,
        max_tokens: int | None = None,
        on_long: str = "truncate",
        stable: bool = False,
        output: str | None = None,
    ) -> None:
        # This imports onnx, which takes a tenth of a second.
        from modelkit.embedding.graph import open_graph, token_output

        if max_tokens is None:
            max_tokens = limit_beside(tokenizer, onnx)
        tokens = Tokens(tokenizer, max_tokens, on_long)
        inner, positions = (onnx, None) if isinstance(onnx, Model) else open_graph(onnx)
        recipe = Recipe(
            graph=inner.signature,
            output=token_output(inner.signature) if output is None else output,
            pooling=pooling,
            normalize=normalize,
            dims=(1,),
            max_tokens=tokens.max_tokens,
            on_long=on_long,
            stable=stable,
            roles=dict(roles or {}),
        )
        pipeline = Pipeline(inner, tokens, recipe)
        size = pipeline.probe()
        recipe = replace(recipe, dims=(size,) if dims is None else tuple(dims))
        if recipe.dims[0] > size:  # a graph may leave open how many there are
            raise SignatureError(
                f"dims={recipe.dims} go beyond the {size} numbers of the graph's vectors"
            )
        pipeline.recipe = recipe
        pipeline.check_longest(positions)
        if not stable:
            try:
                alone, _ = pipeline.prove(made_up(PROVEN_TEXTS, tokens.max_tokens))
            except Exception as error:
                raise SignatureError(
                    f"the graph does not run on {PROVEN_TEXTS} texts at once; make the encoder with "
                    f"stable=True, which runs every text alone: {error}"
                ) from error
            pipeline.recipe = replace(recipe, measured=Measurements(alone))
        self._assemble(pipeline, owned=inner is not onnx)

    @classmethod
    def from_directory(cls, folder: Any, *, file: str | None = None, **options: Any) -> TextEncoder:
        """An encoder from a folder in the layout of sentence-transformers that holds an ONNX file.

        Args:
            folder: with modules.json, the pooling's config.json and tokenizer.json. A folder
                without modules.json, as exporters write it for transformers, does not say how
                vectors are pooled: pass pooling=.
            file: the ONNX file, relative to it; by default onnx/model.onnx, model.onnx, or the only
                one there is.
            options: as for `TextEncoder`, in place of what the folder says. Its prompts are the
                roles, and none stands before a text unless its role is asked for.

        Raises SignatureError for modules or a pooling that are not known, and FileNotFoundError for
        what is missing.
        """
        onnx, tokenizer, found = read_folder(folder, file, options.get("pooling"))
        return cls(onnx, tokenizer, **found | options)

    @classmethod
    def from_parts(
        cls, inner: Model, tokenizer: bytes, recipe: Recipe, origin: partial[Model] | None = None
    ) -> TextEncoder:
        """The encoder of a package, which closes `inner`."""
        encoder = cls.__new__(cls)
        tokens = Tokens(tokenizer, recipe.max_tokens, recipe.on_long)
        packaged = Packaged(inner.manifest, inner.attachments, origin)
        encoder._assemble(Pipeline(inner, tokens, recipe), owned=True, packaged=packaged)
        return encoder

    def _assemble(
        self, pipeline: Pipeline, *, owned: bool, packaged: Packaged = NOT_PACKAGED
    ) -> None:
        self.token_model = pipeline.model
        self.pipeline = pipeline
        self.recipe = pipeline.recipe
        self.signature = self.recipe.signature
        self._owned = owned
        self.manifest, self.attachments, self._origin = packaged
        self._identity = None

    @property
    def placement(self) -> Placement | None:
        """Where the Model over token tensors really runs."""
        return self.token_model.placement

    @property
    def closed(self) -> bool:
        """Whether its Model over token tensors was closed."""
        return self.token_model.closed

    @property
    def runs_at_once(self) -> int:
        """How many runs the Model over token tensors does side by side."""
        return self.token_model.runs_at_once

    @property
    def endless(self) -> bool:
        """Whether a run of that Model ends only by a deadline, for some texts."""
        return self.token_model.endless

    def _use_threads(self, threads: int) -> None:
        self.token_model._use_threads(threads)

    def _why_not_batchable(self) -> str:
        return (
            "its vectors depend on the texts beside them, down to a cosine of "
            f"{self.recipe.measured.alone}; make the encoder with stable=True, which runs every text alone"
        )

    @property
    def tokenizer(self) -> bytes:
        """The tokenizer.json."""
        return self.pipeline.tokens.data

    @property
    def truncated(self) -> int:
        """The number of texts that were cut to `max_tokens` so far."""
        return self.pipeline.truncated

    @property
    def batchable(self) -> bool:
        """Whether a vector was shown not to depend on the texts beside it."""
        return self.recipe.independent

    @property
    def identity(self) -> str:
        """A digest of graph, weights, tokenizer and recipe.

        Only vectors of one identity can be compared. An encoder and the package it is saved as have
        the same. Raises SignatureError for an encoder around a Model of your own, the content of
        which is not known.
        """
        if not isinstance(self.token_model, OnnxModel):
            raise SignatureError(
                "the identity of vectors comes from an ONNX graph, and this is "
                f"{self.token_model!r}"
            )
        if self._identity is not None:
            return self._identity
        _, weights = self.token_model.graph
        parts = [
            self.recipe.canonical(),
            self.tokenizer,
            self.token_model.stored,
            b"" if weights is None else weights,
        ]
        digests = [hashlib.sha256(part).digest() for part in parts]
        self._identity = f"sha256:{hashlib.sha256(b''.join(digests)).hexdigest()}"
        return self._identity

    def token_count(self, texts: Iterable[str], *, role: str | None = None) -> Array:
        """The number of tokens of each whole text, with the special ones, int64 (n,)."""
        return self.pipeline.tokens.counts(verbs.prefixed(texts, self.recipe.prefix(role)))

    def _prepare(self, feeds: Feeds) -> tuple[Feeds, int]:
        """The token ids of each text, an object array (n,) of arrays, and their number in all."""
        tokens = feeds.get(TOKENS)
        if tokens is None:
            parts = self.pipeline.tokenized(feeds[TEXT][:, 0].tolist())
            tokens = np.fromiter((its for _, ids in parts for its in ids), object)
        return {TOKENS: tokens}, sum(map(len, tokens))

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        if TOKENS not in feeds:
            found = feeds[TEXT][:, 0].tolist()
            parts = self.pipeline.tokenized(found)
        else:
            found = feeds[TOKENS].tolist()
            parts = ((rows, found[rows.start : rows.stop]) for rows in windows(found))
        return {EMBEDDING: self.pipeline.vectors(len(found), parts, call)}

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("encoder", str(self.recipe))]

    def close(self) -> None:
        """Release the graph, unless it was passed as a Model; later calls raise ClosedError."""
        if self._owned:
            self.token_model.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return reopening(self._origin, closed=self.closed)

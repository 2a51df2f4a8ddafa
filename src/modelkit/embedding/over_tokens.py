"""OverTokens: what the Models over texts share, whose graph takes tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from modelkit.embedding.directory import limit_beside
from modelkit.embedding.pipeline import Pipeline
from modelkit.embedding.recipe import Recipe
from modelkit.embedding.tokens import Tokens, windows
from modelkit.errors import ClosedError, SignatureError
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import InnerProperties
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.packaged import NOT_PACKAGED, Packaged, reopening
from modelkit.signature.signature import Feeds, Signature

TOKENS = "tokens"  # the tensor of texts that were prepared


class OverTokens(InnerProperties, Model):
    """A Model over texts around a Model over tokens: a TextEncoder, or a Reranker.

    The rows of `token_model` are tokens, so this is no Wrapper.
    """

    __slots__ = (
        "__weakref__",
        "_identity",
        "_inner",
        "_origin",
        "_owned",
        "attachments",
        "manifest",
        "pipeline",
        "recipe",
        "signature",
    )

    kind: ClassVar[type[Recipe]] = Recipe
    reading: ClassVar[type[Tokens]] = Tokens  # what reads the tokens of a row

    attachments: Mapping[str, memoryview]
    manifest: Manifest | None  # None around your own Model
    signature: Signature
    _identity: str | None
    pipeline: Pipeline  # what makes the answers
    recipe: Recipe  # what is done around the graph

    def _open(
        self,
        onnx: Any,
        tokenizer: Any,
        max_tokens: int | None,
        output: str | None,
        *,
        pooling: str | None,
        dims: Any = None,
        **options: Any,
    ) -> None:
        """Open a graph, measure it, and find out what the caller left open; `options` are of the recipe."""
        # This imports onnx, which takes a tenth of a second.
        from modelkit.embedding.graph import choose_output, open_graph

        if max_tokens is None:
            max_tokens = limit_beside(tokenizer, onnx)
        tokens = self.reading(tokenizer, max_tokens, options["on_long"])
        inner, positions = (onnx, None) if isinstance(onnx, Model) else open_graph(onnx)
        output, pooling = choose_output(inner.signature, output, pooling)
        recipe = self.kind(
            graph=inner.signature,
            output=output,
            pooling=pooling,
            dims=(1,),
            max_tokens=tokens.max_tokens,
            **options,
        )
        pipeline = Pipeline(inner, tokens, recipe)
        size = pipeline.probe()
        if size == 1 and type(recipe) is Recipe:
            raise SignatureError(
                "the graph gives one number for a text, which is a score: make a Reranker of it"
            )
        recipe = replace(recipe, dims=(size,) if dims is None else dims)
        if recipe.dims[0] > size:  # a graph may leave open how many there are
            raise SignatureError(
                f"dims={recipe.dims} go beyond the {size} numbers of the graph's vectors"
            )
        pipeline.recipe = recipe
        pipeline.measure(positions)
        self._assemble(pipeline, owned=inner is not onnx)

    @classmethod
    def from_parts(
        cls, inner: Model, tokenizer: bytes, recipe: Recipe, origin: partial[Model] | None = None
    ) -> Self:
        """The Model of a package, which closes `inner`."""
        model = cls.__new__(cls)
        tokens = cls.reading(tokenizer, recipe.max_tokens, recipe.on_long)
        packaged = Packaged(inner.manifest, inner.attachments, origin)
        model._assemble(Pipeline(inner, tokens, recipe), owned=True, packaged=packaged)
        return model

    def _assemble(
        self, pipeline: Pipeline, *, owned: bool, packaged: Packaged = NOT_PACKAGED
    ) -> None:
        self._inner = pipeline.model
        self.pipeline = pipeline
        self.recipe = pipeline.recipe
        self.signature = self.recipe.signature
        self._owned = owned
        self.manifest, self.attachments, self._origin = packaged
        self._identity = None

    @property
    def token_model(self) -> Model:
        """The Model over tokens."""
        return self._inner

    def _why_not_batchable(self) -> str:
        return (
            "its answers depend on the rows beside them, down to a closeness of "
            f"{self.recipe.measured.alone}; make it with stable=True, which runs every row alone"
        )

    @property
    def tokenizer(self) -> bytes:
        """The tokenizer.json."""
        return self.pipeline.tokens.data

    @property
    def truncated(self) -> int:
        """The number of rows that were cut to `max_tokens` so far."""
        return self.pipeline.truncated

    @property
    def batchable(self) -> bool:
        """Whether an answer was shown not to depend on the rows beside it."""
        return self.recipe.independent

    @property
    def identity(self) -> str:
        """A digest of graph, weights, tokenizer and recipe.

        Only answers of one identity can be compared. A Model and the package it is saved as have the
        same. Raises SignatureError around a Model of your own, the content of which is not known.
        """
        if not isinstance(self.token_model, OnnxModel):
            raise SignatureError(
                f"the identity comes from an ONNX graph, and this is {self.token_model!r}"
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

    def _prepare(self, feeds: Feeds) -> tuple[Feeds, int]:
        """The tokens of each row, an object array (n,) of arrays, and their number in all."""
        tokens = feeds.get(TOKENS)
        if tokens is None:
            parts = self.pipeline.tokenized(self._rows(feeds))
            tokens = np.fromiter((its for _, ids in parts for its in ids), object)
        return {TOKENS: tokens}, sum(map(len, tokens))

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        if self.closed:  # the graph may not be asked, as for no text
            raise ClosedError("the model was closed; load it again to use it")
        if TOKENS not in feeds:
            found = self._rows(feeds)
            parts = self.pipeline.tokenized(found)
        else:
            found = feeds[TOKENS].tolist()
            parts = ((rows, found[rows.start : rows.stop]) for rows in windows(found))
        (output,) = self.signature.output_names
        return {output: self.recipe.finished(self.pipeline.vectors(len(found), parts, call))}

    def _rows(self, feeds: Feeds) -> list[Any]:
        """The text of each row, or its texts."""
        columns = [feeds[name][:, 0].tolist() for name in self.signature.column_names]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("recipe", str(self.recipe))]

    def close(self) -> None:
        """Release the graph, unless it was passed as a Model; later calls raise ClosedError."""
        if self._owned:
            self.token_model.close()

    __reduce__ = reopening

"""TextEncoder: a Model over strings, made of a tokenizer, a Model over tokens, and pooling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from modelkit._internal.arrays import Array
from modelkit.embedding import verbs
from modelkit.embedding.directory import read_folder
from modelkit.embedding.over_tokens import OverTokens


@final
class TextEncoder(OverTokens):
    """A Model from texts to vectors: tokenizer, graph, pooling. Safe to call from any thread.

        encoder = mk.TextEncoder.from_directory("minilm")
        encoder.embed(["a text", "another one"])

    Args:
        onnx: a graph over tokens, as a path, bytes or ModelProto; or a Model over input_ids and
            attention_mask.
        tokenizer: a tokenizer.json as a path or bytes, or a `tokenizers.Tokenizer`.
        pooling: how the vectors of the tokens become one: "mean", "max", the "cls" (first) or
            "last" token, or "splade" of the logits of a SPLADE model; "none" for a graph that gives
            finished vectors, one a text. By default "none" if it has an output `sentence_embedding`
            or gives no vectors of tokens, else "mean".
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
        output: the output with the vectors, where the graph has several.

    Raises:
        SignatureError: if the graph does not take tokens, or takes fewer than `max_tokens`, if no
            file says how many it takes, or if an argument does not fit the graph.
        ConversionError: if the ONNX model cannot be read.
        MissingExtraError: if tokenizers is not installed.
    """

    __slots__ = ()

    embed = verbs.embed

    def __init__(
        self,
        onnx: Any,
        tokenizer: Any,
        *,
        pooling: str | None = None,
        normalize: bool = True,
        roles: Mapping[str, str] | None = None,
        dims: Sequence[int] | None = None,
        max_tokens: int | None = None,
        on_long: str = "truncate",
        stable: bool = False,
        output: str | None = None,
    ) -> None:
        self._open(
            onnx,
            tokenizer,
            max_tokens,
            output,
            pooling=pooling,
            normalize=normalize,
            dims=dims,
            on_long=on_long,
            stable=stable,
            roles=roles or {},
        )

    @classmethod
    def from_directory(cls, folder: Any, *, file: str | None = None, **options: Any) -> TextEncoder:
        """An encoder from a folder as models are published in, without torch.

            encoder = mk.TextEncoder.from_directory("minilm")

        Args:
            folder: of sentence-transformers, with an ONNX file; of an exporter, which is without
                modules.json and does not say how vectors are pooled, so pass pooling=; or of a
                static model, as model2vec, sentence-transformers (StaticEmbedding) and the package
                wordllama have them, which takes no ONNX file.
            file: the ONNX file, relative to it; by default onnx/model.onnx, model.onnx, or the only
                one there is.
            options: as for `TextEncoder`, in place of what the folder says. Its prompts are the
                roles, and none stands before a text unless its role is asked for.

        Raises:
            SignatureError: for modules, layers or a pooling that are not known; for a folder that
                puts one of its prompts before every text, unless you pass roles=.
            FileNotFoundError: for what is missing.
        """
        onnx, tokenizer, found = read_folder(folder, file, options)
        return cls(onnx, tokenizer, **found | options)

    def token_count(self, texts: Iterable[str], *, role: str | None = None) -> Array:
        """The number of tokens of each whole text, with the special ones, int64 (n,)."""
        return self.pipeline.tokens.counts(verbs.prefixed(texts, self.recipe.prefix(role)))

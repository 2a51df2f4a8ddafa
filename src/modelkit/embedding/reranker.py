"""Reranker: a Model over pairs of texts, made of a tokenizer, a Model over tokens, and an activation."""

from __future__ import annotations

from typing import Any, final

from modelkit.embedding import verbs
from modelkit.embedding.directory import read_reranker
from modelkit.embedding.over_tokens import OverTokens
from modelkit.embedding.recipe import PairRecipe
from modelkit.embedding.tokens import PairTokens
from modelkit.errors import SignatureError


@final
class Reranker(OverTokens):
    """A Model from pairs of texts to scores: a cross-encoder. Safe to call from any thread.

        reranker = mk.Reranker.from_directory("ms-marco-minilm")
        reranker.rank("a question", ["a text", "another one"])

    Its rows are the columns `query` and `text`, and its output `score` is float32: (n,), or
    (n, labels) from a graph that gives several numbers for a pair.

    Args:
        onnx: a graph over the tokens of pairs, as a path, bytes or ModelProto; or a Model over
            input_ids, attention_mask and, if it needs them, token_type_ids.
        tokenizer: a tokenizer.json as a path or bytes, or a `tokenizers.Tokenizer`.
        max_tokens: the most tokens of a pair, with the special ones. By default what files beside
            the tokenizer or the graph say, as for `TextEncoder`.
        activation: "sigmoid" of what the graph gives, or "none".
        on_long: "truncate" pairs of more tokens, of which the longer text loses the most and which
            `truncated` counts, or "error".
        stable: run every pair alone, so that its score has the same bits whatever is beside it: for
            graphs that scale their activations by the batch, as some int8 ones do.
        output: the output with the numbers of each pair, where the graph has several.

    Raises:
        SignatureError: if the graph takes no tokens or fewer than `max_tokens`, if no file says how
            many it takes, or if an argument does not fit the graph.
        ConversionError: if the ONNX model cannot be read.
        MissingExtraError: if tokenizers is not installed.
    """

    __slots__ = ()

    recipe: PairRecipe
    kind = PairRecipe
    reading = PairTokens
    rank = verbs.rank

    def __init__(
        self,
        onnx: Any,
        tokenizer: Any,
        *,
        max_tokens: int | None = None,
        activation: str = "sigmoid",
        on_long: str = "truncate",
        stable: bool = False,
        output: str | None = None,
    ) -> None:
        self._open(
            onnx,
            tokenizer,
            max_tokens,
            output,
            pooling="none",
            normalize=False,
            activation=activation,
            on_long=on_long,
            stable=stable,
        )

    @classmethod
    def from_directory(cls, folder: Any, *, file: str | None = None, **options: Any) -> Reranker:
        """A reranker from the folder of a cross-encoder, in the layout of Hugging Face.

        Args:
            folder: with tokenizer.json, config.json and an ONNX file. The activation is what
                sentence-transformers noted in config_sentence_transformers.json or config.json;
                where it noted none, the sigmoid of a model with one label, and none of others.
            file: the ONNX file, relative to it; by default onnx/model.onnx, model.onnx, or the only
                one there is.
            options: as for `Reranker`, in place of what the folder says.

        Raises SignatureError for an activation or a prompt that a reranker does not have, and for
        another number of labels than the graph's, and FileNotFoundError for what is missing.
        """
        onnx, tokenizer, labels, found = read_reranker(folder, file)
        model = cls(onnx, tokenizer, **found | options)
        size = model.recipe.dims[0]
        if labels and labels != size:
            raise SignatureError(
                f"{folder} says that it has {labels!r:.60} labels, and its graph gives {size} for a "
                "pair; make Reranker(onnx, tokenizer, activation=...) from its files"
            )
        return model

"""Texts to token ids. The only module that imports tokenizers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ModelkitError, SignatureError, importing

# Only the beginning of a long text is read, LETTERS_A_TOKEN for each token, if that has SPARE
# tokens too many already: the last ones may be parts of a word that was cut through.
LETTERS_A_TOKEN = 32
SPARE = 128
# Texts that are tokenized together, and the letters of them.
WINDOW_TEXTS = 512
WINDOW_LETTERS = 1 << 20


class Tokens:
    """A tokenizer that any thread may use: it is set up here, once, and only read from then on.

    Args:
        source: a tokenizer.json as a path or bytes, or a `tokenizers.Tokenizer`, which is copied.
        max_tokens: the most tokens of a text, with the special ones. None is refused: the
            truncation of a tokenizer may be left over from its last use.
        on_long: "truncate" a text of more tokens, or "error".

    Raises SignatureError for a source that is not a tokenizer, and for a number of tokens that it
    cannot keep to.
    """

    __slots__ = ("_most", "_specials", "_tokenizer", "data", "max_tokens", "on_long", "padding")

    def __init__(self, source: Any, max_tokens: int | None, on_long: str) -> None:
        self.data = _tokenizer_bytes(source)
        tokenizer = _parse_tokenizer(self.data)
        self.padding = _padding_of(tokenizer)
        if max_tokens is None:
            raise _no_limit(tokenizer.truncation)
        self._specials = int(tokenizer.num_special_tokens_to_add(is_pair=False))
        if type(max_tokens) is not int or max_tokens <= self._specials:
            raise SignatureError(
                f"max_tokens is an integer that leaves room beside {self._specials} special "
                f"tokens, not {max_tokens!r}"
            )
        truncation = tokenizer.truncation
        side = "right" if truncation is None else str(truncation["direction"]).lower()
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens, direction=side)
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.on_long = on_long
        cuts = side == "right" and on_long == "truncate"
        self._most = LETTERS_A_TOKEN * (max_tokens + SPARE) if cuts else sys.maxsize

    def ids(self, texts: Sequence[str]) -> list[Array]:
        """The token ids of each text, int32, cut to `max_tokens` whatever `on_long` says."""
        return _ids_of(self._encode_beginnings(texts, range(len(texts))))

    def read(self, texts: Sequence[str], rows: Sequence[int]) -> tuple[list[Array], int]:
        """The token ids of each text, int32, and how many texts were cut to `max_tokens`.

        Raises SignatureError for a text that is longer where `on_long` says so, and for one that is
        not valid Unicode, by the caller's number for it in `rows`.
        """
        encodings = self._encode_beginnings(texts, rows)
        # Few texts are longer, and only those may have an overflow, which is built when it is asked
        # for.
        cut = [
            i
            for i, found in enumerate(encodings)
            if len(found) == self.max_tokens and found.overflowing
        ]
        if cut and self.on_long == "error":
            self._refuse(cut, encodings, rows)
        return _ids_of(encodings), len(cut)

    def _encode_beginnings(self, texts: Sequence[str], rows: Sequence[int]) -> list[Any]:
        """Encode each text, or its beginning if that has enough tokens."""
        encodings = self._encode([text[: self._most] for text in texts], rows)
        for i, text in enumerate(texts):
            if len(text) > self._most and self._count(encodings[i]) < self.max_tokens + SPARE:
                (encodings[i],) = self._encode([text], rows[i : i + 1])
        return encodings

    def _refuse(self, long: list[int], encodings: list[Any], rows: Sequence[int]) -> None:
        first = long[0]
        raise SignatureError(
            f"text {rows[first]} has {self._count(encodings[first]):,} tokens, and this encoder "
            f"takes {self.max_tokens:,}: split it, or make the encoder with on_long='truncate'",
            rows=tuple(rows[i] for i in long),
        )

    def counts(self, texts: Sequence[str]) -> Array:
        """The number of tokens of each whole text, with the special ones, int64 (texts,)."""
        counts = np.empty(len(texts), np.int64)
        for rows in windows(texts):
            found = self._encode([texts[i] for i in rows], rows)
            counts[rows.start : rows.stop] = [self._count(its) for its in found]
        return counts

    def _count(self, found: Any) -> int:
        return len(found) + sum(len(more) - self._specials for more in found.overflowing)

    def _encode(self, texts: Sequence[str], rows: Sequence[int]) -> list[Any]:
        try:
            # Unlike `encode`, this releases the GIL.
            found: list[Any] = self._tokenizer.encode_batch_fast(texts)
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise _why_failed(texts, rows, error) from error
            raise
        return found


def _ids_of(encodings: list[Any]) -> list[Array]:
    try:
        return [np.array(found.ids, np.int32) for found in encodings]
    except OverflowError as error:
        raise ModelkitError(f"the tokenizer gives a token that is not an int32: {error}") from error


def _padding_of(tokenizer: Any) -> int:
    """The token that a tokenizer pads with, 0 where it says none. Raises SignatureError."""
    padding = int((tokenizer.padding or {}).get("pad_id", 0))
    if padding >= 1 << 31:
        raise SignatureError(
            f"the tokenizer pads with the token {padding}, beyond what a graph takes"
        )
    return padding


def _no_limit(truncation: dict[str, Any] | None) -> SignatureError:
    left = ""
    if truncation:
        most = truncation["max_length"]
        left = f" (it cuts them to {most}, which may be left over from another use)"
    return SignatureError(
        f"the tokenizer does not say how many tokens a text of this model may have{left}, and no "
        "sentence_bert_config.json, tokenizer_config.json or config.json beside it does; pass "
        "max_tokens="
    )


def windows(texts: Sequence[Sized]) -> Iterator[range]:
    """The texts that are tokenized or run together, as places, so that their memory is bounded."""
    start = 0
    letters = 0
    for place, text in enumerate(texts):
        letters += len(text)
        if place + 1 - start == WINDOW_TEXTS or letters > WINDOW_LETTERS:
            yield range(start, place + 1)
            start = place + 1
            letters = 0
    if start < len(texts):
        yield range(start, len(texts))


def _why_failed(texts: Sequence[str], rows: Sequence[int], error: BaseException) -> ModelkitError:
    for row, text in zip(rows, texts, strict=True):
        try:
            text.encode()
        except UnicodeEncodeError as bad:
            where = f"{bad.reason} at character {bad.start} ({text[bad.start]!r})"
            return SignatureError(
                f"text {row} is not valid Unicode: {where}; use "
                "text.encode(errors='replace').decode()",
                rows=(row,),
            )
    return ModelkitError(f"the tokenizer failed: {error}")


def _tokenizer_bytes(source: Any) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    if hasattr(source, "to_str"):
        return str(source.to_str()).encode()
    raise SignatureError(
        f"the tokenizer is the path or bytes of a tokenizer.json, or a tokenizers.Tokenizer; got "
        f"{type(source).__name__}"
    )


def _parse_tokenizer(data: bytes) -> Any:
    with importing("tokenizers", "embedding texts", "text"):
        from tokenizers import Tokenizer
    try:
        return Tokenizer.from_buffer(data)
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise SignatureError(
                f"this is not a tokenizer.json that tokenizers can read: {error}"
            ) from error
        raise

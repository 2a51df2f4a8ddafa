"""Texts to token ids. The only module that imports tokenizers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

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

    __slots__ = (
        "_left",
        "_most",
        "_room",
        "_specials",
        "_tokenizer",
        "data",
        "max_tokens",
        "on_long",
        "padding",
    )
    paired: ClassVar[bool] = False  # whether a row is two texts

    def __init__(self, source: Any, max_tokens: int | None, on_long: str) -> None:
        self.data = _tokenizer_bytes(source)
        tokenizer = _parse_tokenizer(self.data)
        self.padding = _padding_of(tokenizer)
        if max_tokens is None:
            raise _no_limit(tokenizer.truncation)
        specials = int(tokenizer.num_special_tokens_to_add(is_pair=self.paired))
        if type(max_tokens) is not int or max_tokens <= specials:
            raise SignatureError(
                f"max_tokens is an integer that leaves room beside {specials} special "
                f"tokens, not {max_tokens!r}"
            )
        self._room = max_tokens - specials
        self._specials = 0 if self.paired else specials  # of what is tokenized at once
        truncation = tokenizer.truncation
        side = "right" if truncation is None else str(truncation["direction"]).lower()
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens, direction=side)
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.on_long = on_long
        self._left = side == "left"
        cuts = side == "right" and on_long == "truncate"
        self._most = LETTERS_A_TOKEN * (max_tokens + SPARE) if cuts else sys.maxsize

    def ids(self, texts: Sequence[Any]) -> list[Array]:
        """The token ids of each text, int32, cut to `max_tokens` whatever `on_long` says."""
        return self._cut(texts, range(len(texts)))[0]

    def read(self, texts: Sequence[Any], rows: Sequence[int]) -> tuple[list[Array], int]:
        """The token ids of each text, int32, and how many texts were cut to `max_tokens`.

        Raises SignatureError for a text that is longer where `on_long` says so, and for one that is
        not valid Unicode, by the caller's number for it in `rows`.
        """
        ids, cut = self._cut(texts, rows)
        if cut and self.on_long == "error":
            (most,) = self.counts([texts[cut[0]]])
            raise SignatureError(
                f"text {rows[cut[0]]} has {most:,} tokens, and this model takes "
                f"{self.max_tokens:,}: split it, or make the model with on_long='truncate'",
                rows=tuple(rows[i] for i in cut),
            )
        return ids, len(cut)

    def _cut(self, texts: Sequence[Any], rows: Sequence[int]) -> tuple[list[Array], list[int]]:
        """The token ids of each text, and the places of the texts that were cut."""
        encodings = self._encode_beginnings(texts, rows)
        # Few texts are longer, and only those may have an overflow, which is built when it is asked
        # for.
        cut = [
            i
            for i, found in enumerate(encodings)
            if len(found) == self.max_tokens and found.overflowing
        ]
        return _ids_of(encodings), cut

    def _encode_beginnings(self, texts: Sequence[str], rows: Sequence[int]) -> list[Any]:
        """Encode each text, or its beginning if that has enough tokens."""
        encodings = self._encode([text[: self._most] for text in texts], rows)
        for i, text in enumerate(texts):
            if len(text) > self._most and self._count(encodings[i]) < self.max_tokens + SPARE:
                (encodings[i],) = self._encode([text], rows[i : i + 1])
        return encodings

    def counts(self, texts: Sequence[Any]) -> Array:
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
            found: list[Any] = self._tokenizer.encode_batch_fast(
                texts, add_special_tokens=not self.paired
            )
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise _why_failed(texts, rows, error) from error
            raise
        return found


class PairTokens(Tokens):
    """As Tokens, of pairs of texts: the tokens of a pair are (n, 2) int32, ids and segments.

    A longer pair loses tokens of its longer text until both are of one length, and then of both, as
    "longest_first" of transformers has it. A text that several pairs have is tokenized once.
    """

    __slots__ = ("_frame",)
    paired = True

    def __init__(self, source: Any, max_tokens: int | None, on_long: str) -> None:
        super().__init__(source, max_tokens, on_long)
        pair = self._tokenizer.encode("a", "a")
        tokens = zip(pair.sequence_ids, pair.type_ids, pair.ids, strict=True)
        # The text, 0 or 1, or None of special tokens; the segment; the special tokens.
        self._frame = [
            (text, segment, np.array([ids for *_, ids in stretch], np.int32))
            for (text, segment), stretch in groupby(tokens, key=itemgetter(0, 1))
        ]
        if not {0, 1} <= {text for text, *_ in self._frame}:
            raise SignatureError(
                f"the tokenizer makes no pair of two texts in {max_tokens} tokens: {pair.tokens}"
            )

    def counts(self, texts: Sequence[Any]) -> Array:
        """The number of tokens of each whole pair, with the special ones, int64 (pairs,)."""
        each = super().counts([text for pair in texts for text in pair])
        return each[::2] + each[1::2] + self.max_tokens - self._room

    def _cut(self, texts: Sequence[Any], rows: Sequence[int]) -> tuple[list[Array], list[int]]:
        known: dict[str, int] = {}  # the first row with each text
        for row, pair in zip(rows, texts, strict=True):
            for text in pair:
                known.setdefault(text, row)
        encodings = self._encode_beginnings([*known], [*known.values()])
        halves = zip(_ids_of(encodings), map(self._count, encodings), strict=True)
        found = dict(zip(known, halves, strict=True))
        pairs = []
        cut = []
        for place, (first, second) in enumerate(texts):
            (a, a_size), (b, b_size) = found[first], found[second]
            sizes = longest_first(a_size, b_size, self._room)
            if sum(sizes) < a_size + b_size:
                cut.append(place)
            pairs.append(self._framed((a, b), sizes))
        return pairs, cut

    def _framed(self, texts: tuple[Array, Array], sizes: tuple[int, int]) -> Array:
        """The tokens of a pair, of which each text keeps so many."""
        parts = []
        for text, segment, ids in self._frame:
            size = len(ids) if text is None else sizes[text]
            whole = ids if text is None else texts[text]
            start = (len(whole) - size) * self._left
            part = np.full((size, 2), segment, np.int32)
            part[:, 0] = whole[start : start + size]
            parts.append(part)
        return np.concatenate(parts)


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens each text of a pair keeps, so that they are at most `room`.

    Where both are cut, the longer one has the odd token, the second if they are equal.
    """
    if first + second <= room:
        return first, second
    less = min(first, second, room // 2)
    return (room - less, less) if first > second else (less, room - less)


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


def windows(texts: Sequence[Any]) -> Iterator[range]:
    """The texts that are tokenized or run together, as places, so that their memory is bounded."""
    start = 0
    letters = 0
    for place, text in enumerate(texts):
        letters += sum(map(len, text)) if type(text) is tuple else len(text)
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

"""Texts to token ids. The only module that imports tokenizers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
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

    `side` is where tokens are cut off, "left" or "right", as the tokenizer says.

    Raises SignatureError for a source that is not a tokenizer, and for a number of tokens that it
    cannot keep to.
    """

    __slots__ = (
        "_most",
        "_specials",
        "_tokenizer",
        "data",
        "max_tokens",
        "on_long",
        "padding",
        "side",
    )
    paired: ClassVar[bool] = False  # whether a row is two texts

    def __init__(self, source: Any, max_tokens: int | None, on_long: str) -> None:
        self.data = _tokenizer_bytes(source)
        tokenizer = parse_tokenizer(self.data)
        self.padding = _padding_of(tokenizer)
        if max_tokens is None:
            raise _no_limit(tokenizer.truncation)
        self._specials = int(tokenizer.num_special_tokens_to_add(is_pair=self.paired))
        if type(max_tokens) is not int or max_tokens <= self._specials:
            raise SignatureError(
                f"max_tokens is an integer that leaves room beside {self._specials} special "
                f"tokens, not {max_tokens!r}"
            )
        truncation = tokenizer.truncation
        side = "right" if truncation is None else str(truncation["direction"]).lower()
        tokenizer.no_padding()
        if self.paired:
            # Every rest of the one text would be kept beside every rest of the other.
            tokenizer.no_truncation()
        else:
            # A number beyond the library's is refused by the recipe.
            tokenizer.enable_truncation(min(max_tokens, sys.maxsize), direction=side)
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.on_long = on_long
        self.side = side
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

    def _encode(self, texts: Sequence[Any], rows: Sequence[int]) -> list[Any]:
        try:
            # Unlike `encode`, these release the GIL. The fast one leaves out the segments of a pair.
            its = self._tokenizer
            found: list[Any] = (its.encode_batch if self.paired else its.encode_batch_fast)(texts)
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise _why_failed(texts, rows, error) from error
            raise
        return found


class PairTokens(Tokens):
    """As Tokens, of pairs of texts: the tokens of a pair are (n, 2) int32, ids and segments.

    A longer pair loses tokens of its longer text until both are of one length, and then of both, as
    "longest_first" of transformers has it. A text of which the beginning alone was read counts as
    far as that goes.
    """

    __slots__ = ()
    paired = True

    def _cut(self, texts: Sequence[Any], rows: Sequence[int]) -> tuple[list[Array], list[int]]:
        encodings = self._encode_beginnings(texts, rows)
        pairs = []
        cut = []
        for place, (ids, found) in enumerate(zip(_ids_of(encodings), encodings, strict=True)):
            pair = np.stack([ids, np.array(found.type_ids, np.int32)], axis=1)
            if len(pair) > self.max_tokens:
                cut.append(place)
                pair = np.delete(pair, self._beyond(found), axis=0)
            pairs.append(pair)
        return pairs, cut

    def _beyond(self, found: Any) -> Array:
        """The places of the tokens that a longer pair loses."""
        sides = [np.flatnonzero(np.equal(found.sequence_ids, side)) for side in (0, 1)]
        sizes = longest_first(len(sides[0]), len(sides[1]), self.max_tokens - self._specials)
        lost = zip(sides, sizes, strict=True)
        return np.concatenate(
            [at[: len(at) - n] if self.side == "left" else at[n:] for at, n in lost]
        )

    def _encode_beginnings(self, texts: Sequence[Any], rows: Sequence[int]) -> list[Any]:
        most = self._most
        encodings = self._encode([(first[:most], second[:most]) for first, second in texts], rows)
        for i, pair in enumerate(texts):
            sides = [side for side in (0, 1) if len(pair[side]) > most]
            counts = map(encodings[i].sequence_ids.count, sides) if sides else ()
            if min(counts, default=sys.maxsize) < self.max_tokens + SPARE:
                (encodings[i],) = self._encode([pair], rows[i : i + 1])
        return encodings


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


def _why_failed(texts: Sequence[Any], rows: Sequence[int], error: BaseException) -> ModelkitError:
    sides = [(text,) if isinstance(text, str) else text for text in texts]
    for row, text in ((row, text) for row, its in zip(rows, sides, strict=True) for text in its):
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


def parse_tokenizer(data: bytes) -> Any:
    """The `tokenizers.Tokenizer` of a tokenizer.json. Raises SignatureError."""
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

"""Texts to token ids. The only module that imports tokenizers."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelkit.cast import Array
from modelkit.errors import ModelkitError, SignatureError, importing

# Of a long text only the beginning is read, so many letters for each token, if that has SPARE
# tokens too many already: the last ones may be parts of a word that was cut through.
MOST_LETTERS, SPARE = 32, 128
WINDOW, WINDOW_LETTERS = 512, 1 << 20  # texts that are tokenized together, and the letters of them


class Tokenized(NamedTuple):
    """The token ids of a text, int32, and whether it had more than are left."""

    ids: Array
    cut: bool


class Tokens:
    """A tokenizer that any thread may use: it is set up here, once, and only read from then on.

    Args:
        source: a tokenizer.json as a path or bytes, or a `tokenizers.Tokenizer`, which is copied.
        max_tokens: of a text, with the special ones. None is refused: where a tokenizer cuts texts
            off need not be what the model was made for, since that is kept from whatever it was
            last used for.
        on_long: "truncate", or "error" for a text of more.

    Raises SignatureError for what is no tokenizer, and for a number of tokens that it cannot keep
    to.
    """

    __slots__ = (
        "_lock",
        "_most",
        "_specials",
        "_tokenizer",
        "data",
        "max_tokens",
        "on_long",
        "padding",
        "truncated",
    )

    def __init__(self, source: Any, max_tokens: int | None, on_long: str) -> None:
        self.data = _read(source)
        tokenizer = _parse(self.data)
        self.padding = int((tokenizer.padding or {}).get("pad_id", 0))
        if self.padding >= 1 << 31:
            raise SignatureError(
                f"the tokenizer pads with the token {self.padding}, beyond what a graph takes"
            )
        if max_tokens is None:
            held = tokenizer.truncation
            left = (
                f" (it cuts them to {held['max_length']}, which may be left over from another use)"
                if held
                else ""
            )
            raise SignatureError(
                f"the tokenizer does not say how many tokens a text of this model may have{left}, "
                "and no "
                "sentence_bert_config.json, tokenizer_config.json or config.json beside it does; "
                "pass max_tokens="
            )
        self._specials = int(tokenizer.num_special_tokens_to_add(is_pair=False))
        if type(max_tokens) is not int or max_tokens <= self._specials:
            raise SignatureError(
                f"max_tokens is an integer that leaves room beside {self._specials} special "
                f"tokens, not {max_tokens!r}"
            )
        side = (
            "right"
            if tokenizer.truncation is None
            else str(tokenizer.truncation["direction"]).lower()
        )
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens, direction=side)
        self._tokenizer, self.max_tokens, self.on_long = tokenizer, max_tokens, on_long
        cuts = side == "right" and on_long == "truncate"
        self._most = MOST_LETTERS * (max_tokens + SPARE) if cuts else sys.maxsize
        self._lock, self.truncated = threading.Lock(), 0

    def ids(self, texts: Sequence[str]) -> list[Array]:
        """The token ids of each text, cut to `max_tokens` whatever `on_long` says."""
        return [found.ids for found in self.read(texts, quiet=True)]

    def read(
        self, texts: Sequence[str], rows: Sequence[int] | None = None, *, quiet: bool = False
    ) -> list[Tokenized]:
        """The token ids of each text, cut to `max_tokens`.

        Raises SignatureError for a text that is longer where `on_long` says so, unless `quiet`, and
        for one that is no valid Unicode, by the caller's number for it in `rows`.
        """
        rows = range(len(texts)) if rows is None else rows
        encodings = self._encode([text[: self._most] for text in texts], rows)
        for i, text in enumerate(texts):
            if len(text) > self._most and self._count(encodings[i]) < self.max_tokens + SPARE:
                (encodings[i],) = self._encode([text], rows[i : i + 1])
        # Few texts are longer, and only those may have an overflow, which is built when it is asked
        # for.
        cut = [len(found) == self.max_tokens and bool(found.overflowing) for found in encodings]
        if self.on_long == "error" and any(cut) and not quiet:
            self._refuse([i for i, its in enumerate(cut) if its], encodings, rows)
        try:
            return [
                Tokenized(np.array(found.ids, np.int32), its)
                for found, its in zip(encodings, cut, strict=True)
            ]
        except OverflowError as error:
            raise ModelkitError(f"the tokenizer gives a token that is no int32: {error}") from error

    def _refuse(self, long: list[int], encodings: list[Any], rows: Sequence[int]) -> None:
        raise SignatureError(
            f"text {rows[long[0]]} has {self._count(encodings[long[0]]):,} tokens, and this "
            "encoder takes "
            f"{self.max_tokens:,}: split it, or make the encoder with on_long='truncate'",
            rows=tuple(rows[i] for i in long),
        )

    def tally(self, found: Sequence[Tokenized]) -> None:
        """Count those that are run and were cut in `truncated`."""
        cut = sum(its.cut for its in found)
        if cut:
            with self._lock:
                self.truncated += cut

    def counts(self, texts: Sequence[str]) -> Array:
        """How many tokens each text has, the special ones included, however long it is; int64."""
        counts = np.empty(len(texts), np.int64)
        for rows in windows(texts):
            found = self._encode([texts[i] for i in rows], rows)
            counts[rows.start : rows.stop] = [self._count(its) for its in found]
        return counts

    def after_fork(self) -> None:
        """Begin anew in the child of a fork."""
        self._lock = threading.Lock()

    def _count(self, found: Any) -> int:
        return len(found) + sum(len(more) - self._specials for more in found.overflowing)

    def _encode(self, texts: Sequence[str], rows: Sequence[int]) -> list[Any]:
        try:
            found: list[Any] = self._tokenizer.encode_batch_fast(
                texts
            )  # which, unlike encode, releases the GIL
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise _refusal(texts, rows, error) from error
            raise
        return found


def windows(texts: Sequence[Sized]) -> Iterator[range]:
    """The places of texts that are tokenized together, or run: what that takes in memory is bounded."""
    start = letters = 0
    for place, text in enumerate(texts):
        letters += len(text)
        if place + 1 - start == WINDOW or letters > WINDOW_LETTERS:
            yield range(start, place + 1)
            start, letters = place + 1, 0
    if start < len(texts):
        yield range(start, len(texts))


def _refusal(texts: Sequence[str], rows: Sequence[int], error: BaseException) -> ModelkitError:
    for row, text in zip(rows, texts, strict=True):
        try:
            text.encode()
        except UnicodeEncodeError as bad:
            what = f"text {row} is no valid Unicode: {bad.reason} at character {bad.start} ({text[bad.start]!r})"
            return SignatureError(
                f"{what}; use text.encode(errors='replace').decode()", rows=(row,)
            )
    return ModelkitError(f"the tokenizer failed: {error}")


def _read(source: Any) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    if hasattr(source, "to_str"):
        return str(source.to_str()).encode()
    raise SignatureError(
        f"the tokenizer is the path or bytes of a tokenizer.json, or a tokenizers.Tokenizer; got a "
        f"{type(source).__name__}"
    )


def _parse(data: bytes) -> Any:
    with importing("tokenizers", "embedding texts", "text"):
        from tokenizers import Tokenizer
    try:
        return Tokenizer.from_buffer(data)
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise SignatureError(
                f"this is no tokenizer.json that tokenizers can read: {error}"
            ) from error
        raise

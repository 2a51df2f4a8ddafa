"""From texts to the terms they hold and how often, exactly as scikit-learn counts them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.errors import SignatureError
from modelkit.texts.patterns import compiled
from modelkit.texts.vectorizer import Texts, Vectorizer

UNKNOWN = -1
SPACES = re.compile(r"\s\s+")


class Terms:
    """The terms of one vectorizer: what it was trained on, and the words it leaves out."""

    def __init__(
        self, vectorizer: Vectorizer, vocabulary: Sequence[str], stop_words: Sequence[str]
    ) -> None:
        self.vectorizer = vectorizer
        self.vocabulary = tuple(vocabulary)
        self.stop_words = tuple(stop_words)
        self._place = {term: at for at, term in enumerate(self.vocabulary)}
        if len(self._place) < len(self.vocabulary):
            raise SignatureError("a vocabulary holds a term twice")
        self._clean = _cleaner(vectorizer)
        self._split = _splitter(vectorizer, frozenset(self.stop_words))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def of(self, text: str) -> list[str]:
        """Every term of a text, known or not, as often as it occurs."""
        return self._split(self._clean(text))

    def count(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """For each text the places of its terms in the vocabulary, int64 (n, m), and how often each occurs, float64.

        m is the most known terms of any text, at least 1; a text of fewer ends in the term 0, which
        occurs 0 times.
        """
        split, clean = self._split, self._clean
        terms: list[str] = []
        counts: list[int] = []
        sizes = []
        for text in texts:
            found = Counter(split(clean(text)))
            terms += found
            counts += found.values()
            sizes.append(len(found))
        places = np.fromiter(map(self._place.get, terms, repeat(UNKNOWN)), np.int64, len(terms))
        return _padded(places, np.array(counts, np.float64), sizes)


def _padded(places: Array, counts: Array, sizes: list[int]) -> tuple[Array, Array]:
    """The known terms of each text as a row, from those of all texts one after another."""
    known = places != UNKNOWN
    rows = np.repeat(np.arange(len(sizes)), sizes)[known]
    lengths = np.bincount(rows, minlength=len(sizes))
    shape = (len(sizes), max(1, int(lengths.max())))
    terms, numbers = np.zeros(shape, np.int64), np.zeros(shape)
    held = np.arange(shape[1]) < lengths[:, None]
    terms[held] = places[known]
    numbers[held] = counts[known]
    return terms, numbers


def _cleaner(vectorizer: Vectorizer) -> Callable[[str], str]:
    """Lower case, then accents, as the vectorizer has them."""
    strip = {None: None, "ascii": _to_ascii, "unicode": _without_accents}[vectorizer.accents]
    if strip is None:
        return str.lower if vectorizer.lowercase else str
    return (lambda text: strip(text.lower())) if vectorizer.lowercase else strip


def _to_ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(
        char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)
    )


def _splitter(vectorizer: Vectorizer, stop_words: frozenset[str]) -> Callable[[str], list[str]]:
    """What finds the terms of a clean text."""
    least, most = vectorizer.ngrams
    if vectorizer.analyzer == "char":
        return partial(_chars, least, most)
    if vectorizer.analyzer == "char_wb":
        return partial(_chars_in_words, least, most)
    find = compiled(str(vectorizer.token_pattern)).findall

    def words(text: str) -> list[str]:
        found: list[str] = find(text)
        if stop_words:
            found = [word for word in found if word not in stop_words]
        return found if most == 1 else _runs(found, least, most)

    return words


def _runs(words: list[str], least: int, most: int) -> list[str]:
    """Neighbouring words, joined by spaces."""
    found = []
    for size in range(least, min(most, len(words)) + 1):
        found += [" ".join(words[at : at + size]) for at in range(len(words) - size + 1)]
    return found


def _chars(least: int, most: int, text: str) -> list[str]:
    """Neighbouring characters; of several spaces in a row, one counts."""
    text = SPACES.sub(" ", text)
    found = []
    for size in range(least, min(most, len(text)) + 1):
        found += [text[at : at + size] for at in range(len(text) - size + 1)]
    return found


def _chars_in_words(least: int, most: int, text: str) -> list[str]:
    """Neighbouring characters of each word with a space on both sides; a word that is not longer counts once."""
    found = []
    for word in text.split():
        spaced = f" {word} "
        for size in range(least, most + 1):
            if size >= len(spaced):
                found.append(spaced)
                break
            found += [spaced[at : at + size] for at in range(len(spaced) - size + 1)]
    return found


def encode_terms(terms: Sequence[Terms]) -> bytes:
    """Vocabularies and stop words as JSON."""
    plain = [{"vocabulary": each.vocabulary, "stop_words": each.stop_words} for each in terms]
    return json.dumps(plain, separators=(",", ":")).encode()


def decode_terms(data: bytes, texts: Texts) -> list[Terms]:
    """The inverse of `encode_terms`.

    Raises SignatureError for anything but two lists of strings for each vectorizer.
    """
    try:
        plain = json.loads(data)
        lists = [(entry["vocabulary"], entry["stop_words"]) for entry in plain]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SignatureError(f"they are no vocabularies: {error}") from error
    strings = all(
        isinstance(found, list) and all(type(term) is str for term in found)
        for pair in lists
        for found in pair
    )
    if (
        not strings
        or len(lists) != len(texts.vectorizers)
        or not all(vocabulary for vocabulary, _ in lists)
    ):
        raise SignatureError(
            f"{len(texts.vectorizers)} vectorizers need a list of terms and one of stop words each"
        )
    return [
        Terms(vectorizer, vocabulary, stop_words)
        for vectorizer, (vocabulary, stop_words) in zip(texts.vectorizers, lists, strict=True)
    ]


def _is_list_of_strings(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is str for item in value)

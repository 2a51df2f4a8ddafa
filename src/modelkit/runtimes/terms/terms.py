"""From texts to the terms they hold and how often, exactly as scikit-learn counts them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError
from modelkit.runtimes.terms.hashing import bucket_of
from modelkit.runtimes.terms.patterns import compiled
from modelkit.runtimes.terms.vectorizer import Texts, Vectorizer

UNKNOWN = -1
ANY_TERMS = ("alpha", "beta", "été", "straße", "good film")
MOST_HASHES = 1 << 16  # that are remembered: terms come again and again
BLOCK = 1 << 14  # terms of a text that are made at once, between which other threads have a turn
ACCENTED = 256  # letters from which accents are taken off at once
SEVERAL_SPACES = re.compile(r"\s\s+")


class Terms:
    """The terms of one vectorizer: what it was trained on, and the words it leaves out.

    The vocabulary of a vectorizer that hashes its terms is empty.
    """

    def __init__(
        self, vectorizer: Vectorizer, vocabulary: Sequence[str], stop_words: Sequence[str]
    ) -> None:
        self.vectorizer = vectorizer
        self.vocabulary = tuple(vocabulary)
        self.stop_words = tuple(stop_words)
        self._place = {term: at for at, term in enumerate(self.vocabulary)}
        if len(self._place) < len(self.vocabulary):
            raise SignatureError("a vocabulary holds a term twice")
        self._bucket: dict[str, tuple[int, int]] = {}
        self._clean = _cleaner(vectorizer)
        self._split = _splitter(vectorizer, frozenset(self.stop_words))

    def __len__(self) -> int:
        return self.vectorizer.buckets or len(self.vocabulary)

    @property
    def known(self) -> Sequence[str]:
        """Terms that texts can be made of to try the model: a few, where it hashes any term."""
        return self.vocabulary or ANY_TERMS

    def of(self, text: str) -> list[str]:
        """Every term of a text, known or not, as often as it occurs."""
        return [term for block in self._split(self._clean(text)) for term in block]

    def count(
        self, texts: Sequence[str], check: Callable[[], object] = bool
    ) -> tuple[Array, Array]:
        """The known terms of each text and their counts: int64 and float64 arrays, (n, m).

        Terms are places in the vocabulary. m is the most known terms of any text, at least 1; a
        text of fewer ends in the term 0, which occurs 0 times. `check` is called now and then, and
        ends it by an error.
        """
        if self.vectorizer.buckets is not None:
            return self._hashed(texts, self.vectorizer.buckets, check)
        terms: list[str] = []
        counts: list[int] = []
        sizes = []
        for text in texts:
            found = self._counted(text, check)
            terms += found
            counts += found.values()
            sizes.append(len(found))
        found_at = map(self._place.get, terms, repeat(UNKNOWN))
        places = np.fromiter(found_at, np.int64, len(terms))
        return _padded(places, np.array(counts, np.float64), sizes)

    def _counted(self, text: str, check: Callable[[], object]) -> Counter[str]:
        """The terms of a text and their counts; not all of the unknown ones of a long text."""
        found: Counter[str] = Counter()
        for block in self._split(self._clean(text)):
            check()
            found.update(block)
            if len(found) > BLOCK + len(self._place):
                found = Counter({term: n for term, n in found.items() if term in self._place})
        return found

    def _hashed(
        self, texts: Sequence[str], buckets: int, check: Callable[[], object]
    ) -> tuple[Array, Array]:
        """The columns of each text and what they hold, of terms that are hashed."""
        places: list[int] = []
        sums: list[int] = []
        sizes = []
        for text in texts:
            found: dict[int, int] = {}
            for block in self._split(self._clean(text)):
                check()
                for term in block:
                    place, sign = self._bucket_of(term, buckets)
                    found[place] = found.get(place, 0) + sign
            places += found
            sums += found.values()
            sizes.append(len(found))
        numbers = np.array(sums, np.float64)
        if self.vectorizer.sums == "present":
            numbers = np.ones(len(sums))
        return _padded(np.array(places, np.int64), numbers, sizes)

    def _bucket_of(self, term: str, buckets: int) -> tuple[int, int]:
        known = self._bucket.get(term)
        if known is not None:
            return known
        place, sign = bucket_of(term, buckets)
        found = (place, sign if self.vectorizer.sums == "signed" else 1)
        if len(self._bucket) >= MOST_HASHES:
            self._bucket.clear()
        self._bucket[term] = found
        return found


def _padded(places: Array, counts: Array, sizes: list[int]) -> tuple[Array, Array]:
    """The known terms of each text as a row, from the terms of all texts one after another."""
    known = places != UNKNOWN
    rows = np.repeat(np.arange(len(sizes)), sizes)[known]
    lengths = np.bincount(rows, minlength=len(sizes))
    shape = (len(sizes), max(1, int(lengths.max())))
    terms = np.zeros(shape, np.int64)
    numbers = np.zeros(shape)
    held = np.arange(shape[1]) < lengths[:, None]
    terms[held] = places[known]
    numbers[held] = counts[known]
    return terms, numbers


def _cleaner(vectorizer: Vectorizer) -> Callable[[str], str]:
    """The function that turns a text into lower case, and then takes accents off, if asked to."""
    strip = {None: None, "ascii": _to_ascii, "unicode": _without_accents}[vectorizer.accents]
    if not vectorizer.lowercase:
        return strip or _as_it_is
    if strip is None:
        return str.lower
    return lambda text: strip(text.lower())


def _as_it_is(text: str) -> str:
    """The text itself, which `str` turns into another one where it is a member of an enumeration."""
    return text


def _to_ascii(text: str) -> str:
    return _decomposed(text).encode("ascii", "ignore").decode("ascii")


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    return "".join(char for char in _decomposed(text) if not unicodedata.combining(char))


def _decomposed(text: str) -> str:
    """A text in which accents are characters, in whichever order they stand at one letter.

    Each character is decomposed by itself, and accents are left out afterwards. So their order does
    not matter, in which Python puts them in time that grows with the square of their number.
    """
    parts = (text[at : at + ACCENTED] for at in range(0, len(text), ACCENTED))
    return "".join(unicodedata.normalize("NFKD", part) for part in parts)


def _splitter(
    vectorizer: Vectorizer, stop_words: frozenset[str]
) -> Callable[[str], Iterator[list[str]]]:
    """The function that finds the terms of a clean text, some at a time."""
    least, most = vectorizer.ngrams
    if vectorizer.analyzer == "char":
        return partial(_chars, least, most)
    if vectorizer.analyzer == "char_wb":
        return partial(_chars_in_words, least, most)
    find = compiled(str(vectorizer.token_pattern)).findall

    def words(text: str) -> Iterator[list[str]]:
        found: list[str] = find(text)
        if stop_words:
            found = [word for word in found if word not in stop_words]
        if most == 1:
            return iter([found])
        return _ngrams(
            len(found),
            least,
            most,
            lambda starts, size: [" ".join(found[at : at + size]) for at in starts],
        )

    return words


def _ngrams(
    count: int, least: int, most: int, at_places: Callable[[range, int], list[str]]
) -> Iterator[list[str]]:
    """The n-grams of `count` words or characters, which `at_places` cuts out by starts and size."""
    found: list[str] = []
    for size in range(least, min(most, count) + 1):
        for starts in _starts(count - size + 1):
            found += at_places(starts, size)
            if len(found) >= BLOCK:
                yield found
                found = []
    yield found


def _starts(count: int) -> Iterator[range]:
    """The numbers below a count, a block at a time."""
    for start in range(0, count, BLOCK):
        yield range(start, min(start + BLOCK, count))


def _chars(least: int, most: int, text: str) -> Iterator[list[str]]:
    """Neighbouring characters; of several spaces in a row, one counts."""
    text = SEVERAL_SPACES.sub(" ", text)
    return _ngrams(
        len(text), least, most, lambda starts, size: [text[at : at + size] for at in starts]
    )


def _chars_in_words(least: int, most: int, text: str) -> Iterator[list[str]]:
    """Neighbouring characters of each word with a space on both sides; a short word counts once."""
    found: list[str] = []
    for word in text.split():
        spaced = f" {word} "
        for size in range(least, most + 1):
            if size >= len(spaced):
                found.append(spaced)
                break
            for starts in _starts(len(spaced) - size + 1):
                found += [spaced[at : at + size] for at in starts]
                if len(found) >= BLOCK:
                    yield found
                    found = []
    yield found


def encode_terms(terms: Sequence[Terms]) -> bytes:
    """Vocabularies and stop words as JSON."""
    plain = []
    for each in terms:
        lists = {"vocabulary": each.vocabulary, "stop_words": each.stop_words}
        plain.append(lists)
    text = json.dumps(plain, separators=(",", ":"))
    return text.encode()


def decode_terms(data: bytes, texts: Texts) -> list[Terms]:
    """The inverse of `encode_terms`.

    Raises SignatureError for anything but two lists of strings for each vectorizer.
    """
    try:
        plain = json.loads(data)
        lists = [(entry["vocabulary"], entry["stop_words"]) for entry in plain]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SignatureError(f"they are not vocabularies: {error}") from error
    count = len(texts.vectorizers)
    if len(lists) != count or not all(map(_is_vocabulary, texts.vectorizers, lists)):
        raise SignatureError(f"{count} vectorizers need a list of terms and one of stop words each")
    return [
        Terms(vectorizer, vocabulary, stop_words)
        for vectorizer, (vocabulary, stop_words) in zip(texts.vectorizers, lists, strict=True)
    ]


def _is_vocabulary(vectorizer: Vectorizer, lists: tuple[object, object]) -> bool:
    vocabulary, stop_words = lists
    if bool(vocabulary) == (vectorizer.buckets is not None):
        return False
    return _is_list_of_strings(vocabulary) and _is_list_of_strings(stop_words)


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is str for item in value)

"""Texts that an example lacks and an application will have, of words that the model knows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from unicodedata import normalize

import numpy as np

from modelkit._internal.arrays import Array

TEXTS = (
    "", " ", "a b c", "I am a B", "CAPITALS and smalls", "Café À LA carte", "ГОРОД и мир", "naïve straße",
    "foo_bar-baz 12 3x", "tabs\tand\nnewlines", "end.", "\u6771\u4eac tower", "can't won't", "1,000.50",
)  # fmt: skip
# Characters that one library takes for a part of a word and another for none, or writes otherwise
# in lower case.
CHARACTERS = (
    "\t\n\x1c\x1f \x85\xa0\u1680\u2003\u2028\u202f\u3000"  # spaces
    "\u200b\ufeff\xad\u200d\x00"  # what looks like one, or like nothing
    "\u0300\u0301\u0307\u0308\u0345\u093f\u20dd"  # marks that join the letter before them
    "I\u0130\u0131\xdf\u1e9e\u03a3\u03c3\u03c2\u017f\u212a\u212b"  # odd cases
    "\ufb01\u01c5\u0149\u1fb3\u1fbc"  # odd cases
    "\xe9\xc9\xd8\u0142\xaa\u02b0\u10d0\u1c90\u13a0\u4e2d\u3042\ud55c"  # accents, other scripts
    "\uff21\uff41\uff11\uff71\u0663\xb2\xbd\u2167"  # other widths and digits
    "_\u203f-\u2010\u2011'\u2019.\xb7@\u20ac"  # what joins words, or parts them
    "\U0001f600\U0001d400\U00010400\U0001f1f9"  # beyond 16 bits
)
# What stands in place of letters of the model's own words, and is told from them by capitals, width
# or marks alone.
INSTEAD = (
    ("i", "\u0130"), ("i", "\u0131"), ("i", "I"), ("s", "\u017f"), ("ss", "\xdf"), ("ss", "\u1e9e"),
    ("\xdf", "\u1e9e"), ("\xdf", "SS"), ("\u03c3", "\u03c2"), ("\u03c2", "\u03c3"), ("\u03c3", "\u03a3"),
    ("\u03c2", "\u03a3"), ("k", "\u212a"), ("\xe5", "\u212b"), ("fi", "\ufb01"), ("e", "\xe9"), ("e", "e\u0301"),
    ("\xe9", "e"), ("\xe9", "e\u0301"), ("a", "\uff41"), ("o", "\xf6"), ("o", "\u043e"), ("u", "u\u0308"),
    ("1", "\uff11"), ("2", "\xb2"), (" ", "\xa0"), (" ", "\u3000"),
)  # fmt: skip
WORDS = 12  # of a vocabulary, that strange texts are made of


def strange_texts(known: Array) -> Array:
    """Texts that a training set may lack, and its own in capitals and spaced out: (n,)."""
    found = known.copy()
    for at, text in enumerate(known):
        choices = (TEXTS[at % len(TEXTS)], text.upper(), text.replace(" ", " \t "))
        found[at] = choices[at % 3]
    return found


def texts_of_terms(vocabulary: Sequence[str]) -> list[str]:
    """Texts of terms that the model knows, with strange characters between and inside them.

    What is made of unknown words proves nothing: it counts for neither the source nor the graph.
    """
    ordered = sorted(vocabulary)
    places = np.linspace(0, len(ordered) - 1, min(WORDS, len(ordered)))
    words = [ordered[at] for at in places.astype(int)]
    texts = [" ".join(words)]
    for at, char in enumerate(CHARACTERS):
        texts += _with_character(char, words[at % len(words)], words[(at + 1) % len(words)])
    for letters, others in INSTEAD:
        having = islice((term for term in ordered if letters in term), 3)
        texts += [f"{term.replace(letters, others)} {words[0]}" for term in having]
    for word in words:
        texts += _other_forms(word)
    return texts


def _with_character(char: str, word: str, other: str) -> list[str]:
    """Texts of two words with a character between, inside, before and behind them."""
    half = max(1, len(word) // 2)
    parted = f"{word[:half]}{char}{word[half:]}"
    return [f"{word}{char}{other}", f"{other} {parted} {char}{word} {word}{char}"]


def _other_forms(word: str) -> list[str]:
    """A word in capitals, in letters of full width, and with its accents apart."""
    wide = [chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in word]
    return [
        word.upper(),
        word.title(),
        "".join(wide),
        normalize("NFD", word),
        f"{word.upper()} {word} {word.swapcase()}",
    ]

"""Which expressions may cut a text into terms: those that come to an end on every text."""

import itertools
import random
import re

import pytest

from modelkit.errors import SignatureError
from modelkit.runtimes.terms.linear import Skipping
from modelkit.runtimes.terms.patterns import KNOWN_PATTERNS, compiled

USUAL = (
    r"(?u)\b\w\w+\b", r"\w+", r"\S+", r"[^\s]+", r"[a-zA-Z]{2,}", r"\b[a-zA-Z]{3,}\b", r"\w+(?:-\w+)*", r"\w+(?:['-]\w+)?",
    r"(?u)\b\w\w+\b|!|\?", r"https?://\S+|\w+", r"\w+|\$[\d\.]+|\S+", r"([a-z]+)", r"(?i)[a-z]+", r"[A-Za-z]+\d*",
    r"[\w.+-]+@[\w-]+\.[\w.-]+", r"#\w+", r"\d+(?:[.,]\d+)*", r"\b[^\d\W]+\b", r"(?:\w|-)+", r"(?<!\w)\w+", *sorted(KNOWN_PATTERNS),
)  # fmt: skip
LONG = (  # they looked from each place of a text to its end, and found nothing
    r"\w+(?:-\w+)+", r"(\w+)@", r"\d+-[\d -]+!", r"\w{3,1000}@", r"(?:a\w*@)?b", r"\w+(?:(?:-\w+)*@)?", r"[a-z]+@\w+",
    r"\b[a-z]+(?:-[a-z]+)*\b", r"(?x)\w +@",
)  # fmt: skip
SKIPPING = (
    r"\w+@\w+",
    r"\w+-\w+",
    r"\d+\.\d+",
    r"[a-z]+\b",
    r"(?i)[a-z]+@[a-z]+",
    r"[ab.]{2,}-(a+)",
    r"\w+(?!-)",
    r"\w+?-",
)
ENDLESS = (
    r"(\w+)+!", r"(?:\w*)*", r"(?:\w+-?)+!", r"\w*\w*!", r"(?:a?){30}a{30}", r"(a|a)*b", r"(\w+)\1", r"a?a?a?aaa",
    r"(?:\w+\s*)+!", r"(?i)(?:a+A)+!", r"(?i:(?:a+A)+)!", r"(?:.*a){12}", r"(?:x+x+)+y", r"(?=(a+)+b)a", r"(?:xa|xa)(?:xa|xa)b",
)  # fmt: skip


@pytest.mark.parametrize("pattern", USUAL)
def test_usual_expressions_are_taken_and_come_to_an_end(pattern):
    find = compiled(pattern).findall
    for text in (
        "a" * 3000,
        "a1" * 1500,
        "a-" * 1500,
        " " * 3000,
        "é " * 1500,
        "." * 3000,
        "a" * 3000 + "!",
    ):
        assert len(find(text)) <= len(text)


@pytest.mark.parametrize("pattern", [*SKIPPING, r"[\w.+-]+@[\w-]+\.[\w.-]+"])
def test_what_is_skipped_holds_no_match(pattern):
    """All texts of seven of these characters, and random longer ones; half a million take no time."""
    find = compiled(pattern).findall
    assert isinstance(compiled(pattern), Skipping)
    rng = random.Random(0)
    texts = map("".join, itertools.product("a1-@.", repeat=5))
    long = ["".join(rng.choices("aab1-@.B ", k=rng.randrange(40))) for _ in range(2000)]
    for text in [*texts, *long]:
        assert find(text) == re.findall(pattern, text)
    for text in ("a" * 500_000, "1" * 500_000, "a-" * 250_000, "a." * 250_000):
        assert len(find(text)) <= len(text)


@pytest.mark.parametrize("pattern", [*ENDLESS, *LONG, "(", "(a)(b)", "a" * 1001])
def test_expressions_that_could_run_away_are_refused(pattern):
    with pytest.raises(SignatureError, match="token_pattern"):
        compiled(pattern)

"""Which expressions may cut a text into terms: those that come to an end on every text."""

import pytest
from helpers.examples import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelkit.errors import SignatureError
from modelkit.runtimes.terms.patterns import KNOWN_PATTERNS, compiled

USUAL = (
    r"(?u)\b\w\w+\b", r"(?u)\b\w+\b", r"\w+", r"\w{1,}", r"\S+", r"[^\s]+", r"[^,|;]+", r"[a-zA-Z]{2,}", r"\b[a-zA-Z]{3,}\b", r"#\w+", r".*",
    r"(?u)\b[^0-9\s]{3,30}\b", r"(?u)\b[\w@.\-]{2,}\b", r"(?u)\b\w[\w'+/-]*\b", r"(?u)\b[^\d\W]\w+\b", r"([a-z]+)", r"(?i)\b([a-z_]\w+)\b",
    r"(?u)\b\w\w+\b|!|\?", r"\w+|\$[\d\.]+|\S+", r"(?u)\b\w+\b|[\u4e00-\u9fff]+", r"(?u)#[\w]+|@[\w]+|\b\w+\b", r"[\w|]+|[]|]", r"[\w']+|[.,!?;]",
    r"\w+(?:-\w+)*", r"\w+(?:['-]\w+)?", r"\d+(?:[.,]\d+)*", r"(?u)\b\w+(?:[-']\w+)*\b", r"\b[a-zà-ÿ]+(?:\.[a-zà-ÿ]+)*\b", r"\b\w+(?: \w+)*\b",
    *sorted(KNOWN_PATTERNS),
)  # fmt: skip
OTHERS = (  # some of them are quick, which their shape does not tell
    r"\w+(?:-\w+)+", r"(\w+)@", r"\d+-[\d -]+!", r"\w{3,1000}@", r"(?:a\w*@)?b", r"(?x)\w +@", r"\w+@\w+", r"[a-z]+\b", r"[ab.]{2,}-(a+)", r"\w+(?!-)",
    r"(?<!\w)\w+", r"https?://\S+", r"\w++", r"\w*\w*", r"\b(\w)\w*\b", r"(\w+|\b[a-z]+)\b", r"\w+\b", r"\b[a-z+]+(?:-[a-z+]+)*\b",
    r"\b[a-z]+(?:a[a-z]+)*\b", r"\b\w+(?:_\w+)*\b", r"\b[ -~]+(?:-[ -~]+)*\b", r"\b[!-z]+(?:-[!-z]+)*\b", "(?i)\\b\u03b9+(?:\u0345\u03b9+)*\\b", r"\w+(?:[--z]\w+)*",
    r"\b\w{3,}(?:-\w{3,})*\b", r"[(?i)]+a+b", r"(?i)(?i)a+",
)  # fmt: skip
ENDLESS = (
    r"(\w+)+!", r"(?:\w*)*", r"(?:\w+-?)+!", r"\w*\w*!", r"(?:a?){30}a{30}", r"(a|a)*b", r"(\w+)\1", r"a?a?a?aaa",
    r"(?:\w+\s*)+!", r"(?i)(?:a+A)+!", r"(?i:(?:a+A)+)!", r"(?:.*a){12}", r"(?:x+x+)+y", r"(?=(a+)+b)a", r"(?:xa|xa)(?:xa|xa)b",
)  # fmt: skip


@pytest.mark.parametrize("pattern", USUAL)
def test_usual_expressions_are_taken_as_they_are(pattern):
    assert compiled(pattern).pattern == pattern


@pytest.mark.parametrize("pattern", [*OTHERS, *ENDLESS, "(", "(a)(b)", "(a)|(b)", "a" * 1001])
def test_other_expressions_are_refused(pattern):
    with pytest.raises(SignatureError, match="token_pattern"):
        compiled(pattern)


classes = st.sampled_from(
    [r"\w", r"\d", r"\W", r"\s", ".", "[a-z]", "[a+]", "[^a]", "[a1-]", "[aé]", "[é]", "a", "-"]
)
words = st.sampled_from([r"\w", r"\d", "[a-z]", "[a_]", "[aé]", "[à-ÿ]"])
marks = st.sampled_from(["-", "'", " ", r"\.", "[.]", "[-']", "[- ]", "_", "é", "."])
loops = st.sampled_from(["", "+", "*", "?", "+?", "{2,}", "{3,7}", "{5,}?", "{0,30}"])


@st.composite
def alternatives(draw):
    start, end = draw(st.sampled_from([(r"\b", r"\b"), (r"\b(", r")\b"), (r"\b", ""), ("", "")]))
    begin = "".join(draw(st.lists(classes, max_size=2)))
    if draw(st.booleans()):
        word = draw(words)
        joined = f"(?:{draw(marks)}{word}+){draw(st.sampled_from('*?'))}"
        return f"{start}{begin}{word}+{joined}{end}"
    return f"{start}{begin}{draw(classes)}{draw(loops)}{end}"


patterns = st.builds(
    lambda flags, parts: flags + "|".join(parts),
    st.sampled_from(["", "(?i)", "(?a)", "(?s)"]),
    st.lists(alternatives(), min_size=1, max_size=3),
)
units = st.lists(
    st.sampled_from(["a", "a-", "a1", "a+", "-", " ", "aé", "é-", "_", "A", "ab-c", "a++-"]),
    min_size=1,
    max_size=3,
)


@settings(max_examples=examples(300), deadline=None)
@given(patterns, units, st.sampled_from(["", "1", "é", "-", "!", "_"]))
def test_what_is_taken_comes_to_an_end(pattern, unit, tail):
    """One that goes back in several ways would take more than a test may; one whose time grows with
    the square of the text takes some ten seconds."""
    try:
        find = compiled(pattern).findall
    except SignatureError:
        assume(condition=False)
    text = ("".join(unit) * 30_000)[:30_000] + tail
    # An empty match may follow each match, and stands at the end.
    assert len(find(text)) <= 2 * len(text) + 1

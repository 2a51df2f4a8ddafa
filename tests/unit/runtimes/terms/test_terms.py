"""Terms and hashes are those of scikit-learn, on any text."""

import random

import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils import murmurhash3_32

from modelkit.errors import SignatureError
from modelkit.runtimes.terms import hashing
from modelkit.runtimes.terms.hashing import bucket_of, murmur
from modelkit.runtimes.terms.terms import Terms
from modelkit.runtimes.terms.vectorizer import Vectorizer


def test_accents_of_one_letter_without_number_take_no_time():
    """Python puts them in order, in the square of their number."""
    text = "e" + "\u0301\u0316" * 100_000 + "é"
    for accents, bare in (("unicode", "ee"), ("ascii", "ee")):
        vectorizer = Vectorizer(
            "text", "char", (1, 1), lowercase=True, accents=accents, token_pattern=None
        )
        assert Terms(vectorizer, ["e"], []).of(text) == list(bare)


@pytest.mark.parametrize("analyzer", ["word", "char", "char_wb"])
def test_a_long_text_is_counted_in_blocks_and_what_is_unknown_is_forgotten(analyzer):
    rng = random.Random(0)
    text = " ".join("".join(rng.choices("abcdef", k=rng.randrange(1, 9))) for _ in range(8000))
    pattern = r"(?u)\b\w+\b" if analyzer == "word" else None
    theirs = CountVectorizer(analyzer=analyzer, ngram_range=(1, 4), token_pattern=pattern)
    known = sorted(theirs.fit([text[:500]]).vocabulary_)
    vectorizer = Vectorizer(
        "text", analyzer, (1, 4), lowercase=True, accents=None, token_pattern=pattern
    )
    mine = Terms(vectorizer, known, [])
    blocks = []
    (places,), (counts,) = mine.count([text], lambda: blocks.append(1))
    assert len(blocks) > 1
    expected = theirs.transform([text]).toarray()[0]
    assert dict(zip(places.tolist(), counts.tolist(), strict=True)) == {
        place: count for place, count in enumerate(expected) if count
    }


@given(st.text(max_size=40))
@settings(max_examples=examples(200), deadline=None)
@pytest.mark.parametrize("analyzer", ["word", "char", "char_wb"])
@pytest.mark.parametrize("accents", [None, "ascii", "unicode"])
def test_terms_are_those_of_scikit_learn(analyzer, accents, text):
    pattern = r"(?u)\b\w+\b"
    theirs = CountVectorizer(
        analyzer=analyzer, ngram_range=(1, 3), strip_accents=accents, token_pattern=pattern
    )
    described = Vectorizer(
        "text", analyzer, (1, 3), True, accents, pattern if analyzer == "word" else None
    )
    assert Terms(described, ["a"], []).of(text) == theirs.build_analyzer()(text)


@given(st.text(max_size=20), st.integers(1, 1 << 20))
@settings(max_examples=examples(300), deadline=None)
def test_hashes_are_those_of_scikit_learn(term, buckets):
    assert murmur(term.encode()) == murmurhash3_32(term.encode(), 0)
    hasher = FeatureHasher(buckets, input_type="string")
    theirs = hasher.transform([[term]])
    place, sign = bucket_of(term, buckets)
    assert (place, sign) == (theirs.indices[0], theirs.data[0])


def test_the_smallest_hash_has_a_column(monkeypatch):
    monkeypatch.setattr(hashing, "murmur", lambda data: -(1 << 31))
    assert bucket_of("a", 100) == ((2147483647 - 99) % 100, -1)


@pytest.mark.parametrize("buckets", [0, -1, 1 << 31])
def test_buckets_that_are_none_are_refused(buckets):
    with pytest.raises(SignatureError, match="buckets"):
        Vectorizer("text", "char", (1, 1), True, None, None, buckets)

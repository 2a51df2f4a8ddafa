"""Vectors of fewer bits: what they are, and that the nearest are found among them."""

import numpy as np
import pandas as pd
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.embedding.precision import ROWS
from modelkit.errors import UsageError

R = np.random.default_rng(0)
CENTRES = R.normal(size=(40, 100))


def made_up(count, numbers=100):
    """Vectors of length 1, in groups."""
    found = CENTRES[R.integers(0, 40, count), :numbers] + R.normal(size=(count, numbers)) / 2
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


CORPUS, QUERIES = made_up(3 * ROWS // 2), made_up(30)


def recall(found, expected):
    return np.mean(
        [len({*left} & {*right}) / len(right) for left, right in zip(found, expected, strict=True)]
    )


def test_codes_are_those_of_each_vector_alone():
    codes = mk.quantize_embeddings(CORPUS, "int8")
    assert (codes.dtype, codes.shape) == (np.int8, CORPUS.shape)
    assert (np.abs(codes.astype(int)).max(axis=1) == 127).all()
    np.testing.assert_array_equal(codes[7:9], mk.quantize_embeddings(CORPUS[7:9] * 3, "int8"))
    steps = np.abs(CORPUS).max(axis=1, keepdims=True) / 127
    assert np.abs(codes * steps - CORPUS).max() <= steps.max() * 0.51
    bits = mk.quantize_embeddings(CORPUS, "ubinary")
    assert (bits.dtype, bits.shape) == (np.uint8, (len(CORPUS), 13))
    np.testing.assert_array_equal(bits, np.packbits(CORPUS > 0, axis=1))
    assert mk.quantize_embeddings(CORPUS, "float32") is CORPUS
    for precision in ("int8", "ubinary"):
        assert not mk.quantize_embeddings(np.zeros((2, 9)), precision).any()
        assert mk.quantize_embeddings(np.zeros((0, 9)), precision).shape[0] == 0


def test_codes_of_the_smallest_numbers_keep_their_proportion():
    with np.errstate(all="raise", under="ignore"):
        codes = mk.quantize_embeddings([[1e-40, -5e-41, 0], [3e38, -1.5e38, 0]], "int8")
    assert codes.tolist() == [[127, -64, 0], [127, -64, 0]]


@pytest.mark.parametrize("precision", ["int8", "ubinary"])
@pytest.mark.parametrize("vectors", [[[np.nan]], [[np.inf, 1.0]], np.zeros((2, 9), np.uint8)])
def test_what_has_no_code_is_refused(vectors, precision):
    with pytest.raises(UsageError, match="codes are made of finite numbers, not of uint8"):
        mk.quantize_embeddings(vectors, precision)


@pytest.mark.parametrize("precision", ["int8", "ubinary", "float32"])
@pytest.mark.parametrize(
    "vectors", [[1.0, 2.0], [[[1.0]]], [[1.0], [1.0, 2.0]], "abc", [["1"]], None]
)
def test_what_is_not_vectors_of_numbers_is_refused(vectors, precision):
    with pytest.raises(UsageError, match=r"vectors are numbers, \(n, d\)"):
        mk.quantize_embeddings(vectors, precision)
    with pytest.raises(UsageError, match=r"vectors are numbers, \(n, d\)"):
        mk.semantic_search(QUERIES, vectors)


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match=r"precision is one of .*, not 'int4'"):
        mk.quantize_embeddings([[1.0]], "int4")


@settings(max_examples=examples(50), deadline=None)
@given(k=st.integers(1, 12), rows=st.integers(1, 40), seed=st.integers(0, 9))
def test_the_nearest_are_those_of_a_comparison_with_all(k, rows, seed):
    rng = np.random.default_rng(seed)
    corpus, queries = rng.integers(-3, 4, (rows, 5)), rng.integers(-3, 4, (4, 5))
    places, cosines = mk.semantic_search(queries, corpus, k)
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(corpus, axis=1)
    expected = np.divide(queries @ corpus.T, norms, out=np.zeros((4, rows)), where=norms > 0)
    assert places.shape == cosines.shape == (4, min(k, rows))
    np.testing.assert_allclose(np.take_along_axis(expected, places, 1), cosines, atol=1e-6)
    np.testing.assert_allclose(-np.sort(-expected, axis=1)[:, :k], cosines, atol=1e-6)
    assert all(len({*row}) == len(row) for row in places)


def test_more_rows_than_are_decoded_at_once(monkeypatch):
    exact, cosines = mk.semantic_search(QUERIES, CORPUS, 10)
    np.testing.assert_array_equal(exact, np.argsort(-(QUERIES @ CORPUS.T), axis=1)[:, :10])
    monkeypatch.setattr(
        "modelkit.embedding.precision.COSINES", 2 * len(CORPUS)
    )  # two queries at a time
    again = mk.semantic_search(QUERIES, CORPUS, 10)
    np.testing.assert_array_equal(again[0], exact)
    np.testing.assert_allclose(again[1], cosines, atol=1e-6)


def test_codes_find_nearly_the_same_and_rescored_ones_more_still():
    exact, _ = mk.semantic_search(QUERIES, CORPUS, 10)
    found = {}
    for precision in ("int8", "ubinary"):
        codes = mk.quantize_embeddings(CORPUS, precision)
        found[precision] = recall(mk.semantic_search(QUERIES, codes, 10)[0], exact)
    places, cosines = mk.semantic_search(QUERIES, codes, 10, rescore=CORPUS)
    found["rescored"] = recall(places, exact)
    assert 0.2 < found["ubinary"] < found["rescored"] < found["int8"]
    assert found["int8"] > 0.97
    np.testing.assert_allclose(
        cosines, np.take_along_axis(QUERIES @ CORPUS.T, places, 1), atol=1e-5
    )
    all_of_them = mk.semantic_search(QUERIES, codes, 10, rescore=CORPUS, multiplier=10_000)
    np.testing.assert_array_equal(all_of_them[0], exact)


def test_vectors_may_lie_in_a_file(tmp_path):
    np.save(tmp_path / "v.npy", CORPUS)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    codes = mk.quantize_embeddings(mapped, "ubinary")
    for vectors, rescore in ((mapped, None), (codes, mapped)):
        places, _ = mk.semantic_search(QUERIES[:2], vectors, 3, rescore=rescore)
        assert places.shape == (2, 3)
    assert mk.semantic_search(QUERIES[:0], codes, 3)[0].shape == (0, 3)


@pytest.mark.parametrize(
    ("queries", "vectors", "options", "words"),
    [
        (QUERIES[0], CORPUS, {}, r"vectors are numbers, \(n, d\), not float32 \(100,\)"),
        (QUERIES, CORPUS[0], {}, "vectors are numbers"),
        (QUERIES, CORPUS.astype(str), {}, "vectors are numbers"),
        (QUERIES, CORPUS.astype(complex), {}, "vectors are numbers"),
        (QUERIES.astype(object), CORPUS, {}, "vectors are numbers"),
        (QUERIES, CORPUS, {"k": 0}, "k is an integer of at least 1"),
        (QUERIES, CORPUS, {"k": 1.5}, "k is an integer of at least 1"),
        (QUERIES, CORPUS, {"k": "2"}, "k is an integer of at least 1"),
        (QUERIES, CORPUS, {"k": None}, "k is an integer of at least 1"),
        (QUERIES, CORPUS, {"k": True}, "k is an integer of at least 1"),
        (QUERIES, CORPUS, {"multiplier": None}, "multiplier is an integer of at least 1"),
        (QUERIES, CORPUS, {"multiplier": 0}, "multiplier is an integer of at least 1"),
        (QUERIES, CORPUS, {"rescore": CORPUS[1:]}, "rescore has as many rows"),
        (np.packbits(QUERIES > 0, axis=1), np.packbits(CORPUS > 0, axis=1), {}, "not uint8"),
        (QUERIES, CORPUS[:, :50], {}, "queries have 100 numbers"),
        (QUERIES, np.packbits(CORPUS[:, :50] > 0, axis=1), {}, "queries have 100 numbers"),
        (QUERIES, CORPUS, {"rescore": CORPUS[:, :50]}, "queries have 100 numbers"),
    ],
)
def test_a_search_of_other_shapes_is_refused(queries, vectors, options, words):
    with pytest.raises(UsageError, match=words):
        mk.semantic_search(queries, vectors, **options)


def test_nothing_is_found_among_no_vectors():
    for vectors in (CORPUS[:0], mk.quantize_embeddings(CORPUS[:0], "ubinary")):
        places, cosines = mk.semantic_search(QUERIES, vectors)
        assert (places.shape, places.dtype) == ((len(QUERIES), 0), np.int64)
        assert (cosines.shape, cosines.dtype) == ((len(QUERIES), 0), np.float32)


def test_vectors_with_nan_come_last():
    vectors = CORPUS[:20].copy()
    vectors[7, 3] = np.nan
    for rescore in (None, vectors):
        places, cosines = mk.semantic_search(QUERIES, vectors, 20, rescore=rescore)
        assert (places[:, -1] == 7).all()
        assert np.isnan(cosines[:, -1]).all()
        assert np.isfinite(cosines[:, :-1]).all()


def test_vectors_may_be_of_any_numbers():
    expected = mk.semantic_search(QUERIES, CORPUS[:50], np.int64(3))[0]
    for form in (np.float16, np.float64):
        places, _ = mk.semantic_search(QUERIES.astype(form), CORPUS[:50].astype(form), 3)
        assert recall(places, expected) > 0.95
    for form in (pd.DataFrame, np.ndarray.tolist):
        places, _ = mk.semantic_search(form(QUERIES), form(CORPUS[:50]), 3)
        np.testing.assert_array_equal(places, expected)
        codes = mk.quantize_embeddings(form(CORPUS[:50]), "int8")
        np.testing.assert_array_equal(codes, mk.quantize_embeddings(CORPUS[:50], "int8"))

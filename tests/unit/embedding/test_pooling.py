"""How the vectors of tokens become one: without a model."""

import numpy as np
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.embedding.pooling import pad, pool, unit
from modelkit.embedding.recipe import POOLINGS, TOKEN_INPUTS


@settings(max_examples=examples(200), deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=9),
    extra=st.integers(0, 5),
    pooling=st.sampled_from([name for name in POOLINGS if name != "none"]),
    dtype=st.sampled_from(["float32", "float16"]),
    filling=st.sampled_from([0.0, 1e4, -1e4, np.inf, np.nan]),
    seed=st.integers(0, 99),
)
def test_pooling_is_what_a_plain_loop_gives_whatever_the_padding_holds(
    lengths, extra, pooling, dtype, filling, seed
):
    hidden = (
        np.random.default_rng(seed)
        .normal(size=(len(lengths), max(lengths) + extra, 5))
        .astype(dtype)
    )
    for row, length in zip(hidden, lengths, strict=True):
        row[length:] = filling
    got = pool(hidden, np.array(lengths), pooling)
    assert (got.dtype, got.shape) == (np.float32, (len(lengths), 5))
    for row, length, vector in zip(hidden.astype(np.float64), lengths, got, strict=True):
        held = row[:length]
        expected = {
            "mean": held.mean(axis=0),
            "max": held.max(axis=0),
            "cls": held[0],
            "last": held[-1],
            "splade": np.log1p(np.maximum(held, 0)).max(axis=0),
        }[pooling]
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=examples(100), deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(1, 1000), max_size=9), min_size=1, max_size=9).filter(any),
    dtype=st.sampled_from(["int64", "int32"]),
    padding=st.integers(0, 9),
)
def test_padding_gives_every_tensor_of_a_run(rows, dtype, padding):
    arrays = [np.array(row, np.int32) for row in rows]
    inputs = [mk.TensorSpec(name, dtype, ("batch", "tokens")) for name in TOKEN_INPUTS]
    feeds, lengths = pad(arrays, inputs, padding)
    width = max(map(len, rows))
    assert lengths.tolist() == [len(row) for row in rows]
    assert {(feed.dtype, feed.shape) for feed in feeds.values()} == {
        (np.dtype(dtype), (len(rows), width))
    }
    paired = [np.stack([row, row % 2], axis=1) for row in arrays]
    both, sizes = pad(paired, inputs, padding)
    assert sizes.tolist() == lengths.tolist()
    segments = [[token % 2 for token in row] + [0] * (width - len(row)) for row in rows]
    assert both.pop("token_type_ids").tolist() == segments
    for name, feed in both.items():
        np.testing.assert_array_equal(feed, feeds[name])
    assert feeds["input_ids"].tolist() == [row + [padding] * (width - len(row)) for row in rows]
    assert feeds["attention_mask"].tolist() == [
        [1] * len(row) + [0] * (width - len(row)) for row in rows
    ]
    assert feeds["position_ids"].tolist() == [list(range(width))] * len(rows)
    assert not feeds["token_type_ids"].any()


def test_a_vector_of_zeros_stays_one():
    vectors = np.array([[0, 0], [3, 4], [1e-15, 0]], np.float32)
    np.testing.assert_allclose(unit(vectors), [[0, 0], [0.6, 0.8], [1, 0]], rtol=1e-6)
    assert unit(vectors).dtype == np.float32
    assert unit(vectors[:0]).shape == (0, 2)

"""Texts to vectors: right, whoever else asks, and an error that says so where it cannot be."""

import asyncio
import copy
import json
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers import encoders
from helpers.encoders import (
    INPUTS,
    MOST,
    OUTPUT,
    TOKENS,
    WIDTH,
    WORDS,
    bert_tokenizer,
    letter_tokenizer,
    static_parts,
    tiny,
    tiny_graph,
    tiny_hidden,
    tiny_ids,
    tiny_tokenizer,
    tiny_vector,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.batching.policy import make_plan
from modelkit.embedding.pooling import unit
from modelkit.embedding.tokens import WINDOW_TEXTS
from modelkit.errors import BatchError, ClosedError, ConversionError, SignatureError
from modelkit.model import PLAIN
from modelkit.testing import check_model

words = st.sampled_from([*WORDS, "unknown", "\N{SNOWMAN}"])
texts = st.lists(
    st.lists(words, max_size=30).map(" ".join) | st.text(st.characters(exclude_categories=["Cs"]))
)
texts = texts.map(lambda found: [text.replace("\ufdd0", "") for text in found])
ODD = ["", " ", "\t\n ", "\N{GRINNING FACE}\N{GRINNING FACE} \N{WOMAN}\u200d\N{ROCKET}", "a\0b", "\0", "\ufeffthe",
       "e\u0301\u0301\u0301", "\u202eriver", "[CLS] [SEP] [PAD]", "x" * 3000, "\U0010ffff"]  # fmt: skip


def cosines(left, right):
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def sentences(count, seed, most=40):
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(WORDS, k=rng.randint(0, rng.choice((3, most))))) for _ in range(count)
    ]


@pytest.fixture(scope="module")
def encoder(tiny_mk):
    with mk.load(tiny_mk) as loaded:
        yield loaded


# Vectors are right.


@settings(max_examples=100, deadline=None)
@given(found=texts)
def test_vectors_are_those_of_each_text_in_order(encoder, found):
    vectors = encoder.embed(found)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(found), WIDTH))
    for text, vector in zip(found, vectors, strict=True):
        np.testing.assert_allclose(vector, tiny_vector(text), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
def test_each_pooling_is_that_of_the_texts_own_tokens(pooling):
    with tiny(pooling=pooling, normalize=False) as encoder:
        found = sentences(40, seed=1)
        for text, vector in zip(found, encoder.embed(found), strict=True):
            hidden = tiny_hidden(tiny_ids(text))
            pooled = {
                "mean": hidden.mean(axis=0),
                "max": hidden.max(axis=0),
                "cls": hidden[0],
                "last": hidden[-1],
            }
            np.testing.assert_allclose(vector, pooled[pooling], atol=1e-5)


@pytest.mark.parametrize("name", ["minilm", "paraphrase"])
def test_vectors_of_real_graphs_are_those_of_one_text_at_a_time(name, request):
    encoder = request.getfixturevalue(name)
    rng = random.Random(0)
    found = [
        " ".join(rng.choices(WORDS, k=rng.randint(1, rng.choice((4, 60))))) for _ in range(48)
    ] + ODD
    together = encoder.embed(found)
    alone = np.concatenate([encoder.embed([text]) for text in found])
    assert cosines(together, alone).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_static_vectors_are_those_of_their_own_library(static):
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    proto, tokenizer = static_parts()
    theirs = WordLlamaInference(
        numpy_helper.to_array(proto.graph.initializer[0]), Tokenizer.from_buffer(tokenizer)
    )
    # Of nothing at all it makes NaN, and it cuts no text.
    found = [text for text in sentences(200, seed=2) + ODD if 0 < len(text) < 512]
    assert cosines(static.embed(found), theirs.embed(found)).min() > 0.99999
    for dims in (128, 64):
        np.testing.assert_allclose(
            static.embed(found, dims=dims), unit(theirs.embed(found)[:, :dims]), atol=1e-5
        )


def test_a_text_without_a_token_has_a_vector_of_zeros():
    with tiny(tokenizer=tiny_tokenizer(special=False)) as encoder:
        vectors = encoder.embed(["", "the river", "  "])
        assert not vectors[[0, 2]].any()
        assert np.linalg.norm(vectors[1]) == pytest.approx(1)
        assert not encoder.embed([""]).any()
        assert encoder.token_count(["", "the river"]).tolist() == [0, 2]
        check_model(encoder, {"text": ["", "the river", "", "of", " "]})


def test_every_input_that_a_graph_may_have_is_given(encoder):
    more = tuple((name, TensorProto.INT32, TOKENS) for name in ("token_type_ids", "position_ids"))
    found = sentences(9, seed=3)
    with tiny(tiny_graph(INPUTS + more)) as other:
        np.testing.assert_allclose(other.embed(found), encoder.embed(found), atol=1e-6)


def test_half_precision_comes_out_as_float32(encoder):
    proto = tiny_graph()
    proto.graph.node[-1].CopyFrom(
        helper.make_node("Cast", ["hidden"], ["last_hidden_state"], to=TensorProto.FLOAT16)
    )
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with tiny(proto) as half:
        vectors = half.embed(sentences(9, seed=3))
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, encoder.embed(sentences(9, seed=3)), atol=1e-2)


def test_more_texts_than_a_window_come_back_in_order(static):
    found = sentences(3 * WINDOW_TEXTS + 7, seed=4)
    vectors = static.embed(found)
    some = random.Random(0).sample(range(len(found)), 50)
    np.testing.assert_allclose(vectors[some], static.embed([found[i] for i in some]), atol=1e-6)
    assert static.pipeline.costs is not None  # so many texts are worth measuring what runs cost
    assert "measured here" in static._repr_html_()


def test_no_texts_have_no_vectors(encoder):
    assert encoder.embed([]).shape == (0, WIDTH)
    assert encoder.embed([], dims=4).shape == (0, 4)
    assert encoder.embed(iter(())).dtype == np.float32
    assert encoder.token_count([]).shape == (0,)
    assert list(encoder.stream([])) == []


# Texts may be anything that is text.


def test_odd_texts_have_vectors_too(encoder, static):
    for model in (encoder, static):
        vectors = model.embed(ODD)
        assert np.isfinite(vectors).all()
        for text, vector in zip(ODD, vectors, strict=True):
            np.testing.assert_allclose(model.embed([text])[0], vector, atol=1e-6)


def test_texts_come_in_any_collection_of_strings(encoder):
    import pandas as pd

    found = ["the river", "music", "", "of winter"]
    expected = encoder.embed(found)
    for same in (
        tuple(found),
        iter(found),
        (text for text in found),
        np.array(found),
        np.array(found, object),
        np.array(found, np.dtypes.StringDType()),
        pd.Series(found),
        pd.Series(found, index=[3, 1, 2, 0], dtype=object),
        dict.fromkeys(found).keys(),
        [np.str_(text) for text in found],
    ):
        np.testing.assert_array_equal(encoder.embed(same), expected)
        with mk.Batcher(encoder, plan="learn") as batcher:
            np.testing.assert_allclose(mk.embed(batcher, found), expected, atol=1e-6)


@pytest.mark.parametrize(
    "bad", ["one text", b"bytes", None, 7, {"text": ["a"]}, {}, bytearray(b"a"), np.array("a")]
)
def test_what_is_no_batch_of_texts_is_refused_with_the_fix(encoder, bad):
    for ask in (encoder.embed, encoder.token_count, lambda texts: list(encoder.stream(texts))):
        with pytest.raises(SignatureError, match="texts are always a batch"):
            ask(bad)
    with pytest.raises(SignatureError, match=r"pass \['one text'\]"):
        encoder.embed("one text")


@pytest.mark.parametrize("bad", [None, 7, 1.5, b"bytes", ["a"], float("nan"), np.array(["a"])])
def test_what_is_no_string_is_named_by_its_row(encoder, bad):
    with pytest.raises(SignatureError, match=r"text 2 is .* and no string") as caught:
        encoder.embed(["a", "b", bad])
    assert caught.value.rows == (2,)
    with pytest.raises(SignatureError, match=r"text 2 is"):
        mk.embed(mk.Batcher(encoder, plan="learn"), ["a", "b", bad])


@pytest.mark.parametrize("bad", ["\ud800", "the \udfff river", "\udc80" * 3, "\udfff" + "x" * 5000])
def test_a_lone_surrogate_is_named_by_its_row_and_place(encoder, bad):
    at = next(i for i, letter in enumerate(bad) if "\ud800" <= letter <= "\udfff")
    for ask in (encoder.embed, encoder.token_count, lambda texts: list(encoder.stream(texts))):
        with pytest.raises(
            SignatureError, match=f"text 3 is no valid Unicode: .* at character {at} "
        ) as caught:
            ask(["a", "b", "", bad, "c"])
        assert caught.value.rows == (3,)


@settings(max_examples=50, deadline=None)
@given(
    before=st.lists(st.sampled_from(["a", "the", ""]), max_size=9),
    far=st.sampled_from([0, 0, WINDOW_TEXTS, 3 * WINDOW_TEXTS, 8 * WINDOW_TEXTS]),
    bad=st.sampled_from(["\ud800", "music " * 30]),
    batched=st.booleans(),
)
def test_what_is_wrong_is_named_by_its_row_wherever_it_stands(strict, before, far, bad, batched):
    found = ["a"] * far + before + [bad, "of", bad]
    mk.embed(strict, ["the"])  # one text that is known, or not, when the others come
    with pytest.raises(SignatureError, match=rf"text {far + len(before)} ") as caught:
        mk.embed(mk.Batcher(strict, plan="learn") if batched else strict, found)
    assert caught.value.rows[0] == far + len(before)


@pytest.fixture(scope="module")
def strict():
    with tiny(on_long="error") as encoder:
        yield encoder


def test_the_mark_of_a_missing_string_is_refused_as_in_every_model(encoder):
    with pytest.raises(SignatureError, match=r"U\+FDD0 in row 1"):
        encoder.embed(["a", "\ufdd0"])


# Long texts.


@settings(max_examples=50, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["the", "river", " ", "  ", "\n", " " * 400, "x" * 90, "x" * 300, "\0"]),
        max_size=99,
    )
)
def test_a_text_is_cut_at_max_tokens_and_nowhere_else(encoder, parts):
    text = " ".join(parts)
    np.testing.assert_allclose(encoder.embed([text])[0], tiny_vector(text), atol=1e-5)
    assert encoder.token_count([text])[0] == len(tiny_ids(text, most=1 << 20))


@pytest.mark.parametrize("name", ["encoder", "static", "paraphrase"])
def test_of_a_megabyte_of_text_the_beginning_is_embedded(name, request):
    encoder = request.getfixturevalue(name)
    text = ("music of the winter river " * 50_000)[: 1 << 20]
    before = encoder.truncated
    (vector,) = encoder.embed([text])
    assert encoder.truncated == before + 1
    np.testing.assert_allclose(vector, encoder.embed([text[:20_000]])[0], atol=1e-6)
    assert encoder.truncated == before + 2
    encoder.embed(["short"])
    assert encoder.truncated == before + 2
    words = text.split()
    if name != "static":
        assert encoder.token_count([text]).tolist() == [
            len(words) + 2
        ]  # a word is a token, but for the last half
    assert encoder.token_count([text, "music", text])[1] == encoder.token_count(["music"])[0]


def test_where_a_long_text_is_cut_off_makes_no_difference():
    # Cut between its letters, the last word has many tokens; whole it is a single unknown one.
    text = "river " + " " * 420 + "x" * 400 + " music"
    with mk.TextEncoder(encoders.paraphrase(), bert_tokenizer(), max_tokens=8) as encoder:
        assert encoder.token_count([text]).tolist() == [5]
        np.testing.assert_allclose(
            encoder.embed([text]), encoder.embed(["river [UNK] music"]), atol=1e-6
        )
        assert encoder.truncated == 0


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 40), max_size=9))
def test_tokens_are_counted_beyond_what_is_embedded(encoder, counts):
    found = [" ".join(["music"] * count) for count in counts]
    assert encoder.token_count(found).tolist() == [count + 2 for count in counts]
    assert encoder.token_count(found, role="query").tolist() == [count + 3 for count in counts]


def test_texts_that_are_too_long_can_be_an_error_instead():
    with tiny(on_long="error") as encoder:
        found = ["the", " ".join(["music"] * MOST), "a" * 5000, " ".join(["of"] * 40)]
        with pytest.raises(
            SignatureError, match=rf"text 1 has {MOST + 2} tokens, .* takes {MOST}"
        ) as caught:
            encoder.embed(found)
        assert caught.value.rows == (1, 3)
        assert encoder.truncated == 0
        assert encoder.embed(["the", " ".join(["music"] * (MOST - 2))]).shape == (2, WIDTH)
        with (
            mk.Batcher(encoder, plan="learn") as batcher,
            pytest.raises(SignatureError, match="text 1 has"),
        ):
            mk.embed(batcher, found)


def test_an_encoder_that_refuses_long_texts_is_proven_and_saved_as_any_other(tmp_path):
    with tiny(tokenizer=letter_tokenizer(), on_long="error") as encoder:
        assert encoder.batchable
        mk.save(encoder, tmp_path / "letters.mk", name="letters", version="1")
    with mk.load(tmp_path / "letters.mk") as encoder:
        assert encoder.verify() == 0.0
        encoder.warmup()
        with pytest.raises(SignatureError, match="text 0 has 17 tokens"):
            encoder.embed(["a" * 17])


def test_only_texts_of_callers_are_counted_as_truncated(tmp_path):
    with tiny(tokenizer=letter_tokenizer()) as encoder:
        assert encoder.batchable
        assert encoder.truncated == 0
        mk.save(encoder, tmp_path / "letters.mk", name="letters", version="1")
        assert encoder.truncated == 0
        with mk.Batcher(encoder, plan="learn") as batcher:
            mk.embed(batcher, ["a" * 20] * 3 + ["a"])
            assert encoder.truncated == 3
            mk.embed(batcher, ["a", *["b" * 20] * (8 * WINDOW_TEXTS + 1)])
            assert encoder.truncated == 3 + 8 * WINDOW_TEXTS + 1


def test_a_text_is_tokenized_and_counted_once_however_long_it_is(static, monkeypatch):
    read, seen = static.pipeline.tokens.read, []

    def spy(found, *rest, **options):
        seen.extend(found)
        return read(found, *rest, **options)

    class Spied:
        def __getattr__(self, name):
            return spy if name == "read" else getattr(tokens, name)

    tokens = static.pipeline.tokens
    monkeypatch.setattr(static.pipeline, "tokens", Spied())
    found = ["the river " * 3000 + str(i) for i in range(9)]
    with mk.Batcher(static, plan="learn") as batcher:
        before = static.truncated
        mk.embed(batcher, found[:1])
        asyncio.run(mk.aembed(batcher, found[1:]))
        assert static.truncated == before + len(found)
        assert sorted(seen) == sorted(found)


def test_prepared_texts_are_run_as_the_texts_themselves(static):
    """By tokens of each row, in any order and any part, so that what gathers calls may join them."""
    column = np.array([["the river"], [""], ["a street of museums"], ["the river"]], object)
    prepared, size = static._prepare({"text": column})
    (tokens,) = prepared.values()
    assert size == sum(len(row) for row in tokens)
    assert static._prepare(prepared) == (prepared, size)
    order = np.array([3, 0, 2, 1])
    again = static._run(
        {name: feed[order] for name, feed in prepared.items()}, ("embedding",), PLAIN
    )
    expected = static.embed(column[order, 0].tolist())
    np.testing.assert_allclose(again["embedding"], expected, atol=1e-6)


def test_every_row_that_is_too_long_is_named_through_a_batcher_too():
    long = " ".join(["music"] * MOST)
    with tiny(on_long="error") as encoder, mk.Batcher(encoder, plan="learn") as batcher:
        for model in (encoder, batcher):
            with pytest.raises(SignatureError) as caught:
                mk.embed(model, ["a", long, "b", long])
            assert caught.value.rows == (1, 3)


def test_an_encoder_around_a_loaded_model_does_not_pass_its_package_for_its_own(tmp_path):
    mk.save(tiny_graph(), tmp_path / "graph.mk", name="graph", version="1")
    with (
        mk.load(tmp_path / "graph.mk") as graph,
        mk.TextEncoder(graph, tiny_tokenizer(), max_tokens=MOST) as encoder,
        mk.Batcher(encoder) as batcher,
    ):
        assert encoder.manifest is None
        assert dict(encoder.attachments) == {}
        np.testing.assert_allclose(mk.embed(batcher, ["the river"]), encoder.embed(["the river"]))
        with pytest.raises(mk.errors.PackageError, match="holds no golden rows"):
            encoder.verify()


@pytest.mark.parametrize(
    "texts",
    [
        pd.DataFrame({"text": ["a", "b"]}),
        pl.DataFrame({"text": ["a"]}),
        pa.table({"text": ["a"]}),
        {"a"},
        frozenset("a"),
    ],
)
def test_what_has_no_order_or_other_items_than_texts_is_no_batch(static, texts):
    for verb in (static.embed, static.token_count, lambda found: list(static.stream(found))):
        with pytest.raises(SignatureError, match="texts are always a batch: pass"):
            verb(texts)


@pytest.mark.parametrize("flag", ["no", 1, None, np.bool_(True)])
@pytest.mark.parametrize("name", ["normalize", "stable"])
def test_a_flag_is_true_or_false(name, flag):
    with pytest.raises(SignatureError, match=f"{name} is True or False"):
        tiny(**{name: flag})


def test_roles_are_names_that_can_be_written(static):
    with pytest.raises(SignatureError, match="no valid Unicode"):
        tiny(roles={"q": "\ud800"})
    with pytest.raises(SignatureError, match="it has"):
        static.embed(["a"], role=["q"])


def test_similarity_is_of_directions_and_of_numbers(static):
    vectors = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    expected = static.similarity(vectors, vectors)
    for scale in (1e20, 1e-24, 3):
        np.testing.assert_allclose(
            static.similarity(vectors * np.float32(scale), vectors), expected, atol=1e-6
        )
    for odd in (vectors.astype(str), vectors.astype(complex), vectors > 0):
        with pytest.raises(SignatureError, match="vectors of numbers"):
            static.similarity(odd, vectors)


def test_a_batcher_gives_up_a_large_call_at_its_deadline(static):
    """Each of its pieces is a request of its own, and the first ones take longer than it has."""
    plan = make_plan(((1, 3e-3), (64, 4e-3)), 1, 64)
    with mk.Batcher(static, max_rows=64, plan=plan) as batcher:
        with pytest.raises(mk.errors.DeadlineExceeded):
            mk.embed(batcher, ["the river of winter " * 20] * 2000, deadline=1e-6)
        assert batcher.stats().expired == 1


# Roles, dimensions, similarity.


def test_a_role_puts_its_prefix_before_each_text(encoder):
    found = ["river", "", "music of winter"]
    for role in ("query", "text"):
        np.testing.assert_array_equal(
            encoder.embed(found, role=role), encoder.embed([f"{role} {text}" for text in found])
        )
    assert not np.allclose(encoder.embed(found, role="query"), encoder.embed(found))
    assert encoder.recipe.roles == {"query": "query ", "text": "text "}


def test_an_unknown_role_or_length_lists_those_there_are(encoder):
    for model in (encoder, mk.Batcher(encoder, plan="learn")):
        with pytest.raises(SignatureError, match=r"role 'passage' .* \['query', 'text'\]"):
            mk.embed(model, ["a"], role="passage")
        for dims in (3, 0, -8, 16, True, 8.0, "8", (8,)):
            with pytest.raises(SignatureError, match=r"\[8, 4, 2\]"):
                mk.embed(model, ["a"], dims=dims)
    with tiny() as plain, pytest.raises(SignatureError, match="it has none"):
        plain.embed(["a"], role="query")


def test_cut_vectors_are_unit_vectors_again(encoder):
    found = sentences(20, seed=5)
    whole = encoder.embed(found)
    for dims in (8, 4, 2, np.int64(4)):
        cut = encoder.embed(found, dims=dims)
        assert cut.shape == (20, dims)
        np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(cosines(cut, whole[:, :dims]), 1, atol=1e-6)


def test_vectors_keep_their_length_where_they_are_not_normalised():
    with tiny(normalize=False, dims=(8, 2)) as encoder:
        found = sentences(20, seed=5)
        whole = encoder.embed(found)
        assert np.ptp(np.linalg.norm(whole, axis=1)) > 0.1
        np.testing.assert_array_equal(encoder.embed(found, dims=2), whole[:, :2])


def test_dims_need_not_include_all_that_the_graph_gives():
    with tiny(dims=(4, 2)) as encoder:
        vectors = encoder.embed(["the river"])
        assert vectors.shape == (1, 4)
        assert encoder.signature.outputs[0].shape == ("batch", 4)
        expected = tiny_vector("the river")[:4]
        np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
        with pytest.raises(SignatureError, match=r"\[4, 2\]"):
            encoder.embed(["a"], dims=8)


def test_similarity_is_the_cosine_of_each_pair(encoder):
    left, right = np.random.default_rng(0).normal(size=(2, 5, 8))
    found = encoder.similarity(left, right[:3])
    assert (found.dtype, found.shape) == (np.float32, (5, 3))
    np.testing.assert_allclose(found[4, 2], cosines(left[4:], right[2:3])[0], atol=1e-6)
    assert encoder.similarity(left.tolist(), right).shape == (5, 5)
    assert encoder.similarity(left[:0], right).shape == (0, 5)
    for bad in (left[0], left[:, :4], 3.0, left[None]):
        with pytest.raises(SignatureError, match=r"\(n, d\) and \(m, d\)"):
            encoder.similarity(bad, right)


# A stream.


def test_a_stream_takes_texts_as_they_are_needed(static):
    taken = []

    def corpus():
        for text in sentences(10_000, seed=6):
            taken.append(text)
            yield text

    stream = static.stream(corpus(), role="query", dims=64)
    assert taken == []
    first = [next(stream) for _ in range(3)]
    assert len(taken) < 5000
    np.testing.assert_allclose(first, static.embed(taken[:3], role="query", dims=64), atol=1e-6)
    rest = list(stream)
    assert len(taken) == 10_000
    np.testing.assert_allclose(
        rest[-3:], static.embed(taken[-3:], role="query", dims=64), atol=1e-6
    )


def test_a_stream_names_the_row_of_the_stream(encoder):
    stream = encoder.stream(["a"] * 3000 + ["\ud800"])
    for _ in range(2048):
        next(stream)
    with pytest.raises(
        SignatureError, match="among the texts from 2048 on: text 952 is no valid"
    ) as caught:
        list(stream)
    assert caught.value.rows == (3000,)


# Many callers.


def test_it_keeps_the_contract_of_a_model(encoder, static, minilm):
    found = {"text": [*sentences(12, seed=7), *ODD]}
    for model in (encoder, static, minilm):
        check_model(model, found)
    with mk.Batcher(static) as batcher:
        check_model(batcher, found)


def test_threads_get_the_vectors_of_their_own_texts(static, paraphrase):
    for encoder, rounds in ((static, 30), (paraphrase, 3)):
        expected = {seed: encoder.embed(sentences(9, seed)) for seed in range(16)}

        def ask(seed, encoder=encoder, expected=expected, rounds=rounds):
            for turn in range(rounds):
                at = (seed + turn) % 16
                np.testing.assert_allclose(encoder.embed(sentences(9, at)), expected[at], atol=1e-5)
                encoder.token_count(sentences(3, at))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))


def test_threads_through_a_batcher_get_the_vectors_of_their_own_texts(static):
    expected = {seed: static.embed(sentences(3, seed), role="query", dims=64) for seed in range(32)}
    with mk.Batcher(static) as batcher:

        def ask(seed):
            for turn in range(20):
                at = (seed + turn) % 32
                got = mk.embed(batcher, sentences(3, at), role="query", dims=64)
                np.testing.assert_allclose(got, expected[at], atol=1e-5)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        assert batcher.stats().failed == 0


@pytest.mark.parametrize("wrap", ["bare", "batched", "watched"])
def test_tasks_get_the_vectors_of_their_own_texts(static, wrap):
    found = sentences(200, seed=8)
    expected = {
        (role, dims): static.embed(found, role=role, dims=dims)
        for role in (None, "query")
        for dims in (None, 64)
    }

    async def main(model):
        asked = [*expected] * 50
        got = await asyncio.gather(
            *[
                mk.aembed(model, [text], role=r, dims=d)
                for text, (r, d) in zip(found, asked, strict=True)
            ]
        )
        for i, (vector, key) in enumerate(zip(got, asked, strict=True)):
            np.testing.assert_allclose(vector[0], expected[key][i], atol=1e-5)
        np.testing.assert_allclose(await mk.aembed(model, found), expected[None, None], atol=1e-5)
        np.testing.assert_allclose(
            await static.aembed(found[:3], dims=64), expected[None, 64][:3], atol=1e-5
        )

    with mk.Batcher(static) as batcher:
        watched = mk.Monitor(
            batcher, mk.Profile.fit({"text": np.array(found, object)}, text=("text",))
        )
        asyncio.run(main({"bare": static, "batched": batcher, "watched": watched}[wrap]))


def test_a_cancelled_task_takes_nobody_with_it(static):
    found = sentences(60, seed=9)
    expected = static.embed(found)

    async def main():
        tasks = [asyncio.create_task(mk.aembed(batcher, [text])) for text in found]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        for i, answer in enumerate(got):
            if i % 3 == 0 and isinstance(answer, asyncio.CancelledError):
                continue
            np.testing.assert_allclose(answer[0], expected[i], atol=1e-5)

    with mk.Batcher(static) as batcher:
        for _ in range(5):
            asyncio.run(main())


@pytest.mark.parametrize("bad", ["\ud800", "the \udfff"])
def test_a_bad_text_fails_its_caller_alone(static, bad):
    good = sentences(40, seed=10)
    expected = static.embed(good)

    def ask(i):
        if i % 4:
            return np.testing.assert_allclose(
                mk.embed(batcher, [good[i]])[0], expected[i], atol=1e-5
            )
        with pytest.raises(SignatureError, match=r"text 1 is no valid Unicode"):
            mk.embed(batcher, ["fine", bad])
        return None

    async def ask_all():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(context)
        )
        for _ in range(3):
            calls = [mk.aembed(batcher, [good[i]] if i % 4 else ["fine", bad]) for i in range(40)]
            got = await asyncio.gather(*calls, return_exceptions=True)
            for i, answer in enumerate(got):
                if i % 4:
                    np.testing.assert_allclose(answer[0], expected[i], atol=1e-5)
                else:
                    assert isinstance(answer, SignatureError)
                    assert answer.rows == (1,)
        assert complaints == []

    with mk.Batcher(static) as batcher:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(40)))
        asyncio.run(ask_all())


class Spy(mk.Wrapper):
    """Wraps an encoder, and remembers the tokens of each text of each run."""

    _call = mk.Model._call
    _acall = mk.Model._acall

    def __init__(self, model):
        super().__init__(model)
        self.runs = []

    def _run(self, feeds, outputs, call):
        prepared, _ = self.inner._prepare(feeds)
        self.runs.append([len(ids) for ids in prepared["tokens"]])
        return self.inner._run(feeds, outputs, call)


def test_the_card_of_a_wrapper_says_what_is_inside(static):
    with mk.Batcher(static, plan="learn") as batcher:
        card = batcher._repr_html_()
    assert str(static.recipe).split(";")[0].replace("'", "&#x27;") in card
    assert card.count("placement") == 1
    assert "batching" in card


def test_a_batcher_counts_tokens_and_not_texts(static):
    spy = Spy(static)
    found = [text + " river" for text in sentences(200, seed=11, most=90)]
    plan = make_plan(((1, 3e-3), (128, 4e-3)), 1, 128)
    with mk.Batcher(spy, max_rows=128, plan=plan) as batcher:
        batcher._lane.planner.observe = lambda *_: False  # it keeps the plan that it was given

        async def main():
            return await asyncio.gather(*[mk.aembed(batcher, [text]) for text in found])

        got = np.concatenate(asyncio.run(main()))
        assert max(batcher.stats().batch_sizes) <= 1023
    np.testing.assert_allclose(got, static.embed(found), atol=1e-5)
    assert sorted(n for run in spy.runs for n in run) == sorted(static.token_count(found).tolist())
    assert all(len(run) == 1 or sum(run) <= 128 for run in spy.runs)
    assert any(len(run) > 1 for run in spy.runs)


def test_embed_goes_through_whatever_wraps_an_encoder(static):
    found = sentences(30, seed=12)
    expected = static.embed(found, role="query", dims=128)
    profile = mk.Profile.fit({"text": np.array(sentences(200, seed=13), object)}, text=("text",))
    with mk.Batcher(static) as batcher:
        for model in (
            static,
            batcher,
            mk.Monitor(static, profile),
            mk.Monitor(batcher, profile),
            Spy(static),
        ):
            np.testing.assert_allclose(
                mk.embed(model, found, role="query", dims=128), expected, atol=1e-5
            )
    with pytest.raises(BatchError, match="put it outside"):
        mk.Batcher(mk.Monitor(static, profile))


def test_embed_refuses_what_holds_no_encoder(boosting_mk):
    model = mk.load(boosting_mk)
    for other in (model, mk.Batcher(model, plan="learn")):
        with pytest.raises(TypeError, match="texts are embedded by a TextEncoder"):
            mk.embed(other, ["a"])
        with pytest.raises(TypeError, match="texts are embedded by a TextEncoder"):
            asyncio.run(mk.aembed(other, ["a"]))


def test_deadlines_and_priorities_go_with_a_call(static):
    with mk.Batcher(static) as batcher:
        assert mk.embed(batcher, ["a"], deadline=60.0, priority=-1, key="k").shape == (1, 256)
        with pytest.raises(ValueError, match="deadline"):
            mk.embed(batcher, ["a"], deadline=-1.0)


# What it is made from.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "sum"}, r"pooling is one of \['mean', 'cls', 'last', 'max'\], not 'sum'"),
        ({"on_long": "ignore"}, r"on_long is one of \['truncate', 'error'\], not 'ignore'"),
        ({"dims": (16, 8)}, "not a vector of 16 numbers for each token"),
        ({"dims": ()}, "dims are integers"),
        ({"dims": (4, 8)}, "the largest first"),
        ({"dims": (8, 8)}, "the largest first"),
        ({"dims": (8, 0)}, "dims are integers"),
        ({"dims": (8.0,)}, "dims are integers"),
        ({"dims": ("8",)}, "dims are integers"),
        ({"dims": (True,)}, "dims are integers"),
        ({"max_tokens": 2}, "an integer that leaves room beside 2 special tokens, not 2"),
        ({"max_tokens": -1}, "leaves room beside"),
        ({"max_tokens": 1 << 18}, "max_tokens is an integer from 1 to 131,072"),
        ({"max_tokens": 16.0}, "max_tokens is an integer"),
        ({"max_tokens": "16"}, "max_tokens is an integer"),
        ({"max_tokens": True}, "max_tokens is an integer"),
        ({"max_tokens": None}, r"pass max_tokens="),
        ({"roles": {"query": None}}, "roles are prefixes by name"),
        ({"roles": {1: "query"}}, "roles are prefixes by name"),
        ({"output": "nothing"}, r"no output 'nothing'; it has \['last_hidden_state'\]"),
        ({"tokenizer": b"not json"}, r"no tokenizer\.json"),
        ({"tokenizer": b"{}"}, r"no tokenizer\.json"),
        (
            {"tokenizer": 7},
            "the path or bytes of a tokenizer.json, or a tokenizers.Tokenizer; got a int",
        ),
        (
            {"graph": 7},
            "made from an ONNX model as path, bytes or ModelProto, or from a Model over tokens; got a int",
        ),
    ],
)
def test_an_argument_that_does_not_fit_says_which_would(options, message):
    with pytest.raises(SignatureError, match=message):
        tiny(**options)


def test_a_graph_that_takes_no_tokens_is_refused():
    tokens, mask = INPUTS
    with pytest.raises(SignatureError, match="takes input_ids and attention_mask"):
        tiny(tiny_graph((tokens, mask, ("pixels", TensorProto.INT64, TOKENS))))
    with pytest.raises(SignatureError, match="takes input_ids and attention_mask"):
        tiny(tiny_graph((tokens, mask, ("token_type_ids", TensorProto.FLOAT, TOKENS))))
    with pytest.raises(SignatureError, match="takes input_ids and attention_mask"):
        tiny(tiny_graph((tokens, mask, ("token_type_ids", TensorProto.INT64, ("batch",)))))
    gather = [helper.make_node("Gather", ["values", "input_ids"], ["last_hidden_state"])]
    with pytest.raises(SignatureError, match="takes input_ids and attention_mask"):
        tiny(encoders.proto_of(gather, [tokens], [OUTPUT], {"values": encoders.VALUES}))
    with pytest.raises(ConversionError, match="not a readable ONNX model"):
        tiny(b"not a graph")
    with pytest.raises(FileNotFoundError):
        tiny("nowhere.onnx")


def test_of_several_outputs_one_must_be_named():
    several = [(name, TensorProto.FLOAT, (*TOKENS, WIDTH)) for name in ("first", "second")]
    with pytest.raises(
        SignatureError, match=r"2 outputs .*\['first', 'second'\]; name one by output="
    ):
        tiny(tiny_graph(outputs=several))
    with tiny(tiny_graph(outputs=several), output="second") as encoder:
        assert encoder.recipe.output == "second"
    with tiny(tiny_graph(outputs=[OUTPUT, *several])) as encoder:
        assert encoder.recipe.output == "last_hidden_state"


def test_the_vectors_of_tokens_are_found_among_outputs_without_telling_names(paraphrase):
    assert paraphrase.recipe.output == "onnx::Shape_422"
    assert len(paraphrase.token_model.signature.outputs) == 4
    with pytest.raises(
        SignatureError, match=r"output 461: .* is not a vector of 1 numbers for each token"
    ):
        mk.TextEncoder(encoders.paraphrase(), bert_tokenizer(), max_tokens=128, output="461")


def test_a_graph_and_a_tokenizer_come_as_path_bytes_or_object(encoder, tmp_path):
    proto, tokenizer = tiny_graph(), tiny_tokenizer()
    (tmp_path / "g.onnx").write_bytes(proto.SerializeToString())
    tokenizer.save(str(tmp_path / "t.json"))
    expected = encoder.embed(["the river"])
    for graph in (proto, proto.SerializeToString(), tmp_path / "g.onnx", str(tmp_path / "g.onnx")):
        for parts in (
            tokenizer,
            tmp_path / "t.json",
            str(tmp_path / "t.json"),
            (tmp_path / "t.json").read_bytes(),
        ):
            with tiny(graph, parts) as other:
                np.testing.assert_array_equal(other.embed(["the river"]), expected)


def test_the_tokenizer_that_was_passed_may_be_changed_later(encoder):
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(5, direction="left")
    tokenizer.enable_padding(length=64)
    with tiny(tokenizer=tokenizer, max_tokens=5) as other:
        tokenizer.enable_truncation(3)
        vectors = other.embed(["the river of music and winter"])  # its end, as the tokenizer says
        np.testing.assert_allclose(vectors, encoder.embed(["music and winter"]), atol=1e-6)


@pytest.mark.parametrize("told", [False, True])
def test_a_graph_that_takes_fewer_tokens_is_refused_when_the_encoder_is_made(told):
    """The table of its positions has a usual name, or a run of that length shows it."""
    name = "encoder.position_embeddings.weight" if told else "positions"
    graph = tiny_graph(most=8, positions=name)
    with pytest.raises(
        SignatureError, match="has 8 positions, fewer" if told else "does not run on a text of 16"
    ) as refused:
        tiny(graph)
    assert "onnxruntime" not in str(refused.value).lower()
    with pytest.raises(SignatureError, match="max_tokens="):
        tiny(graph, max_tokens=9)
    with tiny(graph, max_tokens=8) as encoder:
        assert encoder.embed(["the river " * 9]).shape == (1, WIDTH)


def test_a_graph_that_leaves_out_its_first_positions_is_found_out():
    """As RoBERTa does, which begins to count behind the number of its padding token."""
    graph = tiny_graph(most=8, positions="position_embeddings.weight", first=2)
    with pytest.raises(SignatureError, match="does not run on a text of 7 tokens"):
        tiny(graph, max_tokens=7)
    with tiny(graph, max_tokens=6) as encoder:
        assert encoder.embed(["the river " * 9]).shape == (1, WIDTH)
    with pytest.raises(SignatureError, match="has 8 positions, fewer than max_tokens=16"):
        tiny(graph)


# How long a text may be.


def test_what_a_tokenizer_was_last_cut_to_is_not_taken_for_the_limit_of_a_model(tmp_path):
    """Nothing but a number from the caller, or from files beside paths, says it."""
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "tokenizer.json"
    for source in (tokenizer, path, path.read_bytes()):
        with pytest.raises(SignatureError, match=r"\(it cuts them to 5, .*\).* pass max_tokens="):
            tiny(tokenizer=source, max_tokens=None)
    write(tmp_path / "config.json", {"max_position_embeddings": 12})
    for source in (tokenizer, path.read_bytes()):
        with pytest.raises(SignatureError, match="pass max_tokens="):
            tiny(tokenizer=source, max_tokens=None)
    with tiny(tokenizer=path, max_tokens=None) as encoder:
        assert encoder.recipe.max_tokens == 12


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"config.json": {"max_position_embeddings": 12}}, 12),
        (
            {
                "config.json": {"max_position_embeddings": 12},
                "tokenizer_config.json": {"model_max_length": 10},
            },
            10,
        ),
        (
            {
                "config.json": {"max_position_embeddings": 12},
                "tokenizer_config.json": {"model_max_length": 10**30},
            },
            12,
        ),
        (
            {
                "config.json": {"max_position_embeddings": 12},
                "sentence_bert_config.json": {"max_seq_length": 9},
            },
            9,
        ),
        ({"config.json": {"max_position_embeddings": 12}, "sentence_bert_config.json": {}}, 12),
    ],
)
def test_the_files_beside_a_tokenizer_say_how_long_a_text_may_be(layout, files, most):
    (layout / "tokenizer_config.json").unlink()
    for name, value in files.items():
        write(layout / name, value)
    with mk.TextEncoder(layout / "onnx" / "model.onnx", str(layout / "tokenizer.json")) as found:
        assert found.recipe.max_tokens == most
    with mk.TextEncoder(
        layout / "onnx" / "model.onnx", tiny_tokenizer()
    ) as found:  # those around the graph
        assert found.recipe.max_tokens == most
    with mk.TextEncoder.from_directory(layout) as found:
        assert found.recipe.max_tokens == most


def model_over_tokens(batchable=True):
    proto = tiny_graph()
    signature = tiny(proto).token_model.signature

    def run(feeds):
        hidden = np.zeros((*feeds["input_ids"].shape, WIDTH), np.float32)
        for row, ids, mask in zip(hidden, feeds["input_ids"], feeds["attention_mask"], strict=True):
            row[: mask.sum()] = tiny_hidden(ids[: mask.sum()])
        return {"last_hidden_state": hidden}

    return mk.FunctionModel(run, signature, batchable=batchable)


def test_a_model_of_your_own_can_be_the_graph(encoder, tmp_path):
    inner = model_over_tokens()
    with tiny(inner) as own:
        assert own.token_model is inner
        assert own.base is own.unobserved is own
        assert own.placement is inner.placement
        found = sentences(20, seed=14)
        np.testing.assert_allclose(own.embed(found), encoder.embed(found), atol=1e-5)
        assert own.batchable
        with mk.Batcher(own, plan="learn") as batcher:
            np.testing.assert_allclose(mk.embed(batcher, found), encoder.embed(found), atol=1e-5)
        with pytest.raises(
            SignatureError, match="the identity of vectors is that of an ONNX graph"
        ):
            _ = own.identity
        with pytest.raises(ConversionError, match="only an encoder of an ONNX graph can be saved"):
            mk.save(own, tmp_path / "own.mk", name="own", version="1")
    assert own.embed(["a"]).shape == (1, WIDTH)  # a model that was passed is not closed


# A folder of sentence-transformers.


def test_a_folder_is_read_as_its_files_say(minilm_folder, minilm):
    recipe = minilm.recipe
    assert (recipe.pooling, recipe.normalize, recipe.max_tokens, recipe.dims, recipe.roles) == (
        "mean", True, 256, (384,), {},
    )  # fmt: skip
    with mk.TextEncoder.from_directory(
        str(minilm_folder), max_tokens=32, roles={"q": "Q: "}
    ) as other:
        assert (other.recipe.max_tokens, other.recipe.roles) == (32, {"q": "Q: "})


@pytest.fixture
def layout(tmp_path):
    """A tiny encoder in the layout of sentence-transformers."""
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(tiny_graph().SerializeToString())
    tokenizer = tiny_tokenizer()
    tokenizer.enable_truncation(5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path / "tokenizer_config.json", {"model_max_length": MOST})
    write(
        tmp_path / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True},
    )
    modules(tmp_path, "Transformer", "Pooling")
    return tmp_path


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")


def modules(folder, *names):
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    entries = [
        {"idx": i, "path": paths.get(name, name), "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(names)
    ]
    write(folder / "modules.json", entries)


def test_prompts_are_roles_and_the_pooling_is_the_configured_one(layout, encoder):
    write(
        layout / "config_sentence_transformers.json",
        {"prompts": {"query": "query ", "document": ""}},
    )
    write(layout / "sentence_bert_config.json", {"max_seq_length": 9, "do_lower_case": False})
    write(
        layout / "1_Pooling" / "config.json",
        {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
    )
    with mk.TextEncoder.from_directory(layout) as found:
        assert (found.recipe.pooling, found.recipe.normalize, found.recipe.max_tokens) == (
            "cls",
            False,
            9,
        )
        assert found.recipe.roles == {"query": "query ", "document": ""}
        np.testing.assert_array_equal(found.embed(["a"], role="document"), found.embed(["a"]))
    modules(layout, "Transformer", "Pooling", "Normalize")
    with mk.TextEncoder.from_directory(layout, pooling="mean", max_tokens=MOST) as found:
        np.testing.assert_array_equal(found.embed(["the river"]), encoder.embed(["the river"]))


@pytest.mark.parametrize(
    ("mode", "pooling"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last"), ("max", "max")]
)
def test_the_pooling_may_be_named_by_one_word(layout, mode, pooling):
    write(layout / "1_Pooling" / "config.json", {"pooling_mode": mode, "embedding_dimension": 8})
    with mk.TextEncoder.from_directory(layout) as found:
        assert found.recipe.pooling == pooling


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode_mean_sqrt_len_tokens": True},
        {"pooling_mode": "weightedmean"},
        {},
    ],
)
def test_a_pooling_that_is_not_known_is_refused(layout, config):
    write(layout / "1_Pooling" / "config.json", config)
    with pytest.raises(SignatureError, match="an encoder pools by one of"):
        mk.TextEncoder.from_directory(layout)


def test_modules_that_are_not_known_are_refused(layout):
    modules(layout, "Transformer", "Pooling", "Dense")
    with pytest.raises(
        SignatureError, match=r"the modules \['.*\.Pooling', 'sentence_transformers.models.Dense'\]"
    ):
        mk.TextEncoder.from_directory(layout)
    modules(layout, "Transformer", "Normalize")
    with pytest.raises(SignatureError, match="an encoder has some of"):
        mk.TextEncoder.from_directory(layout)


@pytest.mark.parametrize(
    "types",
    [
        ["custom_st.Transformer", "sentence_transformers.models.Pooling"],
        ["sentence_transformers.models.Pooling", "sentence_transformers.models.Pooling"],
    ],
)
def test_modules_of_others_and_two_of_a_kind_are_refused(layout, types):
    write(layout / "modules.json", [{"path": "1_Pooling", "type": name} for name in types])
    with pytest.raises(
        SignatureError, match=r"an encoder has some of .*, of sentence_transformers"
    ):
        mk.TextEncoder.from_directory(layout)


def test_what_stands_with_the_transformer_goes_before_what_stands_at_the_root(layout):
    modules(layout, "Transformer", "Pooling")
    entries = json.loads((layout / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    write(layout / "modules.json", entries)
    (layout / "0_Transformer").mkdir()
    write(layout / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 7})
    with mk.TextEncoder.from_directory(layout) as found:
        assert found.recipe.max_tokens == 7
    (layout / "tokenizer.json").rename(layout / "0_Transformer" / "tokenizer.json")
    with mk.TextEncoder.from_directory(layout) as found:
        assert found.embed(["the river"]).shape == (1, WIDTH)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("modules.json", "[{]", r"modules\.json is no JSON"),
        ("modules.json", "{}", r"modules\.json holds a dict where a list is expected"),
        ("modules.json", "[1]", r"modules\.json does not name modules"),
        ("modules.json", '[{"type": "a"}]', "does not name modules: KeyError"),
        ("1_Pooling/config.json", "[]", r"config\.json holds a list"),
        ("sentence_bert_config.json", '"', r"sentence_bert_config\.json is no JSON"),
    ],
)
def test_a_file_of_a_folder_that_cannot_be_read_is_named(layout, name, text, message):
    (layout / name).write_text(text)
    with pytest.raises(SignatureError, match=message):
        mk.TextEncoder.from_directory(layout)


def test_a_folder_of_transformers_is_read_where_the_pooling_is_said(layout, encoder):
    """As exporters write it: no modules.json, which would say how vectors are pooled."""
    (layout / "modules.json").unlink()
    with pytest.raises(
        SignatureError,
        match=r"has no modules\.json, .* pass pooling= .*TextEncoder\(onnx, tokenizer",
    ):
        mk.TextEncoder.from_directory(layout)
    with mk.TextEncoder.from_directory(layout, pooling="mean") as found:
        assert found.recipe.max_tokens == MOST
        np.testing.assert_array_equal(found.embed(["the river"]), encoder.embed(["the river"]))


def test_what_a_folder_lacks_is_named(layout):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        mk.TextEncoder.from_directory(layout / "nowhere")
    (layout / "tokenizer.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"holds no tokenizer\.json; transformers writes one by"
    ):
        mk.TextEncoder.from_directory(layout)


def test_prompts_that_are_not_pooled_are_refused(layout):
    config = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    write(layout / "1_Pooling" / "config.json", config)
    with mk.TextEncoder.from_directory(layout):
        pass
    write(layout / "config_sentence_transformers.json", {"prompts": {"query": "query "}})
    with pytest.raises(SignatureError, match="include_prompt"):
        mk.TextEncoder.from_directory(layout)


def test_one_graph_of_several_must_be_named(layout):
    usual = layout / "onnx" / "model.onnx"
    for name in ("model_O2.onnx", "model_O3.onnx"):
        (layout / "onnx" / name).write_bytes(usual.read_bytes())
    with mk.TextEncoder.from_directory(layout):  # the usual name goes before others
        pass
    usual.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"holds 2 ONNX files .*model_O2\.onnx.*; name one by file="
    ):
        mk.TextEncoder.from_directory(layout)
    with mk.TextEncoder.from_directory(layout, file="onnx/model_O3.onnx") as found:
        assert found.embed(["a"]).shape == (1, WIDTH)
    (layout / "onnx" / "model_O3.onnx").unlink()
    with mk.TextEncoder.from_directory(layout):
        pass
    (layout / "onnx" / "model_O2.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="holds 0 ONNX files"):
        mk.TextEncoder.from_directory(layout)
    with pytest.raises(FileNotFoundError):
        mk.TextEncoder.from_directory(layout / "nowhere")


# The end.


def test_a_closed_encoder_says_so(tiny_mk):
    for encoder in (mk.load(tiny_mk), tiny()):
        encoder.embed(["a"])
        encoder.close()
        encoder.close()
        for ask in (encoder.embed, lambda texts, e=encoder: asyncio.run(e.aembed(texts))):
            with pytest.raises(ClosedError, match="the model was closed"):
                ask(["a"])
        with pytest.raises(ClosedError):
            pickle.dumps(encoder)


def test_a_loaded_encoder_is_pickled_by_its_path(tiny_mk, encoder):
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(
        again.embed(["the river"], dims=4), encoder.embed(["the river"], dims=4)
    )
    assert again.identity == encoder.identity
    assert copy.copy(encoder) is copy.deepcopy(encoder) is encoder
    for other in (tiny(), mk.load(tiny_mk.read_bytes())):
        with pytest.raises(TypeError, match="pickled by the path"):
            pickle.dumps(other)
    with pytest.raises(TypeError, match="pickled by the path"):
        pickle.dumps(tiny(model_over_tokens()))

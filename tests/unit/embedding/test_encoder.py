"""Texts to vectors: right, whoever else asks, and an error that says so where it cannot be."""

import random

import numpy as np
import pytest
from helpers.encoders import (
    INPUTS,
    ODD,
    TOKENS,
    WIDTH,
    WORDS,
    model_over_tokens,
    sentences,
    static_parts,
    tiny,
    tiny_graph,
    tiny_hidden,
    tiny_ids,
    tiny_tokenizer,
    tiny_vector,
)
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.embedding.pooling import unit
from modelkit.embedding.tokens import WINDOW_TEXTS
from modelkit.errors import SignatureError
from modelkit.testing import check_model

words = st.sampled_from([*WORDS, "unknown", "\N{SNOWMAN}"])
texts = st.lists(
    st.lists(words, max_size=30).map(" ".join) | st.text(st.characters(exclude_categories=["Cs"]))
)
texts = texts.map(lambda found: [text.replace("\ufdd0", "") for text in found])


def cosines(left, right):
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


# Vectors are right.


@settings(max_examples=examples(100), deadline=None)
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
    assert "256 or 128 or 64 dimensions" in static._repr_html_()


class Counting(mk.Wrapper):
    """A Model over tokens on a device, which remembers the tokens of each of its runs."""

    def __init__(self, device):
        super().__init__(model_over_tokens())
        self.device = device
        self.runs = []

    @property
    def placement(self):
        return mk.types.Placement("a provider", self.device, 1, split=False)

    def _call(self, X, outputs, call):
        return self._run(self.signature.coerce(X), outputs, call)

    async def _acall(self, X, outputs, call):
        return self._call(X, outputs, call)

    def _run(self, feeds, outputs, call):
        self.runs.append(feeds["input_ids"].size)
        return self.inner._run(feeds, outputs, call)

    async def _arun(self, feeds, outputs, call):
        return self._run(feeds, outputs, call)


def test_its_properties_run_nothing():
    counting = Counting("cpu")
    with tiny(counting) as encoder:
        made = len(counting.runs)
        assert encoder.batchable
        assert "do not depend" in encoder._repr_html_()
        assert (encoder.truncated, encoder.closed, encoder.endless) == (0, False, False)
        assert len(counting.runs) == made


@pytest.mark.parametrize(("device", "least", "most"), [("cpu", 200, 256), ("cuda", 500, 16384)])
def test_a_device_gets_larger_runs(device, least, most, encoder):
    counting = Counting(device)
    with tiny(counting) as other:
        counting.runs.clear()
        found = sentences(150, seed=3)
        np.testing.assert_allclose(other.embed(found), encoder.embed(found), atol=1e-5)
        assert least <= max(counting.runs) <= most


def test_no_texts_have_no_vectors(encoder):
    assert encoder.embed([]).shape == (0, WIDTH)
    assert encoder.embed([], dims=4).shape == (0, 4)
    assert encoder.embed(iter(())).dtype == np.float32
    assert encoder.token_count([]).shape == (0,)


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
    for ask in (encoder.embed, encoder.token_count):
        with pytest.raises(SignatureError, match="texts are always a batch"):
            ask(bad)
    with pytest.raises(SignatureError, match=r"pass \['one text'\]"):
        encoder.embed("one text")


@pytest.mark.parametrize("bad", [None, 7, 1.5, b"bytes", ["a"], float("nan"), np.array(["a"])])
def test_what_is_no_string_is_named_by_its_row(encoder, bad):
    with pytest.raises(SignatureError, match=r"text 2 is .*; pass strings") as caught:
        encoder.embed(["a", "b", bad])
    assert caught.value.rows == (2,)
    with pytest.raises(SignatureError, match=r"text 2 is"):
        mk.embed(mk.Batcher(encoder, plan="learn"), ["a", "b", bad])


@pytest.mark.parametrize("bad", ["\ud800", "the \udfff river", "\udc80" * 3, "\udfff" + "x" * 5000])
def test_a_lone_surrogate_is_named_by_its_row_and_place(encoder, bad):
    at = next(i for i, letter in enumerate(bad) if "\ud800" <= letter <= "\udfff")
    for ask in (encoder.embed, encoder.token_count):
        with pytest.raises(
            SignatureError, match=f"text 3 is not valid Unicode: .* at character {at} "
        ) as caught:
            ask(["a", "b", "", bad, "c"])
        assert caught.value.rows == (3,)


@settings(max_examples=examples(50), deadline=None)
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


# Roles and dimensions.


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


@pytest.mark.parametrize("dims", [8, "84"])
def test_dims_that_are_no_list_are_refused(dims):
    with pytest.raises(
        TypeError, match=rf"a list of lengths, .* such as dims=\[{dims}\], not {dims!r}$"
    ):
        tiny(dims=dims)

"""Long texts are cut where the encoder says, or refused where it says so; and options that do not fit."""

import asyncio

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers import encoders
from helpers.encoders import (
    MOST,
    WIDTH,
    bert_tokenizer,
    letter_tokenizer,
    tiny,
    tiny_graph,
    tiny_ids,
    tiny_tokenizer,
    tiny_vector,
)
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.embedding.tokens import WINDOW_TEXTS
from modelkit.errors import SignatureError
from modelkit.model.model import PLAIN
from modelkit.serving.batching.policy import make_plan


@settings(max_examples=examples(50), deadline=None)
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


def test_where_a_long_text_is_cut_off_makes_no_difference():
    # Cut between its letters, the last word has many tokens; whole it is a single unknown one.
    text = "river " + " " * 420 + "x" * 400 + " music"
    with mk.TextEncoder(encoders.paraphrase(), bert_tokenizer(), max_tokens=8) as encoder:
        assert encoder.token_count([text]).tolist() == [5]
        np.testing.assert_allclose(
            encoder.embed([text]), encoder.embed(["river [UNK] music"]), atol=1e-6
        )
        assert encoder.truncated == 0


@settings(max_examples=examples(50), deadline=None)
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
        asyncio.run(batcher.apredict(found[1:]))
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
        with pytest.raises(mk.errors.PackageError, match="lacks golden rows"):
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
    for verb in (static.embed, static.token_count):
        with pytest.raises(SignatureError, match="texts are always a batch: pass"):
            verb(texts)


@pytest.mark.parametrize("flag", ["no", 1, None, np.bool_(True)])
@pytest.mark.parametrize("name", ["normalize", "stable"])
def test_a_flag_is_true_or_false(name, flag):
    with pytest.raises(SignatureError, match=f"{name} is True or False"):
        tiny(**{name: flag})


def test_roles_are_names_that_can_be_written(static):
    for odd in ({"q": "\ud800"}, {"\udfff": "q"}, {"q": 1}, {1: "q"}):
        with pytest.raises(SignatureError, match="both strings of valid Unicode"):
            tiny(roles=odd)
    with pytest.raises(SignatureError, match="it has"):
        static.embed(["a"], role=["q"])


def test_a_batcher_gives_up_a_large_call_at_its_deadline(static):
    """Each of its pieces is a request of its own, and the first ones take longer than it has."""
    plan = make_plan(((1, 3e-3), (64, 4e-3)), 1, 64)
    with mk.Batcher(static, max_rows=64, plan=plan) as batcher:
        with pytest.raises(mk.errors.DeadlineExceeded):
            mk.embed(batcher, ["the river of winter " * 20] * 2000, deadline=1e-6)
        assert batcher.stats().expired == 1

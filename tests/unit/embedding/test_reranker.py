"""Pairs of texts to scores: right, whoever else asks, saved and opened, and an error that says so where it cannot be."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.encoders import (
    MOST,
    ODD,
    VALUES,
    WORDS,
    letter_tokenizer,
    sentences,
    tiny,
    tiny_logits,
    tiny_pair_graph,
    tiny_reranker,
    tiny_tokenizer,
)
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import modelkit as mk
from modelkit.embedding.tokens import PairTokens, longest_first
from modelkit.errors import (
    BatchError,
    ConversionError,
    ManifestError,
    ParityError,
    SignatureError,
    UsageError,
)

word = st.sampled_from([*WORDS, "unknown", "\N{SNOWMAN}"])
text = st.lists(word, max_size=24).map(" ".join)
any_text = text | st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def reranker():
    with tiny_reranker() as model:
        yield model


def columns(count, seed):
    texts = [text or "a" for text in sentences(2 * count, seed)]
    return {"query": texts[:count], "text": texts[count:]}


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


# Tokens are those of the tokenizer's own pairs.


@settings(max_examples=examples(200), deadline=None)
@given(
    pairs=st.lists(st.tuples(any_text, any_text), min_size=1, max_size=6),
    most=st.integers(5, 30),
    side=st.sampled_from(["left", "right"]),
    special=st.booleans(),
)
def test_tokens_are_those_of_the_librarys_longest_first(pairs, most, side, special):
    library = tiny_tokenizer(special)
    library.enable_truncation(most, strategy="longest_first", direction=side)
    tokens = PairTokens(library, most, "truncate")
    encodings = library.encode_batch(pairs)
    for found, expected in zip(tokens.ids(pairs), encodings, strict=True):
        assert found.dtype == np.int32
        assert found.T.tolist() == [expected.ids, expected.type_ids]
    _, cut = tokens.read(pairs, range(len(pairs)))
    assert cut == sum(bool(expected.overflowing) for expected in encodings)
    library.no_truncation()
    lengths = [len(expected) for expected in library.encode_batch(pairs)]
    assert tokens.counts(pairs).tolist() == lengths


@given(first=st.integers(0, 40), second=st.integers(0, 40), room=st.integers(0, 40))
def test_what_a_pair_keeps_fits_and_is_taken_from_the_longer_text(first, second, room):
    a, b = longest_first(first, second, room)
    assert a + b == min(first + second, room)
    assert first == a or a + 1 >= b
    assert second == b or b + 1 >= a


def test_a_text_of_any_length_is_read_in_bounded_time_and_memory():
    tokens = PairTokens(letter_tokenizer(), 16, "truncate")
    (found,) = tokens.ids([("a" * 10**6, "b" * 10**6)])
    assert found.tolist() == [[1, 0]] * 8 + [[2, 1]] * 8


def test_a_beginning_without_tokens_does_not_hide_the_rest():
    tokens = PairTokens(tiny_tokenizer(), MOST, "truncate")
    blank = " " * 10**4
    river, music = (4 + WORDS.index(word) for word in ("river", "music"))
    (found,) = tokens.ids([(f"{blank}river", f"{blank}music")])
    assert found[:, 0].tolist() == [2, river, 3, music, 3]
    (found,) = tokens.ids([(f"{blank}river", "music " * 10**4)])
    assert found[:, 0].tolist() == [2, river, 3, *[music] * 12, 3]


def test_a_pair_has_more_tokens_than_the_special_ones():
    with pytest.raises(SignatureError, match="leaves room beside 3 special tokens"):
        tiny_reranker(max_tokens=3)


# Scores are right.


@settings(max_examples=examples(60), deadline=None)
@given(pairs=st.lists(st.tuples(text, text), max_size=12))
def test_scores_are_those_of_each_pair_in_order(reranker, pairs):
    found = reranker.predict(
        {name: [pair[i] for pair in pairs] for i, name in enumerate(("query", "text"))}
    )
    assert (found.dtype, found.shape) == (np.float32, (len(pairs),))
    expected = [sigmoid(tiny_logits(*pair)[0]) for pair in pairs]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_several_labels_and_no_activation_are_what_the_graph_gives():
    rows = columns(20, seed=1)
    expected = [tiny_logits(*pair) for pair in zip(*rows.values(), strict=True)]
    with tiny_reranker(tiny_pair_graph(3), activation="none") as model:
        found = model.predict(pd.DataFrame(rows))
        np.testing.assert_allclose(found, expected, atol=1e-3)
        with pytest.raises(UsageError, match="gives 3 scores for a pair"):
            model.rank("river", ["music"])
    with tiny_reranker(tiny_pair_graph(3)) as model:
        np.testing.assert_allclose(model.predict(rows), sigmoid(np.array(expected)), atol=1e-4)


def test_a_sigmoid_of_any_number_is_finite():
    with tiny_reranker() as model:
        logits = np.array([[-1e30], [-100], [0], [100], [1e30]], np.float32)
        with np.errstate(over="raise", invalid="raise"):
            assert model.recipe.finished(logits).tolist() == [
                0,
                pytest.approx(0, abs=1e-40),
                0.5,
                1,
                1,
            ]


def test_odd_texts_have_scores(reranker):
    pairs = [(query, text) for query in ODD for text in ODD]
    found = reranker.predict(dict(zip(("query", "text"), zip(*pairs, strict=True), strict=True)))
    alone = [reranker.predict({"query": [q], "text": [t]})[0] for q, t in pairs]
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert np.isfinite(found).all()


# Ranking.


def test_the_best_come_first_through_what_wraps_the_model(reranker):
    texts = ["green music", "river", "coffee", "", "river"]
    scores = reranker.predict({"query": ["river model"] * 5, "text": texts})
    found = reranker.rank("river model", texts)
    assert [each.index for each in found] == sorted(range(5), key=lambda i: -scores[i])
    assert all(each.score == scores[each.index] for each in found)
    assert [each.index for each in found if each.index in (1, 4)] == [1, 4]
    assert reranker.rank("river model", texts, top=2) == found[:2]
    assert reranker.rank("river model", texts, top=np.int64(2)) == found[:2]
    assert reranker.rank("river model", (text for text in texts)) == found
    assert reranker.rank("river model", []) == []
    with mk.Batcher(reranker) as batcher:
        again = mk.rank(batcher, "river model", texts, top=9)
        assert [each.index for each in again] == [each.index for each in found]


def test_what_cannot_be_ranked_says_why(reranker, encoder):
    for query, texts in (
        (None, ["a"]),
        (None, []),
        (b"a", []),
        ("a", "a text"),
        ("a", [1]),
        ("a", pd.DataFrame({"t": ["a"]})),
    ):
        with pytest.raises(SignatureError):
            reranker.rank(query, texts)
    for top in (0, -1, 1.5, True, "2"):
        with pytest.raises(UsageError, match="top is"):
            reranker.rank("a", ["b"], top=top)
    with pytest.raises(TypeError, match="by a Reranker"):
        mk.rank(encoder, "a", ["b"])
    with pytest.raises(TypeError, match="by a TextEncoder"):
        mk.embed(reranker, ["b"])
    with pytest.raises(SignatureError, match=r"text 1 is not valid Unicode: .* at character 0 "):
        reranker.rank("a", ["b", "\ud800"])
    with pytest.raises(SignatureError, match=r"text 0 is not valid Unicode: .* at character 2 "):
        reranker.rank("ab\ud800", ["b"])


def test_long_pairs_are_cut_and_counted_or_refused():
    words = " ".join(WORDS)
    with tiny_reranker() as model:
        model.rank("river", [words, "a"])
        assert model.truncated == 1
        model.rank(words, [words, "a", ""])
        assert model.truncated == 4
    with tiny_reranker(on_long="error") as model:
        assert len(model.rank("river", ["a"])) == 1
        with pytest.raises(
            SignatureError, match="text 1 has 24 tokens, and this model takes 16"
        ) as caught:
            model.rank("river", ["a", words])
        assert caught.value.rows == (1,)


# Independence of the batch.


def test_a_graph_that_scales_by_the_batch_is_found_out():
    with tiny_reranker(tiny_pair_graph(dynamic=True)) as model:
        assert not model.batchable
        assert "scores DEPEND on the pairs beside them" in str(model.recipe)
        with pytest.raises(BatchError, match=r"depend on the rows beside them.*stable=True"):
            mk.Batcher(model)
    with tiny_reranker(tiny_pair_graph(dynamic=True), stable=True) as model:
        rows = columns(20, seed=2)
        alone = [
            model.predict({"query": [q], "text": [t]})[0]
            for q, t in zip(*rows.values(), strict=True)
        ]
        assert model.batchable
        assert model.predict(rows).tolist() == alone


def test_closeness_is_relative_to_the_range_of_the_scores(reranker):
    scores = np.array([[0.0], [10.0], [4.0]], np.float32)
    assert reranker.recipe.closeness(scores, scores) == 1
    assert reranker.recipe.closeness(scores, scores + 0.01) == pytest.approx(0.999)
    assert reranker.recipe.closeness(scores * 0, scores * 0) == 1
    assert not reranker.recipe.closeness(scores, scores * np.nan) >= 0


# Saved and opened.


def test_a_package_holds_the_same_reranker(reranker, pairs_mk):
    rows = columns(30, seed=4)
    with mk.load(pairs_mk) as loaded:
        assert isinstance(loaded, mk.Reranker)
        assert loaded.identity == reranker.identity
        assert loaded.predict(rows).tolist() == reranker.predict(rows).tolist()
        assert loaded.verify() == 0
        loaded.warmup()
        assert loaded.manifest.runtime == "encoder"
        assert loaded.manifest.options["activation"] == "sigmoid"
        with tiny_reranker(activation="none") as other:
            assert other.identity != loaded.identity


def test_scores_of_another_implementation_are_compared_with(tmp_path):
    rows = columns(30, seed=5)
    logits = np.array([tiny_logits(*pair)[0] for pair in zip(*rows.values(), strict=True)])
    with tiny_reranker() as model:
        manifest = mk.save(model, tmp_path / "r.mk", example=rows | {"score": sigmoid(logits)})
        assert manifest.options["measured"]["reference"] == pytest.approx(1, abs=1e-3)
        with pytest.raises(ParityError, match=r"(?s)closeness .*activation.*nothing was saved"):
            mk.save(model, tmp_path / "other.mk", example=rows | {"score": logits})
        with pytest.raises(ConversionError, match=r"has shape \(2,\); 30 texts make \(30,\)"):
            mk.save(model, tmp_path / "other.mk", example=rows | {"score": [0, 1]})
        with pytest.raises(ConversionError, match="as the example of a Reranker"):
            mk.save(model, tmp_path / "other.mk", example=rows)
    assert [path.name for path in tmp_path.iterdir()] == ["r.mk"]


def test_an_activation_that_nobody_knows_is_refused(pairs_mk):
    from modelkit.package.contents import read_options

    with pytest.raises(SignatureError, match="activation is one of"):
        tiny_reranker(activation="softmax")
    with pytest.raises(SignatureError, match="activation is one of"):
        tiny_reranker(activation=None)
    manifest = mk.inspect(pairs_mk)
    for options in ({"activation": "softmax"}, {"activation": None}, {"pooling": "mean"}):
        with pytest.raises(ManifestError):
            read_options(replace(manifest, options=manifest.options | options))


def test_a_graph_of_vectors_of_tokens_is_refused():
    from helpers.encoders import tiny_graph

    with pytest.raises(
        SignatureError,
        match=r"0 outputs that may be a vector or score for each text.* make a TextEncoder",
    ):
        tiny_reranker(tiny_graph())
    for options in ({}, {"pooling": "none"}, {"pooling": "mean"}):
        with pytest.raises(SignatureError, match="make a Reranker"):
            tiny(tiny_pair_graph(), **options)
    shape = ("batch", "batch2")
    odd = tiny_pair_graph()
    odd.graph.node.append(helper.make_node("Transpose", ["logits"], ["turned"]))
    odd.graph.output.append(helper.make_tensor_value_info("turned", TensorProto.FLOAT, shape))
    with pytest.raises(SignatureError, match="name one by output="):
        tiny_reranker(odd)
    with tiny_reranker(odd, output="logits") as model:
        assert len(model.rank("a", ["b"])) == 1


# Folders.


def folder_of(root, config, **files):
    root.mkdir()
    (root / "model.onnx").write_bytes(tiny_pair_graph(files.pop("labels", 1)).SerializeToString())
    tiny_tokenizer().save(str(root / "tokenizer.json"))
    (root / "config.json").write_text(json.dumps({"max_position_embeddings": 12} | config))
    for name, content in files.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    return root


LABEL = {"id2label": {"0": "LABEL_0"}}


@pytest.mark.parametrize(
    ("config", "files", "activation"),
    [
        (LABEL, {}, "sigmoid"),
        ({"num_labels": 1}, {}, "sigmoid"),
        ({}, {"labels": 3}, "none"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, {"labels": 3}, "none"),
        (
            LABEL | {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
            {},
            "none",
        ),
        (LABEL | {"sbert_ce_default_activation_function": None}, {}, "sigmoid"),
        (
            LABEL
            | {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            {},
            "none",
        ),
        (
            {},
            {
                "labels": 3,
                "config_sentence_transformers": {
                    "activation_fn": "torch.nn.modules.activation.Sigmoid"
                },
            },
            "sigmoid",
        ),
    ],
)
def test_a_folder_says_the_activation_and_the_most_tokens(tmp_path, config, files, activation):
    folder = folder_of(tmp_path / "ce", config, **files)
    with mk.Reranker.from_directory(folder) as model:
        assert model.recipe.activation == activation
        assert model.recipe.max_tokens == 12
        assert model.recipe.dims == (files.get("labels", 1),)
    with mk.Reranker.from_directory(folder, activation="none", max_tokens=8) as model:
        assert (model.recipe.activation, model.recipe.max_tokens) == ("none", 8)


def test_a_folder_with_what_a_reranker_does_not_do_is_refused(tmp_path):
    known = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.GELU"}}
    folder = folder_of(tmp_path / "gelu", known)
    with pytest.raises(SignatureError, match="activation is one of"):
        mk.Reranker.from_directory(folder)
    mk.Reranker.from_directory(folder, activation="sigmoid").close()
    prompted = folder_of(
        tmp_path / "p", LABEL, config_sentence_transformers={"default_prompt_name": "q"}
    )
    with pytest.raises(SignatureError, match="puts a prompt"):
        mk.Reranker.from_directory(prompted)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks tokenizer\.json"):
        mk.Reranker.from_directory(folder)


@pytest.mark.parametrize(
    "config", [{"id2label": 5}, {"sentence_transformers": "x"}, {"sentence_transformers": [1]}]
)
def test_a_config_of_other_types_is_refused(tmp_path, config):
    folder = folder_of(tmp_path / "ce", config)
    with pytest.raises(SignatureError, match=r"config\.json says .* where an object is expected"):
        mk.Reranker.from_directory(folder)


def test_a_folder_says_the_side_that_long_pairs_are_cut_from(tmp_path):
    kept = {
        "left": WORDS[-8:],
        "right": WORDS[:8],
    }  # of 12 tokens, the river and three special ones
    for side, words in kept.items():
        folder = folder_of(tmp_path / side, LABEL, tokenizer_config={"truncation_side": side})
        with mk.Reranker.from_directory(folder) as model:
            pairs = {"query": ["river"] * 2, "text": [" ".join(WORDS), " ".join(words)]}
            assert len({*model.predict(pairs).tolist()}) == 1


@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 3},
        {"num_labels": -1},
        {"num_labels": "x"},
        {"num_labels": [1]},
        {"id2label": {"0": "a", "1": "b"}},
    ],
)
def test_other_labels_than_the_graph_has_are_refused(tmp_path, config):
    """They would choose another activation than the graph's own."""
    folder = folder_of(tmp_path / "ce", config)
    with pytest.raises(SignatureError, match="labels, and its graph gives 1 for a pair"):
        mk.Reranker.from_directory(folder)


def test_a_config_may_hold_null(tmp_path):
    folder = folder_of(tmp_path / "ce", {"id2label": None, "sentence_transformers": None})
    with mk.Reranker.from_directory(folder) as model:
        assert model.recipe.activation == "none"  # two labels are the default
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        mk.Reranker.from_directory(tmp_path / "nowhere")


# Sparse vectors.


def test_splade_pools_logits_to_a_vector_of_the_vocabulary():
    nodes = [helper.make_node("Gather", ["values", "input_ids"], ["logits"])]
    from helpers.encoders import INPUTS, TOKENS, proto_of

    output = ("logits", TensorProto.FLOAT, (*TOKENS, VALUES.shape[1]))
    graph = proto_of(nodes, INPUTS, [output], {"values": VALUES})
    with tiny(graph, pooling="splade", normalize=False) as model:
        (found,) = model.embed(["river music"])
        ids = [2, 4 + WORDS.index("river"), 4 + WORDS.index("music"), 3]
        np.testing.assert_allclose(
            found, np.log1p(np.maximum(VALUES[ids], 0)).max(axis=0), rtol=1e-6
        )

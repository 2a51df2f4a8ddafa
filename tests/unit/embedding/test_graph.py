"""What a TextEncoder is made from: graphs, tokenizers, models and folders, and how long its texts may be."""

import json

import numpy as np
import pytest
from helpers import encoders
from helpers.encoders import (
    INPUTS,
    OUTPUT,
    TOKENS,
    WIDTH,
    bert_tokenizer,
    model_over_tokens,
    sentences,
    tiny,
    tiny_graph,
    tiny_tokenizer,
)
from onnx import TensorProto, helper

import modelkit as mk
from modelkit.errors import ConversionError, ModelkitError, SignatureError

# What it is made from.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "sum"}, r"pooling is one of \['mean', .*\], not 'sum'"),
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
        ({"roles": ["q"]}, "roles are prefixes by name"),
        ({"roles": ["qp"]}, "roles are prefixes by name"),  # dict() would take it
        ({"output": "nothing"}, r"lacks the output 'nothing'; it has \['last_hidden_state'\]"),
        ({"tokenizer": b"not json"}, r"not a tokenizer\.json"),
        ({"tokenizer": b"{}"}, r"not a tokenizer\.json"),
        (
            {"tokenizer": 7},
            "the path or bytes of a tokenizer.json, or a tokenizers.Tokenizer; got int",
        ),
        (
            {"graph": 7},
            "made from an ONNX model as path, bytes or ModelProto, or from a Model over tokens; got int",
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


def test_a_folder_in_place_of_a_graph_is_sent_to_from_directory(tmp_path):
    for opened in (lambda: mk.save(str(tmp_path), tmp_path / "x.mk"), lambda: mk.load(tmp_path)):
        with pytest.raises(ModelkitError, match="from_directory"):
            opened()


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
        mk.TextEncoder(
            encoders.paraphrase(), bert_tokenizer(), max_tokens=128, output="461", pooling="mean"
        )


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
        with pytest.raises(SignatureError, match="the identity comes from an ONNX graph"):
            _ = own.identity
        with pytest.raises(
            ConversionError, match="only a TextEncoder of an ONNX graph can be saved"
        ):
            mk.save(own, tmp_path / "own.mk", name="own", version="1")
    assert own.embed(["a"]).shape == (1, WIDTH)  # a model that was passed is not closed


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")

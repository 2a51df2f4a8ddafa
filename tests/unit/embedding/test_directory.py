"""A TextEncoder from a folder, as sentence-transformers and transformers write it."""

import json

import numpy as np
import pytest
from helpers.encoders import (
    MOST,
    TOKENS,
    WIDTH,
    WORDS,
    sentences,
    tiny,
    tiny_graph,
    tiny_tokenizer,
    write_tensors,
)
from onnx import TensorProto, helper

import modelkit as mk
from modelkit.embedding.graph import with_layers
from modelkit.errors import SignatureError


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
    # The files around the graph are read.
    with mk.TextEncoder(layout / "onnx" / "model.onnx", tiny_tokenizer()) as found:
        assert found.recipe.max_tokens == most
    with mk.TextEncoder.from_directory(layout) as found:
        assert found.recipe.max_tokens == most


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


def test_the_one_word_counts_beside_flags(layout):
    """As in sentence-transformers, which drops the flags then."""
    write(
        layout / "1_Pooling" / "config.json",
        {"pooling_mode": "cls", "pooling_mode_mean_tokens": True},
    )
    with mk.TextEncoder.from_directory(layout) as found:
        assert found.recipe.pooling == "cls"


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": 1},
        {"pooling_mode_mean_sqrt_len_tokens": True},
        {"pooling_mode": "weightedmean"},
        {},
    ],
)
def test_a_pooling_that_is_not_known_is_refused(layout, config):
    write(layout / "1_Pooling" / "config.json", config)
    with pytest.raises(SignatureError, match="an encoder pools by one of"):
        mk.TextEncoder.from_directory(layout)


@pytest.mark.parametrize(
    "names",
    [
        ("Transformer", "Pooling", "LSTM"),
        ("Transformer", "Normalize"),
        ("Transformer", "Pooling", "Normalize", "Dense"),
        ("Pooling", "Transformer"),
    ],
)
def test_modules_that_are_not_known_or_in_another_order_are_refused(layout, names):
    modules(layout, *names)
    with pytest.raises(SignatureError) as refusal:
        mk.TextEncoder.from_directory(layout)
    assert f"has the modules {list(names)}; an encoder has" in str(refusal.value)


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
        SignatureError, match=r"an encoder has Transformer, Pooling, .*, of sentence_transformers"
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
        ("modules.json", "[{]", r"modules\.json is not JSON"),
        ("modules.json", "{}", r"modules\.json holds dict where list is expected"),
        ("modules.json", "[1]", r"modules\.json does not name modules"),
        ("modules.json", '[{"type": "a"}]', "does not name modules: KeyError"),
        ("1_Pooling/config.json", "[]", r"config\.json holds list"),
        ("sentence_bert_config.json", '"', r"sentence_bert_config\.json is not JSON"),
        ("sentence_bert_config.json", "[" * 100_000, r"sentence_bert_config\.json is not JSON"),
        ("sentence_bert_config.json", '{"max_seq_length": 1%s}' % ("0" * 30), "max_tokens is an"),
        ("config_sentence_transformers.json", '{"prompts": ["q"]}', r"says prompts is \['q'\]"),
    ],
)
def test_a_file_of_a_folder_that_cannot_be_read_is_named(layout, name, text, message):
    (layout / name).write_text(text)
    with pytest.raises(SignatureError, match=message):
        mk.TextEncoder.from_directory(layout)


def test_a_folder_of_transformers_is_read_where_the_pooling_is_said(layout, encoder):
    """As exporters write it: no modules.json, which would say how vectors are pooled."""
    (layout / "modules.json").unlink()
    (layout / "1_Pooling" / "config.json").unlink()
    with pytest.raises(
        SignatureError,
        match=r"lacks modules\.json, .* pass pooling= .*TextEncoder\(onnx, tokenizer",
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
        FileNotFoundError, match=r"lacks tokenizer\.json; transformers writes one by"
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


def test_a_prompt_before_every_text_is_refused_unless_the_caller_has_roles(layout):
    """sentence-transformers puts it before texts of which nothing is said; an encoder puts none."""
    config = {"prompts": {"query": "query ", "text": ""}, "default_prompt_name": "query"}
    write(layout / "config_sentence_transformers.json", config)
    with pytest.raises(SignatureError, match="puts its prompt 'query' before every text"):
        mk.TextEncoder.from_directory(layout)
    with mk.TextEncoder.from_directory(layout, roles=config["prompts"]) as found:
        expected = found.embed(["query the river"])
        np.testing.assert_array_equal(found.embed(["the river"], role="query"), expected)
    for name in ("text", None):
        write(layout / "config_sentence_transformers.json", config | {"default_prompt_name": name})
        with mk.TextEncoder.from_directory(layout) as found:
            assert found.recipe.roles == config["prompts"]


def test_long_texts_are_cut_from_the_side_of_transformers(layout, tmp_path):
    """Which its tokenizer_config.json says, whatever the last use left in tokenizer.json."""
    words = {"left": WORDS[-14:], "right": WORDS[:14]}
    for used in (None, "left", "right"):
        tokenizer = tiny_tokenizer()
        if used:
            tokenizer.enable_truncation(7, direction=used)
        tokenizer.save(str(layout / "tokenizer.json"))
        for side, kept in words.items():
            write(
                layout / "tokenizer_config.json",
                {"truncation_side": side, "model_max_length": MOST},
            )
            with mk.TextEncoder.from_directory(layout) as found:
                expected = found.embed([" ".join(kept)])
                np.testing.assert_array_equal(found.embed([" ".join(WORDS)]), expected)
    mk.save(mk.TextEncoder.from_directory(layout), tmp_path / "e.mk", name="e", version="1")
    with mk.load(tmp_path / "e.mk") as found:
        np.testing.assert_array_equal(found.embed([" ".join(WORDS)]), expected)
    write(layout / "tokenizer_config.json", {"truncation_side": "top", "model_max_length": MOST})
    with pytest.raises(SignatureError, match=r"not a tokenizer\.json"):
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


def test_a_folder_that_wants_lower_case_gets_it(layout, tmp_path):
    """As bge-small-en-v1.5 does; sentence-transformers puts this step before those of the tokenizer too."""
    write(layout / "sentence_bert_config.json", {"max_seq_length": MOST, "do_lower_case": True})
    with mk.TextEncoder.from_directory(layout) as found:
        vectors = found.embed(["the RIVER", "The rivER"])
        np.testing.assert_array_equal(*vectors)
        mk.save(found, tmp_path / "e.mk", name="e", version="1")
        tokenizer = found.tokenizer
    with mk.load(tmp_path / "e.mk") as again:
        np.testing.assert_array_equal(again.embed(["THE river", "the river"]), vectors)
    rules = json.loads(tokenizer)
    assert rules["normalizer"]["normalizers"] == [{"type": "Lowercase"}]
    rules["normalizer"] = {"type": "Strip", "strip_left": True, "strip_right": True}
    write(layout / "tokenizer.json", rules)
    with mk.TextEncoder.from_directory(layout) as found:
        np.testing.assert_array_equal(found.embed([" the RIVER"])[0], vectors[0])


def test_the_pooling_of_a_folder_without_modules_may_be_beside_it(layout, encoder):
    (layout / "modules.json").unlink()
    write(layout / "config_sentence_transformers.json", {"prompts": {"query": "query "}})
    with mk.TextEncoder.from_directory(layout) as found:
        assert (found.recipe.pooling, found.recipe.normalize) == ("mean", True)
        assert found.recipe.roles == {"query": "query "}
        np.testing.assert_array_equal(found.embed(["the river"]), encoder.embed(["the river"]))


# Dense layers behind the pooling, as in LaBSE.


def dense(folder, at, matrix, bias=None, **config):
    place = folder / f"{at}_Dense"
    place.mkdir(exist_ok=True)
    write_tensors(
        place / "model.safetensors",
        {"linear.weight": matrix} | ({} if bias is None else {"linear.bias": bias}),
    )
    write(place / "config.json", {"in_features": matrix.shape[1], **config})


R = np.random.default_rng(3)
MATRIX = R.normal(size=(5, WIDTH)).astype(np.float32)
BIAS = R.normal(size=5).astype(np.float32)
TANH = "torch.nn.modules.activation.Tanh"
IDENTITY = "torch.nn.modules.linear.Identity"


def with_dense(folder, *more):
    modules(folder, "Transformer", "Pooling", "Dense", *more)
    entries = json.loads((folder / "modules.json").read_text())
    for entry in entries[2:]:
        entry["path"] = f"{entry['idx']}_{entry['type'].rpartition('.')[2]}"
    write(folder / "modules.json", entries)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_layers_behind_the_pooling_are_run(layout, pooling, tmp_path):
    write(layout / "1_Pooling" / "config.json", {"pooling_mode": pooling})
    texts = [*sentences(30, seed=5), "", "the"]
    with mk.TextEncoder.from_directory(layout) as before:
        pooled = before.embed(texts).astype(np.float64)
    layer = np.tanh(pooled @ MATRIX.T + BIAS)
    with_dense(layout)
    dense(layout, 2, MATRIX, BIAS, activation_function=TANH)
    with mk.TextEncoder.from_directory(layout) as one:
        assert (one.recipe.pooling, one.recipe.output) == ("none", "sentence_embedding")
        np.testing.assert_allclose(one.embed(texts), layer, atol=1e-5)
    again = R.normal(size=(3, 5)).astype(np.float32)
    with_dense(layout, "Dense", "Normalize")
    dense(layout, 3, again, activation_function=IDENTITY)
    expected = layer @ again.T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with mk.TextEncoder.from_directory(layout) as two:
        np.testing.assert_allclose(two.embed(texts), expected, atol=1e-5)
        assert two.batchable
        mk.save(two, tmp_path / "e.mk", name="e", version="1")
        with mk.load(tmp_path / "e.mk") as loaded:
            np.testing.assert_array_equal(loaded.embed(texts), two.embed(texts))
            assert loaded.identity == two.identity
            assert loaded.verify() == 0


@pytest.mark.parametrize(
    ("config", "pooling", "message"),
    [
        ({"activation_function": "torch.nn.modules.activation.GELU"}, "mean", "GELU.* an encoder takes one of"),
        ({"activation_function": TANH, "use_residual": True}, "mean", "use_residual"),
        ({"activation_function": TANH, "module_input_name": "token_embeddings"}, "mean", "one of sentence_embedding"),
        ({"activation_function": TANH}, "max", "behind the pooling 'max'; an encoder has them behind one of"),
    ],
)  # fmt: skip
def test_layers_that_are_not_known_are_refused(layout, config, pooling, message):
    write(layout / "1_Pooling" / "config.json", {"pooling_mode": pooling})
    with_dense(layout)
    dense(layout, 2, MATRIX, BIAS, **config)
    with pytest.raises(SignatureError, match=message):
        mk.TextEncoder.from_directory(layout)


@pytest.mark.parametrize(
    ("matrix", "bias"), [(MATRIX, BIAS[:4]), (MATRIX[0], None), (MATRIX[:, :, None], None)]
)
def test_layers_of_other_shapes_are_refused(layout, matrix, bias):
    with_dense(layout)
    dense(layout, 2, np.atleast_2d(matrix), bias, activation_function=TANH)
    arrays = {"linear.weight": matrix} | ({} if bias is None else {"linear.bias": bias})
    write_tensors(layout / "2_Dense" / "model.safetensors", arrays)
    with pytest.raises(SignatureError, match=r"these are \(out, in\) and \(out,\)"):
        mk.TextEncoder.from_directory(layout)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}"]
)
def test_weights_that_cannot_be_read_are_named(layout, data):
    with_dense(layout)
    dense(layout, 2, MATRIX, BIAS, activation_function=TANH)
    (layout / "2_Dense" / "model.safetensors").write_bytes(data)
    with pytest.raises(
        SignatureError, match=r"2_Dense.model\.safetensors is not a safetensors file"
    ):
        mk.TextEncoder.from_directory(layout)


# Graphs that give finished vectors.


def finished_graph(*more):
    """The mean of the tiny graph as sentence_embedding, and other outputs, by name and operator."""
    proto = tiny_graph()
    graph = with_layers(proto, "mean", [])
    for name, tensor in more:
        graph.graph.node.append(helper.make_node("Identity", [tensor], [name]))
        shape = [*TOKENS, WIDTH] if tensor == "hidden" else ["batch", WIDTH]
        graph.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return graph


def test_finished_vectors_are_found(layout, encoder):
    texts = [*sentences(30, seed=5), ""]
    expected = encoder.embed(texts)
    # As optimum writes a whole sentence-transformers model.
    both = finished_graph(("token_embeddings", "hidden"))
    (layout / "onnx" / "model.onnx").write_bytes(both.SerializeToString())
    modules(layout, "Transformer", "Pooling", "LSTM", "Normalize")  # which the graph holds
    with mk.TextEncoder.from_directory(layout) as found:
        assert (found.recipe.pooling, found.recipe.normalize) == ("none", True)
        np.testing.assert_allclose(found.embed(texts), expected, atol=1e-6)
        assert "finished vectors of 'sentence_embedding'" in str(found.recipe)
    with tiny(both, pooling="cls") as found:
        assert found.recipe.output == "token_embeddings"
    with tiny(both, output="token_embeddings") as found:
        assert found.recipe.pooling == "mean"
    with tiny(tiny_graph()) as found:
        assert found.recipe.pooling == "mean"


def test_the_only_vectors_of_a_graph_are_its_finished_ones(encoder):
    proto = finished_graph()
    proto.graph.output[0].name = "vectors"
    proto.graph.node[-1].output[0] = "vectors"
    for options in ({}, {"pooling": "none"}, {"output": "vectors"}):
        with tiny(proto, **options) as found:
            assert (found.recipe.pooling, found.recipe.output) == ("none", "vectors")
            np.testing.assert_allclose(
                found.embed(["the river", ""]), encoder.embed(["the river", ""]), atol=1e-6
            )
    with pytest.raises(
        SignatureError, match="has 0 outputs that may be a vector or score for each token"
    ):
        tiny(proto, pooling="mean")
    two = finished_graph(("pooled", "modelkit.x0"))
    two.graph.output[0].name = "vectors"
    two.graph.node[-2].output[0] = "vectors"
    with pytest.raises(
        SignatureError, match=r"has 2 outputs .* for each text, \['vectors', 'pooled'\]"
    ):
        tiny(two)
    with tiny(two, output="pooled") as found:
        assert found.recipe.pooling == "none"
    with pytest.raises(SignatureError, match="is not a vector of 1 numbers for each text"):
        tiny(tiny_graph(), pooling="none", output="last_hidden_state")


def test_a_pooler_beside_the_vectors_of_tokens_is_passed_over():
    proto = finished_graph(("of tokens", "hidden"))
    proto.graph.output[0].name = "pooler_output"
    proto.graph.node[-2].output[0] = "pooler_output"
    with tiny(proto) as found:
        assert (found.recipe.pooling, found.recipe.output) == ("mean", "of tokens")

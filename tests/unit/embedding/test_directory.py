"""A TextEncoder from a folder, as sentence-transformers and transformers write it."""

import json

import numpy as np
import pytest
from helpers.encoders import MOST, WIDTH, tiny_graph, tiny_tokenizer

import modelkit as mk
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
        ("modules.json", "[{]", r"modules\.json is not JSON"),
        ("modules.json", "{}", r"modules\.json holds dict where list is expected"),
        ("modules.json", "[1]", r"modules\.json does not name modules"),
        ("modules.json", '[{"type": "a"}]', "does not name modules: KeyError"),
        ("1_Pooling/config.json", "[]", r"config\.json holds list"),
        ("sentence_bert_config.json", '"', r"sentence_bert_config\.json is not JSON"),
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

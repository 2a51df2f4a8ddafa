"""Static models: the mean of a vector for each token, from the folders that their libraries write."""

import json
import random

import numpy as np
import pytest
from helpers.encoders import (
    ODD,
    SPECIAL,
    VALUES,
    WORDS,
    installed,
    sentences,
    tiny_tokenizer,
    write_tensors,
)
from tokenizers import Tokenizer

import modelkit as mk
from modelkit.embedding.pooling import unit
from modelkit.errors import SignatureError
from modelkit.testing import check_model

TABLE = VALUES[: len(SPECIAL) + len(WORDS)]
SCRIPTS = [
    "\u0627\u0644\u0646\u0647\u0631 \u0627\u0644\u0637\u0648\u064a\u0644", "\u05e0\u05d4\u05e8 \u200f\u05d0\u05e8\u05d5\u05da", "\u9577\u3044\u5ddd", "\uae34 \uac15",
    "\u0434\u043b\u0438\u043d\u043d\u0430\u044f \u0440\u0435\u043a\u0430", "\u03bc\u03b1\u03ba\u03c1\u03cd\u03c2 \u03a0\u039f\u03a4\u0391\u039c\u039f\u03a3", "\u0928\u0926\u0940", "\u0e41\u0e21\u0e48\u0e19\u0e49\u0e33",
    "\U0001f3fd\U0001f469\u200d\U0001f680 rocket", "na\u00efve caf\u00e9", "\u0130stanbul", "x" * 3000, "1,234.5e-6 $%&",
]  # fmt: skip


@pytest.fixture(scope="module")
def wordllama_folder():
    return installed("wordllama")


@pytest.fixture(scope="module")
def packaged(wordllama_folder, once):
    """The encoder of the package wordllama, there and back."""

    def save(path):
        with mk.TextEncoder.from_directory(wordllama_folder, dims=(256, 64)) as encoder:
            mk.save(encoder, path, name="wordllama", version="1")

    with mk.load(once("wordllama.mk", save)) as encoder:
        yield encoder


def test_the_packaged_weights_of_wordllama_give_its_own_vectors(packaged, wordllama_folder):
    from wordllama import WordLlama

    theirs = WordLlama.load(cache_dir=wordllama_folder, disable_download=True)
    rng = random.Random(0)
    texts = [*SCRIPTS, *(text for text in ODD if text), *sentences(200, seed=2)]
    texts = [
        *filter(None, texts),
        " ".join(rng.choices(WORDS, k=20_000)),
    ]  # more than 100,000 letters
    expected = theirs.embed(texts, norm=True, batch_size=1)
    vectors = packaged.embed(texts)
    assert (vectors * expected).sum(axis=1).min() > 1 - 1e-6
    np.testing.assert_allclose(packaged.embed(texts, dims=64), unit(expected[:, :64]), atol=1e-5)
    assert packaged.truncated == 0
    assert not packaged.embed([""]).any()  # which has no token at all
    assert packaged.batchable
    assert packaged.recipe.roles == {}


def test_a_static_encoder_keeps_the_contract_of_a_model(packaged):
    found = {"text": [*sentences(12, seed=7), *ODD, *SCRIPTS]}
    check_model(packaged, found)
    with mk.Batcher(packaged) as batcher:
        check_model(batcher, found)


def folder_of(path, arrays, config=None, modules=(), special=True, name=""):
    """A folder of a static model; `name` is the folder of the module in it."""
    place = path / name
    place.mkdir(parents=True, exist_ok=True)
    write_tensors(place / "model.safetensors", arrays)
    tiny_tokenizer(special).save(str(place / "tokenizer.json"))
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    if modules:
        entries = [
            {
                "idx": i,
                "path": name if not i else f"{i}_{kind}",
                "type": f"sentence_transformers.models.{kind}",
            }
            for i, kind in enumerate(modules)
        ]
        (path / "modules.json").write_text(json.dumps(entries))
    return path


def of_model2vec(texts, table, *, weights=None, mapping=None):
    """As model2vec's StaticModel.encode makes vectors: unknown tokens do not count."""
    known = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    found = np.zeros((len(texts), table.shape[1]))
    for row, text in zip(found, texts, strict=True):
        ids = [known[word] for word in text.split() if word in known and word != "[UNK]"][:512]
        vectors = table[ids if mapping is None else mapping[ids]].astype(np.float64)
        if weights is not None:
            vectors = vectors * weights[ids][:, None]
        if ids:
            row[:] = vectors.mean(axis=0)
    return found


MODEL2VEC = {"model_type": "model2vec", "normalize": False}
TEXTS = [*sentences(60, seed=3), "unknown", "unknown words", "the unknown river", "", "  ", "[PAD] the",
         "the " * 600]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8"])
def test_a_folder_of_model2vec_gives_its_vectors(tmp_path, dtype):
    table = (TABLE * 40).round().astype(dtype) if dtype == "int8" else TABLE.astype(dtype)
    folder = folder_of(tmp_path, {"embeddings": table}, MODEL2VEC)
    with mk.TextEncoder.from_directory(folder) as encoder:
        np.testing.assert_allclose(encoder.embed(TEXTS), of_model2vec(TEXTS, table), atol=1e-4)
        assert encoder.recipe.max_tokens == 512
        assert encoder.truncated == 1
        assert encoder.token_count(["the river", ""]).tolist() == [2, 0]
        check_model(encoder, {"text": TEXTS})
    modules = ["StaticEmbedding", "Normalize"]  # as newer releases write beside it
    folder_of(folder, {"embeddings": table}, MODEL2VEC | {"normalize": True}, modules)
    with mk.TextEncoder.from_directory(folder) as encoder:
        expected = unit(of_model2vec(TEXTS, table))
        np.testing.assert_allclose(encoder.embed(TEXTS), expected, atol=1e-5)


def test_a_vocabulary_that_shares_vectors_has_a_weight_for_each_token(tmp_path):
    rng = np.random.default_rng(1)
    mapping = rng.integers(0, 7, len(TABLE))
    weights = rng.uniform(0.1, 2, len(TABLE)).astype(np.float32)
    arrays = {"embeddings": TABLE[:7], "weights": weights, "mapping": mapping}
    with mk.TextEncoder.from_directory(folder_of(tmp_path, arrays, MODEL2VEC)) as encoder:
        expected = of_model2vec(TEXTS, TABLE[:7], weights=weights, mapping=mapping)
        np.testing.assert_allclose(encoder.embed(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["", "0_StaticEmbedding"])
def test_a_static_embedding_of_sentence_transformers_counts_unknown_tokens(tmp_path, name):
    folder_of(tmp_path, {"embedding.weight": TABLE}, modules=["StaticEmbedding"], name=name)
    known = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    texts = ["the unknown river", "unknown", "of and"]
    expected = [TABLE[[known.get(word, 1) for word in text.split()]].mean(axis=0) for text in texts]
    with mk.TextEncoder.from_directory(tmp_path) as encoder:
        np.testing.assert_allclose(encoder.embed(texts), expected, atol=1e-6)
        assert not encoder.embed(["", " "]).any()
        long = encoder.embed(["the river " * 20_000])
        assert encoder.truncated == 1  # at 32,768 tokens
        np.testing.assert_allclose(long, encoder.embed(["the river"]), atol=1e-3)


def test_the_truncation_of_a_static_tokenizer_holds_as_in_its_library(tmp_path):
    folder = folder_of(tmp_path, {"embedding.weight": TABLE}, modules=["StaticEmbedding"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    with mk.TextEncoder.from_directory(folder) as encoder:
        assert encoder.recipe.max_tokens == 3
    with mk.TextEncoder.from_directory(folder, max_tokens=9) as encoder:
        assert encoder.recipe.max_tokens == 9


def test_a_static_folder_that_lacks_something_says_so(tmp_path):
    folder = folder_of(tmp_path, {"other": TABLE}, MODEL2VEC)
    with pytest.raises(SignatureError, match=r"with embeddings or embedding\.weight"):
        mk.TextEncoder.from_directory(folder)
    for arrays in ({"embeddings": TABLE[0]}, {"embeddings": TABLE, "weights": TABLE[0]}):
        write_tensors(folder / "model.safetensors", arrays)
        with pytest.raises(SignatureError, match=r"have one number for each token; got"):
            mk.TextEncoder.from_directory(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        mk.TextEncoder.from_directory(folder)


NAN_ROW = TABLE.copy()
NAN_ROW[0] = np.nan  # of the padding, which every batch looks up


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embeddings": TABLE[:5]}, "token 23 has no vector, for there are 5"),
        ({"embeddings": TABLE[:, 0]}, r"vectors are \(n, d\)"),
        ({"embeddings": np.array(1.0)}, r"vectors are \(n, d\)"),
        ({"embeddings": TABLE, "weights": np.ones(5)}, "one number for each token"),
        ({"embeddings": TABLE[:5], "mapping": np.array(3)}, "one number for each token"),
        ({"embeddings": TABLE[:5], "mapping": np.full(24, 5)}, "other rows than the 5"),
        ({"embeddings": TABLE[:5], "mapping": np.full(24, -1)}, "other rows than the 5"),
        ({"embeddings": TABLE[:5], "mapping": np.full(24, np.nan)}, "other rows than the 5"),
        ({"embeddings": NAN_ROW}, "not finite"),
        ({"embeddings": TABLE, "weights": np.full(24, np.inf)}, "not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    folder = folder_of(tmp_path, arrays, MODEL2VEC)
    with pytest.raises(SignatureError, match=rf"(?s)does not fit .*{message}"):
        mk.TextEncoder.from_directory(folder)


@pytest.mark.parametrize("behind", ["Dense", "LSTM"])
def test_modules_behind_static_vectors_are_refused(tmp_path, behind):
    """They were left out in silence once, so the vectors were those of another model."""
    modules = ["StaticEmbedding", behind]
    folder = folder_of(tmp_path, {"embedding.weight": TABLE}, modules=modules)
    with pytest.raises(SignatureError, match="has the modules"):
        mk.TextEncoder.from_directory(folder)


@pytest.mark.parametrize(
    "lie",
    [
        {"model": [1]},
        {"model": {"type": "WordLevel", "vocab": [1], "unk_token": "[UNK]"}},
        {"model": {"type": "WordLevel", "vocab": {}, "unk_token": [1]}},
        {"truncation": [1]},
        {"truncation": {"max_length": "x"}},
    ],
)
def test_a_static_tokenizer_that_lies_is_refused(tmp_path, lie):
    folder = folder_of(tmp_path, {"embeddings": TABLE}, MODEL2VEC)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | lie))
    with pytest.raises(SignatureError, match=r"not a tokenizer\.json"):
        mk.TextEncoder.from_directory(folder)

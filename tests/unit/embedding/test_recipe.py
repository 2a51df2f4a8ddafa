"""An encoder in a package gives the same vectors wherever it is opened, and says when they are of another kind."""

import json
import random

import numpy as np
import pytest
from helpers.encoders import (
    WIDTH,
    WORDS,
    bert_tokenizer,
    letter_tokenizer,
    model_over_tokens,
    sentences,
    tiny,
    tiny_graph,
    tiny_tokenizer,
    tiny_vector,
)
from helpers.examples import examples
from helpers.forge import forge, members_of
from helpers.places import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import modelkit as mk
from modelkit import cli
from modelkit.errors import (
    BatchError,
    ConversionError,
    GraphError,
    IntegrityError,
    ManifestError,
    ModelkitError,
    PackageError,
    ParityError,
    SignatureError,
)
from modelkit.model.manifest import FORMAT
from modelkit.testing import check_model

TOKENIZER = "model/tokenizer.json"
IDENTITY = "sha256:8c22d0e648566b71b7613555f2f9a922016a77772b56bb27fb535af8f0886315"


def save(encoder, path, **options):
    return mk.save(encoder, path, name="e", version="1", **options)


# There and back.


@pytest.mark.parametrize("name", ["tiny_mk", "static_mk"])
def test_a_saved_encoder_gives_the_same_bits(name, request, tmp_path):
    found = [*sentences(60, seed=1), "", "\N{GRINNING FACE}"]
    with mk.load(request.getfixturevalue(name)) as encoder:
        save(encoder, tmp_path / "again.mk")
        with (
            mk.load(tmp_path / "again.mk") as again,
            mk.load((tmp_path / "again.mk").read_bytes()) as third,
        ):
            for role in (None, "query"):
                expected = encoder.embed(found, role=role)
                np.testing.assert_array_equal(again.embed(found, role=role), expected)
                np.testing.assert_array_equal(third.embed(found, role=role), expected)
            assert again.recipe == encoder.recipe
            assert again.identity == encoder.identity == third.identity
            assert again.tokenizer == encoder.tokenizer


def test_vectors_that_count_as_the_same_pass_verification_in_any_company(tmp_path):
    """A graph whose activations are scaled by the batch, but so little that its vectors count as independent."""
    graph = tiny_graph(dynamic=True)
    (gains,) = [tensor for tensor in graph.graph.initializer if tensor.name == "gains"]
    gains.CopyFrom(numpy_helper.from_array(np.ones_like(numpy_helper.to_array(gains)), "gains"))
    texts = {"text": [" ".join(WORDS[:10])] * 12}
    with mk.TextEncoder(graph, tiny_tokenizer(), max_tokens=64) as encoder:
        mk.save(encoder, tmp_path / "e.mk", name="e", version="1", golden=texts)
    for threads in (1, 2):
        with mk.load(tmp_path / "e.mk", threads=threads) as loaded:
            assert 0.9999 <= loaded.recipe.measured.alone < 1
            loaded.verify()
            loaded.embed(["the river"] * 256)
            loaded.verify()


def test_an_encoder_and_its_package_are_the_same(tmp_path):
    options = {
        "roles": {"query": "query "},
        "dims": (8, 4),
        "pooling": "max",
        "normalize": False,
        "max_tokens": 9,
    }
    with tiny(**options) as encoder:
        manifest = save(encoder, tmp_path / "e.mk")
        assert save(encoder, tmp_path / "again.mk") == manifest
        assert (tmp_path / "again.mk").read_bytes() == (tmp_path / "e.mk").read_bytes()
        with mk.load(tmp_path / "e.mk") as loaded:
            assert loaded.identity == encoder.identity
            assert loaded.signature == encoder.signature == manifest.signature
            assert loaded.manifest == manifest
            assert loaded.manifest.format == FORMAT
            np.testing.assert_array_equal(loaded.embed(["the river"]), encoder.embed(["the river"]))
            for name, value in options.items():
                assert getattr(loaded.recipe, name) == value
            assert loaded.verify() == 0.0
            loaded.warmup()
            assert loaded.truncated == 0
            check_model(loaded, {"text": sentences(9, seed=2)})
        assert [member.path for member in manifest.files] == [
            "model/model.onnx",
            TOKENIZER,
            "golden.npz",
        ]
        assert set(manifest.versions) >= {"tokenizers", "onnxruntime", "numpy"}


def test_whatever_makes_another_vector_makes_another_identity(tmp_path):
    other = tiny_graph()
    table = next(tensor for tensor in other.graph.initializer if tensor.name == "values")
    table.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(table) + np.float32(1e-6), "values")
    )
    normalising = tiny_tokenizer()
    from tokenizers import normalizers

    normalising.normalizer = normalizers.Lowercase()
    kinds = [
        {},
        {"pooling": "cls"},
        {"roles": {"query": "query "}},
        {"roles": {"query": "text "}},
        {"dims": (8, 4)},
        {"dims": (4,)},
        {"normalize": False},
        {"max_tokens": 9},
        {"stable": True},
        {"tokenizer": normalising},
        {"tokenizer": letter_tokenizer()},
        {"graph": other},
    ]
    found = []
    for i, options in enumerate(kinds):
        with tiny(**options) as encoder:
            save(encoder, tmp_path / f"{i}.mk")
            found.append(encoder.identity)
        with mk.load(tmp_path / f"{i}.mk") as loaded:
            assert loaded.identity == found[-1]
    assert len({*found}) == len(kinds)
    with (
        tiny(roles={"a": "1", "b": "2"}) as one,
        tiny(roles={"b": "2", "a": "1"}, on_long="error") as same,
    ):
        assert one.identity == same.identity  # neither makes a difference to a vector


def test_a_package_of_an_encoder_opens_for_ever(tmp_path):
    """Its vectors keep their identity, although its graph is written in another way now; saved again too."""
    with mk.load(GOLDEN / "encoder1.mk") as encoder:
        mk.save(encoder, tmp_path / "again.mk", name="again", version="2")
        with mk.load(tmp_path / "again.mk") as again:
            assert again.identity == IDENTITY
        assert (encoder.manifest.format, encoder.manifest.runtime) == (1, "encoder")
        assert encoder.identity == IDENTITY
        assert encoder.verify() <= 1e-5
        assert (encoder.recipe.roles, encoder.recipe.dims) == (
            {"query": "query ", "passage": "text "},
            (8, 4),
        )
        found = ["river", "", "green music " * 20]
        expected = [tiny_vector(f"query {text}") for text in found]
        np.testing.assert_allclose(encoder.embed(found, role="query"), expected, atol=1e-5)


def test_inspect_shows_the_recipe(capsys, tiny_mk):
    assert cli.main(["inspect", str(tiny_mk), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runtime"] == "encoder"
    assert found["options"]["pooling"] == "mean"
    assert found["options"]["dims"] == [8, 4, 2]
    assert found["options"]["roles"] == {"query": "query ", "text": "text "}
    assert found["options"]["measured"]["alone"] >= 0.9999
    assert "reference" not in found["options"]["measured"]
    assert cli.main(["inspect", str(tiny_mk)]) == 0
    out = capsys.readouterr().out
    for text in ("mean of 'last_hidden_state'", "8 or 4 or 2 dimensions", "at most 16 tokens", "roles query 'query '",
                 "do not depend on the texts beside them", TOKENIZER):  # fmt: skip
        assert text in out
    with mk.load(tiny_mk) as encoder:
        assert "mean of &#x27;last_hidden_state&#x27;" in encoder._repr_html_()


def test_an_encoder_is_no_estimator(tmp_path):
    with tiny() as encoder, pytest.raises(ConversionError):
        mk.save(encoder, tmp_path / "e.mk", name="e", version="1", format="joblib")
    assert list(tmp_path.iterdir()) == []


# Compared with a reference.


def test_vectors_of_another_implementation_are_compared_with(tmp_path):
    found = [text or "a" for text in sentences(30, seed=3)]
    vectors = np.array([tiny_vector(text) for text in found])
    noisy = vectors + np.random.default_rng(0).normal(size=vectors.shape) * 0.01
    with tiny() as encoder:
        manifest = save(encoder, tmp_path / "e.mk", example={"text": found, "embedding": vectors})
        assert manifest.options["measured"]["reference"] == pytest.approx(1, abs=1e-5)
        manifest = save(encoder, tmp_path / "e.mk", example={"text": found, "embedding": 3 * noisy})
        assert 0.95 < manifest.options["measured"]["reference"] < 0.9999
        with mk.load(tmp_path / "e.mk") as loaded:
            assert "least cosine to reference vectors 0.9" in str(loaded.recipe)
        data = (tmp_path / "e.mk").read_bytes()
        for bad in (vectors[::-1], -vectors, np.zeros_like(vectors)):
            with pytest.raises(ParityError, match="nothing was saved") as caught:
                save(encoder, tmp_path / "e.mk", example={"text": found, "embedding": bad})
            assert caught.value.cosine < 0.95
        assert (tmp_path / "e.mk").read_bytes() == data
    with (
        tiny(pooling="cls") as other,
        pytest.raises(ParityError, match="compare pooling, tokenizer"),
    ):
        save(other, tmp_path / "other.mk", example={"text": found, "embedding": vectors})
    assert not (tmp_path / "other.mk").exists()


@pytest.mark.parametrize(
    "example",
    [
        ["a text"],
        {"text": ["a"]},
        {"text": [], "embedding": np.zeros((0, WIDTH))},
        {"text": ["a"], "embedding": np.zeros((1, WIDTH + 1))},
        {"text": ["a", "b"], "embedding": np.zeros((1, WIDTH))},
        {"text": ["a"], "embedding": np.full((1, WIDTH), np.nan)},
        {"text": ["a"], "embedding": [["x"] * WIDTH]},
    ],
)
def test_a_reference_that_is_none_is_refused(example, tmp_path):
    with tiny() as encoder, pytest.raises(ConversionError):
        save(encoder, tmp_path / "e.mk", example=example)
    assert list(tmp_path.iterdir()) == []


def test_two_vectors_of_zeros_are_the_same(tmp_path):
    found = ["", "the river", " "]
    with tiny(tokenizer=tiny_tokenizer(special=False)) as encoder:
        manifest = save(
            encoder, tmp_path / "e.mk", example={"text": found, "embedding": encoder.embed(found)}
        )
        assert manifest.options["measured"]["reference"] == pytest.approx(1)


def test_a_graph_that_gives_no_numbers_is_not_saved(tmp_path):
    proto = tiny_graph()
    table = next(tensor for tensor in proto.graph.initializer if tensor.name == "values")
    table.CopyFrom(
        numpy_helper.from_array(np.full_like(numpy_helper.to_array(table), np.nan), "values")
    )
    with tiny(proto) as encoder, pytest.raises(ConversionError, match="not finite"):
        save(encoder, tmp_path / "e.mk")
    assert list(tmp_path.iterdir()) == []


# What was changed is noticed.


def test_a_changed_tokenizer_is_noticed(tiny_mk):
    data = tiny_mk.read_bytes()
    at = data.index(b'"river"') + 2
    with pytest.raises(IntegrityError, match=TOKENIZER) as caught:
        mk.load(data[:at] + b"j" + data[at + 1 :])
    assert caught.value.member == TOKENIZER


def test_an_encoder_without_its_tokenizer_is_refused(tiny_mk):
    with pytest.raises(IntegrityError, match=rf"lacks \['{TOKENIZER}'\]"):
        mk.load(forge(tiny_mk.read_bytes(), {TOKENIZER: None}))
    with pytest.raises(IntegrityError, match=rf"lacks \['{TOKENIZER}'\]"):
        mk.inspect(forge(tiny_mk.read_bytes(), {TOKENIZER: None}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": "1.0", "model": {"type": "Nothing"}}',
        b"\x80\x04pickle",
    ],
)
def test_a_tokenizer_that_is_none_is_refused(tiny_mk, content):
    with pytest.raises(PackageError, match="the tokenizer cannot be used") as caught:
        mk.load(forge(tiny_mk.read_bytes(), {TOKENIZER: content}))
    assert caught.value.member == TOKENIZER


@settings(max_examples=examples(100), deadline=None)
@given(data=st.data())
def test_a_tokenizer_that_was_forged_is_refused_or_gives_vectors(tiny_mk, data):
    told = json.loads(members_of(tiny_mk.read_bytes())[TOKENIZER])
    odd = st.sampled_from(
        [None, -1, 0, 23, 24, 1 << 31, (1 << 32) - 1, 1 << 70, 0.5, True, "", "[SEP]", "\0", [], {}]
    )
    for _ in range(data.draw(st.integers(1, 2))):
        inside = told
        while True:
            places = sorted(inside) if isinstance(inside, dict) else list(range(len(inside)))
            at = data.draw(st.sampled_from(places))
            if (
                not inside[at]
                or not isinstance(inside[at], dict | list)
                or data.draw(st.integers(0, 9)) == 0
            ):
                break
            inside = inside[at]
        inside[at] = data.draw(odd)
    try:
        encoder = mk.load(forge(tiny_mk.read_bytes(), {TOKENIZER: json.dumps(told).encode()}))
    except PackageError:
        return
    try:
        vectors = encoder.embed(["the river", "snow", "", "of " * 40])
    except ModelkitError:
        return
    assert vectors.shape == (4, WIDTH)


def test_a_tokenizer_with_numbers_beyond_any_table_is_refused(tiny_mk):
    def told(change):
        tokenizer = json.loads(members_of(tiny_mk.read_bytes())[TOKENIZER])
        change(tokenizer)
        return json.dumps(tokenizer).encode()

    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": (1 << 32) - 1,
               "pad_type_id": 0, "pad_token": "[PAD]"}  # fmt: skip
    changed = told(lambda tokenizer: tokenizer.update(padding=padding))
    with pytest.raises(PackageError, match="the tokenizer cannot be used"):
        mk.load(forge(tiny_mk.read_bytes(), {TOKENIZER: changed}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "sum"}, "pooling is one of"),
        ({"on_long": "ignore"}, "on_long is one of"),
        ({"output": "nothing"}, "lacks the output 'nothing'"),
        ({"dims": []}, "dims are integers"),
        ({"dims": [4, 8]}, "dims are integers"),
        ({"dims": [0]}, "dims are integers"),
        ({"dims": [1 << 40]}, "dims are integers"),
        ({"dims": [8.5]}, "dims"),
        ({"dims": [16, 8]}, "not a vector of 16 numbers"),
        ({"dims": [4, 2]}, "has the signature"),
        ({"max_tokens": 0}, "max_tokens is an integer"),
        ({"max_tokens": 1 << 40}, "max_tokens is an integer"),
        ({"max_tokens": True}, "max_tokens"),
        ({"normalize": 1}, "normalize"),
        ({"stable": "yes"}, "stable"),
        ({"roles": {"query": 1}}, "roles"),
        ({"roles": []}, "roles"),
        ({"measured": {"alone": "high"}}, "alone"),
        ({"measured": {"pooling": "cls"}}, r"unknown fields \['pooling'\]"),
        ({"alone": 1.0}, r"unknown fields \['alone'\]"),
        ({"code": "import os"}, r"unknown fields \['code'\]"),
        # One model would have two digests.
        ({"stable": False}, r"\['stable'\] hold defaults"),
        ({"roles": {}, "on_long": "truncate"}, r"\['on_long', 'roles'\] hold defaults"),
        ({"measured": {"alone": None}}, r"\['measured'\] hold defaults"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tiny_mk, changes, message):
    def edit(manifest):
        manifest["options"].update(changes)

    for opening in (mk.load, mk.inspect):
        with pytest.raises(ManifestError, match=message):
            opening(forge(tiny_mk.read_bytes(), edit=edit))


def test_a_recipe_of_another_model_is_refused(tiny_mk, boosting_mk):
    recipe = json.loads(members_of(tiny_mk.read_bytes())["modelkit.json"])["options"]
    data = tiny_mk.read_bytes()
    with pytest.raises(ManifestError, match="has the signature"):
        mk.load(
            forge(
                boosting_mk.read_bytes(),
                edit=lambda it: it.update(runtime="encoder", options=recipe),
            )
        )
    for runtime in ("joblib", "onnx"):
        with pytest.raises(ManifestError, match=f"'{runtime}' takes none, and this has .'dims', "):
            mk.inspect(forge(data, edit=lambda it, runtime=runtime: it.update(runtime=runtime)))
    with pytest.raises(ManifestError, match="missing fields"):
        mk.inspect(forge(data, edit=lambda it: it.update(options={})))
    with pytest.raises(GraphError):  # the signature says text, and the graph takes tokens
        mk.load(forge(data, edit=lambda it: it.update(runtime="onnx", options={})))

    def wider(manifest):
        manifest["options"]["graph"]["inputs"][0]["dtype"] = "int32"

    with pytest.raises(GraphError):
        mk.load(forge(tiny_mk.read_bytes(), edit=wider))


def test_more_tokens_than_special_ones_must_fit(tiny_mk):
    def edit(manifest):
        manifest["options"]["max_tokens"] = 2

    with pytest.raises(PackageError, match="leaves room beside 2 special tokens"):
        mk.load(forge(tiny_mk.read_bytes(), edit=edit))


# Graphs whose vectors depend on the texts beside them.


def test_a_graph_that_scales_by_the_batch_is_found_out(dynamic_mk):
    manifest = mk.inspect(dynamic_mk)
    assert 0.9 < manifest.options["measured"]["alone"] < 0.9999
    assert not manifest.parity.batch_invariant
    with mk.load(dynamic_mk) as encoder:
        assert encoder.recipe.independent is False
        assert "DEPEND on the texts beside them" in str(encoder.recipe)
        assert not encoder.batchable
        with pytest.raises(
            BatchError, match=r"beside them, down to a closeness of 0\.99.*stable=True"
        ):
            mk.Batcher(encoder)


def test_such_a_graph_gives_the_same_vectors_on_any_number_of_threads(dynamic_mk):
    found = sentences(30, seed=4, most=60)
    with mk.load(dynamic_mk, threads=1) as one, mk.load(dynamic_mk, threads=2) as two:
        np.testing.assert_array_equal(one.embed(found), two.embed(found))
        assert one.verify() == two.verify() == 0.0


@pytest.mark.parametrize("kind", ["real", "tiny"])
def test_stable_vectors_have_the_same_bits_beside_any_others(
    kind, dynamic_graph, dynamic_mk, tmp_path
):
    if kind == "real":
        unstable = mk.load(dynamic_mk)
        graph, tokenizer = dynamic_graph, bert_tokenizer()
        encoder = mk.TextEncoder(graph, tokenizer, max_tokens=128, stable=True)
    else:
        unstable, encoder = (
            tiny(tiny_graph(dynamic=True)),
            tiny(tiny_graph(dynamic=True), stable=True),
        )
    found = [text or "a" for text in sentences(24, seed=5)]
    alone = np.concatenate([encoder.embed([text]) for text in found])
    assert not np.array_equal(unstable.embed(found), alone)
    assert not unstable.batchable
    assert encoder.batchable
    save(encoder, tmp_path / "stable.mk")
    with mk.load(tmp_path / "stable.mk") as loaded:
        assert loaded.recipe.measured.alone == 1
        assert "every text is run alone" in str(loaded.recipe)
        assert loaded.identity != unstable.identity
        for seed in range(3):
            order = random.Random(seed).sample(range(24), 17)
            np.testing.assert_array_equal(loaded.embed([found[i] for i in order]), alone[order])
        with mk.Batcher(loaded) as batcher:
            np.testing.assert_array_equal(mk.embed(batcher, found), alone)


def test_a_graph_that_takes_one_text_alone_needs_a_stable_encoder():
    inner = model_over_tokens()

    def one(feeds):
        assert len(feeds["input_ids"]) == 1
        return inner._run(feeds, ("last_hidden_state",), None)

    model = mk.FunctionModel(one, inner.signature)
    with pytest.raises(SignatureError, match=r"does not run on 16 texts at once.*stable=True"):
        tiny(model)
    with tiny(model, stable=True) as encoder, tiny(inner) as other:
        found = sentences(5, seed=1)
        np.testing.assert_allclose(encoder.embed(found), other.embed(found), atol=1e-6)


def test_a_function_that_mixes_its_rows_is_found_out():
    inner = model_over_tokens()

    def mix(feeds):
        hidden = inner._run(feeds, ("last_hidden_state",), None)["last_hidden_state"]
        return {"last_hidden_state": hidden + hidden.mean(axis=0)}

    with tiny(mk.FunctionModel(mix, inner.signature, batchable=True)) as encoder:
        assert not encoder.batchable
        with pytest.raises(BatchError, match=r"depend on the rows beside them.*stable=True"):
            mk.Batcher(encoder)


# What it serves can be watched.

TOPICS = {
    "rivers": ["river", "water", "valley", "bridge", "rain", "flood", "lake", "fish",
        "shore", "boat", "stream", "mountain", "delta", "canal", "dam"],
    "kitchen": ["coffee", "bread", "oven", "butter", "recipe", "salt", "table", "sugar",
        "dinner", "onion", "knife", "soup", "cheese", "plate", "tea"],
}  # fmt: skip


def on(topic, count, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(TOPICS[topic], k=rng.randint(6, 12))) for _ in range(count)]


@pytest.fixture(scope="module")
def watched_mk(static, tmp_path_factory):
    train, held = (
        {"text": np.array(on("rivers", count, seed), object)}
        for count, seed in ((300, 0), (3000, 1))
    )
    profile = mk.Profile.fit(
        train, reference=held, scores=static.embed(held["text"]), text=("text",)
    )
    path = tmp_path_factory.mktemp("watched") / "static.mk"
    save(static, path, profile=profile)
    return path


@pytest.mark.parametrize(("topic", "found"), [("rivers", False), ("kitchen", True)])
@pytest.mark.parametrize("batched", [False, True])
def test_a_monitor_says_when_a_new_topic_arrives(watched_mk, topic, found, batched):
    with mk.load(watched_mk) as encoder, mk.Batcher(encoder, plan="learn") as batcher:
        watched = mk.Monitor(batcher if batched else encoder, budget=1e9)
        for seed in range(20):
            served = on(topic, 50, 100 + seed)
            np.testing.assert_allclose(mk.embed(watched, served), encoder.embed(served), atol=1e-5)
        assert watched.failures == 0, watched.last_failure
        alarms = watched.detector.alarms
        assert bool(alarms) == found
        if found:
            assert any(alarm.feature.startswith("embedding: ") for alarm in alarms)


def test_a_profile_of_vectors_alone_finds_a_new_topic(static):
    vectors = {topic: static.embed(on(topic, 3000, 2)) for topic in TOPICS}
    profile = mk.Profile.fit(
        {"v": vectors["rivers"][:1000]}, reference={"v": vectors["rivers"][1000:]}
    )
    same, new = mk.Detector(profile), mk.Detector(profile)
    same.update({"v": static.embed(on("rivers", 1000, 3))})
    new.update({"v": vectors["kitchen"][:1000]})
    assert not same.alarms
    assert new.alarms

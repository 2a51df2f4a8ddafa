"""Embeddings are nineteen numbers."""

import numpy as np
import pytest
from helpers.drawn import rng

import modelkit as mk
from modelkit.drift.cells import GONE
from modelkit.drift.profile import Profile
from modelkit.errors import UsageError


def test_an_embedding_is_nineteen_numbers_and_a_shift_or_a_new_topic_moves_them():
    topics = rng(9).normal(size=(10, 24)) * 3

    def draw(n, seed):
        return topics[rng(seed).integers(10, size=n)] + rng(seed + 1).normal(size=(n, 24))

    profile = Profile.fit({"e": draw(1000, 1)}, reference={"e": draw(2000, 3)})
    assert len(profile.features) == 19
    detector = mk.Detector(profile)
    assert detector.update({"e": draw(500, 5)}) == []
    shifted = draw(500, 7) + 1.0
    assert any(alarm.feature.startswith("e: ") for alarm in detector.update({"e": shifted}))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30, 1e300])
def test_a_vector_that_is_no_place_is_counted_and_warns_of_nothing(odd):
    vectors = rng().normal(size=(400, 8))
    detector = mk.Detector(Profile.fit({"e": vectors}))
    vectors[0, 3] = odd
    assert detector.update({"e": vectors}) == []
    stream = detector._tracker.streams()[0][1]
    assert (stream.totals.sum(axis=1) == 400).all()
    assert stream.totals[:, [0, 65, GONE]].sum() > 0


@pytest.mark.parametrize(
    "vectors", [np.zeros((300, 4)), np.eye(8)[np.arange(300) % 8], np.arange(300)[:, None] % 7]
)
def test_few_distinct_vectors_make_a_basis(vectors):
    profile = Profile.fit({"e": vectors})
    assert len(profile.features) == 3 + vectors.shape[1]
    assert mk.Detector(profile).update({"e": vectors}) == []


def test_embeddings_of_another_form_are_refused():
    vectors = rng().normal(size=(400, 8))
    profile = Profile.fit({"e": vectors})
    for wrong, said in (
        (vectors[:, :5], r"knows \(n, 8\)"),
        (vectors.astype(str), "numbers"),
        (vectors[:, 0], "shape"),
    ):
        with pytest.raises(UsageError, match=said):
            profile.layout.columns({"e": wrong})
    with pytest.raises(UsageError, match="64 are needed"):
        Profile.fit({"e": np.where(np.arange(400)[:, None] < 340, np.nan, vectors)}, seed=1)
    with pytest.raises(UsageError, match="as \\(n,\\)"):
        Profile.fit({"e": vectors[:, 0]}).layout.columns({"e": vectors})


def test_two_embeddings_come_back_in_their_order():
    rows = {
        "z": rng(1).normal(size=(200, 4)),
        "a": rng(2).normal(size=(200, 6)),
        "x": rng(3).normal(size=200),
    }
    profile = Profile.fit(rows)
    back = Profile.from_bytes(profile.to_bytes())
    shapes = {basis.name: basis.mean.shape for basis in back.layout.bases}
    assert shapes == {"z": (4,), "a": (6,)}
    assert back.to_bytes() == profile.to_bytes()
    for name, values in profile.layout.columns(rows).items():
        assert np.array_equal(
            values, back.layout.columns(rows)[name], equal_nan=values.dtype.kind == "f"
        ), name


def test_images_are_refused_with_what_to_do():
    """They came to an error of numpy's about dimensions that must match."""
    signature = mk.Signature(
        (mk.TensorSpec("images", "uint8", ("batch", "height", "width")),),
        (mk.TensorSpec("mean", "float64", ("batch",)),),
    )
    model = mk.FunctionModel(
        lambda feeds: {"mean": feeds["images"].mean(axis=(1, 2))}, signature, batchable=True
    )
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    with pytest.raises(UsageError, match="'images' has 3 dimensions, as images have"):
        mk.Profile.fit(images, reference=images[:150] // 2, model=model)
    with pytest.raises(mk.errors.SignatureError, match="an array of 3 dimensions; pass one of two"):
        mk.Profile.fit(images)

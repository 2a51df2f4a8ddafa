"""Attachments are added to a package that exists; its model stays what it was, to the byte."""

import pickle

import numpy as np
import pytest
from helpers.forge import members_of
from helpers.places import GOLDEN

import modelkit as mk
from modelkit.errors import IntegrityError, ManifestError, PackageError, SignatureError, UsageError
from modelkit.model import golden

# Of the packages in tests/golden: what an Evaluation of one of them is bound to must stay.
MODEL_DIGESTS = {"encoder1": "f771d8ed221e", "penguins1": "df17485a7971", "texts1": "979b480f31d0"}


@pytest.fixture
def package(boosting_mk, tmp_path):
    path = tmp_path / "model.mk"
    path.write_bytes(boosting_mk.read_bytes())
    return path


@pytest.fixture(scope="module")
def profile(breast_cancer):
    X, _ = breast_cancer
    return mk.Profile.fit(X[:300], reference=X[300:])


def test_saving_with_attachments_and_adding_them_later_give_the_same_bytes(
    boosting, breast_cancer, profile, tmp_path
):
    X, _ = breast_cancer
    options = {"example": X, "name": "m", "version": "1"}
    metadata = {"owner": "imaging", "rows": 569}
    at_once = mk.save(
        boosting,
        tmp_path / "whole.mk",
        profile=profile,
        background=X[:20],
        metadata=metadata,
        **options,
    )
    bare = mk.save(boosting, tmp_path / "bare.mk", metadata={"owner": "nobody"}, **options)
    later = mk.attach(
        tmp_path / "bare.mk", profile=profile, background=X[:20], metadata={**metadata}
    )
    assert (tmp_path / "bare.mk").read_bytes() == (tmp_path / "whole.mk").read_bytes()
    assert later == at_once
    assert later.digest == at_once.digest != bare.digest
    assert later.model_digest == at_once.model_digest == bare.model_digest


def test_other_members_are_copied_byte_by_byte(package, breast_cancer, profile, tmp_path):
    before = package.read_bytes()
    old = mk.inspect(package)
    new = mk.attach(package, profile=profile, out=tmp_path / "beside.mk")
    assert package.read_bytes() == before
    whole = members_of((tmp_path / "beside.mk").read_bytes())
    assert {**members_of(before), **whole} == whole
    assert whole.keys() - members_of(before).keys() == {"profile.npz"}
    assert new.digest == mk.inspect(tmp_path / "beside.mk").digest != old.digest
    with mk.load(tmp_path / "beside.mk") as model, mk.load(package) as plain:
        assert model.verify() == plain.verify()
        watched = mk.Monitor(model)
        np.testing.assert_array_equal(
            watched.predict(breast_cancer[0]), plain.predict(breast_cancer[0])
        )


def test_an_attachment_of_the_same_name_is_replaced(package, breast_cancer):
    X, _ = breast_cancer
    mk.attach(package, background=X[:5])
    manifest = mk.attach(package, background=X[5:12])
    assert [attachment.name for attachment in manifest.attachments] == ["golden", "background"]
    with mk.load(package) as model:
        rows = golden.decode_rows(model.attachments["background"], model.signature, "background")
        np.testing.assert_array_equal(rows["X"], X[5:12].to_numpy(np.float32))
        assert mk.Explainer(model).explain(X[:1]).background_rows == 7


def test_metadata_is_added_to_what_there_is(package):
    mk.attach(package, metadata={"owner": np.str_("imaging"), "auc": np.float64(0.97)})
    assert mk.attach(package, metadata={"auc": 0.98}).metadata == {"owner": "imaging", "auc": 0.98}


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_the_digest_that_is_asked_for_must_be_there(package, prefix):
    before = package.read_bytes()
    with pytest.raises(IntegrityError, match=f"not the {prefix}0000"):
        mk.attach(package, metadata={"a": 1}, digest=prefix + "0" * 64)
    assert package.read_bytes() == before
    mk.attach(package, metadata={"a": 1}, digest=prefix + mk.inspect(package).digest)


def test_what_does_not_fit_changes_nothing(package, breast_cancer, tmp_path):
    X, _ = breast_cancer
    before = package.read_bytes()
    with pytest.raises(SignatureError):
        mk.attach(package, background=X.iloc[:3, :7])
    with pytest.raises(UsageError, match="columns"):
        mk.attach(package, profile=mk.Profile.fit(X[["mean radius"]]))
    with pytest.raises(UsageError, match="NaN"):
        mk.attach(package, metadata={"auc": float("nan")})
    with pytest.raises(TypeError, match="at least one of profile="):
        mk.attach(package)
    with pytest.raises(OSError, match="nowhere"):
        mk.attach(package, metadata={"a": 1}, out=tmp_path / "nowhere" / "m.mk")
    assert package.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.mk"]


def test_a_damaged_package_is_not_copied(package):
    whole = bytearray(package.read_bytes())
    at = whole.index(b"TreeEnsemble")
    whole[at] ^= 1
    package.write_bytes(whole)
    with pytest.raises(PackageError):
        mk.attach(package, metadata={"a": 1})
    assert package.read_bytes() == whole


def test_a_failed_write_leaves_the_old_file(package, monkeypatch):
    before = package.read_bytes()

    def full(members, aligned):
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modelkit.package.container.write_zip", full)
    with pytest.raises(OSError, match="No space left"):
        mk.attach(package, metadata={"a": 1})
    assert package.read_bytes() == before
    assert [path.name for path in package.parent.iterdir()] == ["model.mk"]


def test_a_model_that_was_loaded_before_answers_on_and_its_pickle_is_refused(
    package, breast_cancer
):
    X, _ = breast_cancer
    with mk.load(package) as model:
        expected = model.predict(X[:9])
        pickled = pickle.dumps(model)
        mk.attach(package, metadata={"a": 1})
        np.testing.assert_array_equal(model.predict(X[:9]), expected)
        with pytest.raises(IntegrityError, match="asked for"):
            pickle.loads(pickled)


def test_an_encoder_and_its_profile(tiny_mk, tmp_path):
    rows = {"text": [f"river {at} of {at % 7} streets" for at in range(300)]}
    with mk.load(tiny_mk) as encoder:
        profile = mk.Profile.fit(rows, model=encoder)
    manifest = mk.attach(tiny_mk, profile=profile, out=tmp_path / "e.mk")
    assert manifest.model_digest == mk.inspect(tiny_mk).model_digest
    with mk.load(tmp_path / "e.mk") as encoder:
        assert mk.Monitor(encoder).detector.profile.rows == profile.rows


def test_a_joblib_package_is_not_opened(breast_cancer, boosting, tmp_path):
    saved = mk.save(
        boosting,
        tmp_path / "p.mk",
        example=breast_cancer[0],
        name="p",
        version="1",
        format="joblib",
    )
    manifest = mk.attach(tmp_path / "p.mk", metadata={"a": 1})
    assert manifest.model_digest == saved.model_digest
    mk.load(tmp_path / "p.mk", digest=manifest.digest, allow={"joblib"}).close()


@pytest.mark.parametrize("name", MODEL_DIGESTS)
def test_packages_of_each_format_keep_their_model_digest_and_take_attachments(name, tmp_path):
    path = GOLDEN / f"{name}.mk"
    old = mk.inspect(path)
    assert old.model_digest.startswith(MODEL_DIGESTS[name])
    new = mk.attach(path, metadata={"a": 1}, out=tmp_path / "new.mk")
    assert new.model_digest == old.model_digest
    mk.load(tmp_path / "new.mk").close()


def test_the_model_digest_is_that_of_what_answers(boosting, breast_cancer, tmp_path):
    X, y = breast_cancer
    digests = set()
    for number, options in enumerate([{}, {"golden": X[:3]}, {"metadata": {"a": 1}}]):
        manifest = mk.save(
            boosting,
            tmp_path / "m.mk",
            example=X,
            name=f"m{number}",
            version=f"{number}",
            **options,
        )
        digests.add(manifest.model_digest)
    assert len(digests) == 1
    other = type(boosting)(n_estimators=3, random_state=0).fit(X, y)
    changed = mk.save(other, tmp_path / "m.mk", example=X, name="m0", version="0")
    assert changed.model_digest not in digests


def test_what_no_reader_would_take_leaves_the_package_as_it_was(package):
    before = package.read_bytes()
    with pytest.raises(
        UsageError, match=r"metadata takes 1,200,\d+ bytes, of at most 1,048,576: keep"
    ):
        mk.attach(package, metadata={"a": "x" * 1_200_000})
    just_fits = "x" * ((1 << 20) - 100)
    with pytest.raises(ManifestError, match="at most 1048576 are read"):
        mk.attach(package, metadata={"a": just_fits})
    assert package.read_bytes() == before

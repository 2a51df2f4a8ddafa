"""One file, whole or not at all, and nothing that was not checked is used."""

import hashlib
import io

import numpy as np
import pytest
from helpers.forge import forge, members_of, pack
from helpers.places import GOLDEN

import modelkit as mk
from modelkit.errors import ContainerError, IntegrityError, ManifestError, UsageError
from modelkit.package import container, load
from modelkit.package.source import read_manifest


def test_a_package_opens_from_a_path_bytes_and_a_file_object(boosting_mk, breast_cancer):
    X, _ = breast_cancer
    data = boosting_mk.read_bytes()
    expected = mk.load(boosting_mk).predict_proba(X)
    for source in (str(boosting_mk), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(mk.load(source).predict_proba(X), expected)
    with pytest.raises(TypeError, match="binary file object"):
        mk.load(io.StringIO("text"))


def test_weights_start_on_a_page_and_are_used_in_place(dense_mk):
    data = dense_mk.read_bytes()
    weights = container.read_zip(memoryview(data))["model/model.onnx.data"]
    assert data.index(bytes(weights[:64])) % 4096 == 0
    with mk.load(dense_mk) as model:
        assert model.graph[1].obj is not None
        assert len(members_of(dense_mk.read_bytes())["model/model.onnx"]) < 2000


def test_opening_writes_nothing(dense_mk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mk.load(dense_mk).predict(np.ones((2, 256), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_the_digest_pins_a_package(boosting_mk):
    digest = mk.inspect(boosting_mk).digest
    assert (
        digest == hashlib.sha256(members_of(boosting_mk.read_bytes())["modelkit.json"]).hexdigest()
    )
    mk.load(boosting_mk, digest=digest)
    mk.load(boosting_mk, digest=f"sha256:{digest}")
    with pytest.raises(IntegrityError, match="not the 0000"):
        mk.load(boosting_mk, digest="0000")


def test_every_member_is_hashed(dense_mk):
    whole = members_of(dense_mk.read_bytes())
    for name in list(whole)[1:]:
        changed = bytearray(whole[name])
        changed[len(changed) // 2] ^= 1
        with pytest.raises(IntegrityError, match=name) as caught:
            mk.load(pack({**whole, name: bytes(changed)}))
        assert caught.value.member == name


def test_what_keeps_a_member_from_being_hashed_keeps_the_package_shut(dense_mk):
    whole = members_of(dense_mk.read_bytes())
    gone = {name: memoryview(data) for name, data in whole.items()}
    manifest, _ = read_manifest(whole)
    gone[manifest.files[0].path].release()
    finish = load._start_hash(gone, manifest.files)
    with pytest.raises(ValueError, match="released"):
        finish()


def test_members_and_manifest_must_agree(boosting_mk):
    whole = members_of(boosting_mk.read_bytes())
    with pytest.raises(IntegrityError, match="stray"):
        mk.load(pack({**whole, "stray": b""}))
    with pytest.raises(IntegrityError, match=r"golden\.npz"):
        mk.load(pack({name: data for name, data in whole.items() if name != "golden.npz"}))
    with pytest.raises(ContainerError, match="first member"):
        mk.load(pack(dict(reversed(whole.items()))))


def test_a_graph_beside_the_pickle_of_a_joblib_package_is_refused(boosting_mk, joblib_mk):
    """With the runtime onnx it was another model of the same model_digest."""
    pickled = members_of(joblib_mk.read_bytes())["native/model.joblib"]

    def edit(manifest):
        manifest["runtime"] = "joblib"

    data = forge(boosting_mk.read_bytes(), {"native/model.joblib": pickled}, edit=edit)
    with pytest.raises(IntegrityError, match="neither the runtime 'joblib' nor an attachment"):
        mk.inspect(data)


@pytest.mark.parametrize(
    ("fixture", "path"),
    [
        ("boosting_mk", "model/model.onnx"),
        ("dense_mk", "model/model.onnx.data"),
        ("tiny_mk", "model/tokenizer.json"),
        ("joblib_mk", "native/model.joblib"),
    ],
)
def test_a_member_of_the_model_is_no_attachment(fixture, path, request):
    """The model_digest leaves attachments out, so that any graph had the digest of this one."""
    more = {"name": "notes", "path": path, "media_type": "text/plain"}
    data = forge(
        request.getfixturevalue(fixture).read_bytes(),
        edit=lambda manifest: manifest["attachments"].append(more),
    )
    with pytest.raises(ManifestError, match=r"attachments: \[.*\] are members of the model"):
        mk.inspect(data)


def test_a_failed_save_leaves_the_old_file(
    boosting, breast_cancer, boosting_mk, tmp_path, monkeypatch
):
    target = tmp_path / "model.mk"
    target.write_bytes(boosting_mk.read_bytes())

    def full(members, aligned):
        yield b"half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(container, "write_zip", full)
    with pytest.raises(OSError, match="No space left"):
        mk.save(boosting, target, example=breast_cancer[0], name="breast-cancer", version="2")
    assert target.read_bytes() == boosting_mk.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model.mk"]


@pytest.mark.parametrize("name", ["", "Upper", "a b", "../x", "-x", "é", "x" * 65])
def test_names_that_would_not_be_safe_in_a_path_are_refused(
    boosting, breast_cancer, tmp_path, name
):
    with pytest.raises(UsageError, match="name"):
        mk.save(boosting, tmp_path / "m.mk", example=breast_cancer[0], name=name, version="1")


def test_a_package_of_the_first_format_opens_for_ever():
    with mk.load(GOLDEN / "penguins1.mk") as model:
        assert (model.manifest.format, model.manifest.metadata) == (1, {"rows": 344})
        assert (model.manifest.runtime, model.signature.ignored) == ("onnx", ("year",))
        numbers = model.signature.inputs[1].columns
        assert (numbers[0].nullable, numbers[0].finite) == (True, True)
        assert model.verify() <= 1e-6
        row = {"island": None, "bill_length_mm": 50.0, "bill_depth_mm": None, "flipper_length_mm": 230.0,
               "body_mass_g": 5500.0, "sex": "male"}  # fmt: skip
        assert model.predict([row]).tolist() == ["Gentoo"]

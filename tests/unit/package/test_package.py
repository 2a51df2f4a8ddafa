"""One file, whole or not at all, and nothing that was not checked is used."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from helpers.examples import examples
from helpers.places import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import ContainerError, IntegrityError, ManifestError, PackageError
from modelkit.model import golden
from modelkit.model.manifest import FORMAT
from modelkit.package import container, load


def members_of(path):
    data = path.read_bytes()
    return {name: bytes(view) for name, view in container.read_zip(memoryview(data)).items()}


def pack(members, aligned=frozenset()):
    return b"".join(bytes(piece) for piece in container.write_zip(members, aligned))


def test_a_package_opens_from_a_path_bytes_and_a_file_object(boosting_mk, breast_cancer):
    X, _ = breast_cancer
    data = boosting_mk.read_bytes()
    expected = mk.load(boosting_mk).predict_proba(X)
    for source in (str(boosting_mk), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(mk.load(source).predict_proba(X), expected)
    with pytest.raises(TypeError, match="binary file object"):
        mk.load(io.StringIO("text"))


def test_equal_models_give_equal_bytes(boosting, breast_cancer, boosting_mk, tmp_path):
    mk.save(
        boosting,
        tmp_path / "again.mk",
        example=breast_cancer[0],
        name="breast-cancer",
        version="1.0.0",
    )
    assert (tmp_path / "again.mk").read_bytes() == boosting_mk.read_bytes()


def test_any_zip_tool_can_read_a_package(dense_mk):
    with zipfile.ZipFile(dense_mk) as file:
        assert file.testzip() is None
        assert file.namelist() == [
            "modelkit.json",
            "model/model.onnx",
            "model/model.onnx.data",
            "golden.npz",
        ]
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}


def test_weights_start_on_a_page_and_are_used_in_place(dense_mk):
    data = dense_mk.read_bytes()
    weights = container.read_zip(memoryview(data))["model/model.onnx.data"]
    assert data.index(bytes(weights[:64])) % 4096 == 0
    with mk.load(dense_mk) as model:
        assert model.graph[1].obj is not None
        assert len(members_of(dense_mk)["model/model.onnx"]) < 2000


def test_opening_writes_nothing(dense_mk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mk.load(dense_mk).predict(np.ones((2, 256), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_the_digest_pins_a_package(boosting_mk):
    digest = mk.inspect(boosting_mk).digest
    assert digest == hashlib.sha256(members_of(boosting_mk)["modelkit.json"]).hexdigest()
    mk.load(boosting_mk, digest=digest)
    mk.load(boosting_mk, digest=f"sha256:{digest}")
    with pytest.raises(IntegrityError, match="not the 0000"):
        mk.load(boosting_mk, digest="0000")


def test_every_member_is_hashed(dense_mk):
    whole = members_of(dense_mk)
    for name in list(whole)[1:]:
        changed = bytearray(whole[name])
        changed[len(changed) // 2] ^= 1
        with pytest.raises(IntegrityError, match=name) as caught:
            mk.load(pack({**whole, name: bytes(changed)}))
        assert caught.value.member == name


def test_what_keeps_a_member_from_being_hashed_keeps_the_package_shut(dense_mk):
    whole = members_of(dense_mk)
    gone = {name: memoryview(data) for name, data in whole.items()}
    manifest = load.read_manifest(whole)
    gone[manifest.files[0].path].release()
    finish = load._start_hash(gone, manifest.files)
    with pytest.raises(ValueError, match="released"):
        finish()


def test_members_and_manifest_must_agree(boosting_mk):
    whole = members_of(boosting_mk)
    with pytest.raises(IntegrityError, match="stray"):
        mk.load(pack({**whole, "stray": b""}))
    with pytest.raises(IntegrityError, match=r"golden\.npz"):
        mk.load(pack({name: data for name, data in whole.items() if name != "golden.npz"}))
    with pytest.raises(ContainerError, match="first member"):
        mk.load(pack(dict(reversed(whole.items()))))


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/abs",
        "a//b",
        "./a",
        "a/../b",
        "A",
        "a\\b",
        "c:x",
        "a ",
        "nul\0",
        "é",
        "",
        "a/",
        "a/.",
        "...",
    ],
)
def test_strange_member_paths_are_refused(boosting_mk, path):
    with pytest.raises(ContainerError):
        mk.load(pack({**members_of(boosting_mk), path: b""}))


def test_truncation_prefix_suffix_and_other_files_are_refused(boosting_mk, tmp_path):
    data = boosting_mk.read_bytes()
    for bad in (
        b"",
        b"PK",
        data[:-1],
        data[: len(data) // 2],
        data[1:],
        b"x" + data,
        data + b"x",
        data + data,
    ):
        with pytest.raises(PackageError):
            mk.load(bad)
    (tmp_path / "empty.mk").touch()
    with pytest.raises(ContainerError, match="empty"):
        mk.load(tmp_path / "empty.mk")
    with pytest.raises(FileNotFoundError):
        mk.load(tmp_path / "absent.mk")


def test_zips_of_other_writers_are_refused(boosting_mk):
    whole = members_of(boosting_mk)
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as other:
            for name, data in whole.items():
                other.writestr(name, data)
        with pytest.raises(ContainerError, match=r"modelkit\.json"):
            mk.load(file.getvalue())


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_always_noticed(boosting_mk, data):
    raw = bytearray(boosting_mk.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PackageError):
        mk.load(bytes(raw))


@settings(max_examples=examples(100), deadline=None)
@given(
    members=st.dictionaries(
        st.from_regex(r"[a-z0-9_-]{1,9}(/[a-z0-9_-]{1,9})?", fullmatch=True), st.binary(max_size=9)
    ),
    aligned=st.booleans(),
)
def test_what_the_container_writes_it_reads(members, aligned):
    data = pack(members, frozenset(members) if aligned else frozenset())
    if members:
        assert {
            name: bytes(view) for name, view in container.read_zip(memoryview(data)).items()
        } == members
        assert list(container.read_zip(memoryview(data))) == list(members)


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
    with pytest.raises(ManifestError, match="name"):
        mk.save(boosting, tmp_path / "m.mk", example=breast_cancer[0], name=name, version="1")


def test_no_row_of_the_example_is_stored(penguins_mk, penguins):
    X, _ = penguins
    with mk.load(penguins_mk) as model:
        feeds, _ = golden.decode_golden(model.attachments["golden"], model.signature)
    stored = set(feeds["body_mass_g"].ravel().tolist())
    assert len(stored) > 4
    assert not stored & set(X["body_mass_g"].dropna())


def test_golden_rows_can_be_given(boosting, breast_cancer, tmp_path):
    X, _ = breast_cancer
    mk.save(boosting, tmp_path / "m.mk", example=X, name="m", version="1", golden=X[:3])
    with mk.load(tmp_path / "m.mk") as model:
        feeds, outputs = golden.decode_golden(model.attachments["golden"], model.signature)
        np.testing.assert_array_equal(feeds["X"], X[:3].to_numpy(np.float32))
        np.testing.assert_array_equal(outputs["label"], boosting.predict(X[:3]))
        assert model.verify() == 0.0
        model.warmup()


def test_verify_notices_a_model_that_computes_something_else(dense_mk):
    from modelkit.runtimes.onnx import OnnxModel
    from modelkit.runtimes.packaged import Packaged

    whole = members_of(dense_mk)
    manifest = mk.inspect(dense_mk)
    weights = np.frombuffer(whole["model/model.onnx.data"], np.float32) * np.float32(1.01)
    changed = OnnxModel(
        whole["model/model.onnx"],
        manifest.signature,
        weights=memoryview(weights).cast("B"),
        packaged=Packaged(manifest, {"golden": memoryview(whole["golden.npz"])}),
    )
    with changed as model, pytest.raises(IntegrityError, match="golden rows differs by 0"):
        model.verify()
    with pytest.raises(PackageError, match="no golden rows"):
        mk.FunctionModel(lambda feeds: feeds, manifest.signature).verify()


@pytest.mark.parametrize("version", range(1, FORMAT + 1))
def test_a_package_of_each_format_version_opens_for_ever(version):
    path = GOLDEN / f"penguins-format{version}.mk"
    with mk.load(path) as model:
        assert model.manifest.format == version
        assert ("rows" in model.manifest.metadata) == (version > 1)
        assert (model.manifest.runtime, model.manifest.requires) == ("onnx", {})
        assert model.signature.ignored == (("year",) if version == 6 else ())
        numbers = model.signature.inputs[1].columns
        assert numbers[0].nullable
        assert numbers[0].finite == (version >= 7)
        assert bool(model.signature.refusals) == (version >= 8)
        assert model.verify() <= 1e-6
        row = {"island": None, "bill_length_mm": 50.0, "bill_depth_mm": None, "flipper_length_mm": 230.0,
               "body_mass_g": 5500.0, "sex": "male", **({"year": 2008} if version == 1 else {})}  # fmt: skip
        assert model.predict([row]).tolist() == ["Gentoo"]

"""One file of members that any zip tool reads, and only one way to write them."""

import io
import zipfile

import pytest
from helpers.examples import examples
from helpers.forge import members_of, pack
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import ContainerError, PackageError
from modelkit.package import container


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
        mk.load(pack({**members_of(boosting_mk.read_bytes()), path: b""}))


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
    whole = members_of(boosting_mk.read_bytes())
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as other:
            for name, data in whole.items():
                other.writestr(name, data)
        with pytest.raises(ContainerError, match=r"modelkit\.json"):
            mk.load(file.getvalue())


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

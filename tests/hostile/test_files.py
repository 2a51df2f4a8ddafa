"""Attacks 7 to 20 of the table in docs/explanation/security.md: paths, containers, manifests and hashes."""

import contextlib
import io
import os
import socket
import struct
import zipfile

import numpy as np
import pytest
from helpers.forge import GRAPH, MANIFEST, WEIGHTS, forge, members_of, pack

import modelkit as mk
from modelkit.package import container, scan

# 7 to 12: paths and files


@pytest.mark.parametrize("path", ["../../x", "/abs", "c:\\x", "\\\\unc\\x", "a\\b", "a/../../b"])
def test_07_zip_slip_paths(toy, refused, path):
    refused(pack({**members_of(toy), path: b"x"}), "ContainerError", "not a plain relative path")


@pytest.mark.parametrize(
    "path",
    ["a/../b", "./x", "a//b", "x.", "x ", "nul:", "x:y", "x\0", "x\n", "\x1b[2j", "a/", "", "..."],
)
def test_08_paths_of_two_spellings(toy, refused, path):
    refused(pack({**members_of(toy), path: b"x"}), "ContainerError", "not a plain relative path")


@pytest.mark.parametrize("path", ["Golden.npz", "model/MODEL.onnx", "e\u0301", "\xe9", "\u212a"])
def test_09_names_that_collide_on_some_systems(toy, refused, path):
    refused(pack({**members_of(toy), path: b"x"}), "ContainerError", "not a plain relative path")


def test_10_a_member_that_is_a_link(toy, refused):
    # A symbolic link, a folder, a device, a pipe.
    for mode in (0o120777, 0o40755, 0o20644, 0o10644):
        refused(
            _directory(toy, 1, external=mode << 16),
            "ContainerError",
            GRAPH,
            "not as mk.save writes it",
        )


def test_12_a_path_that_is_no_file(warden, folder):
    os.mkfifo(folder / "pipe.mk")
    (folder / "folder.mk").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.mk"))
        for path in ("/dev/zero", "/dev/null", folder / "pipe.mk", folder / "folder.mk"):
            told = warden.open(path)
            assert "ContainerError" in told["error"], told
            wanted = "is a folder" if path == folder / "folder.mk" else "not a regular file"
            assert wanted in told["message"]
        assert "OSError" in warden.open(folder / "socket.mk")["error"]


# 13 to 17: container, manifest and hashes


def _directory(data, index, **changes):
    """The package with other values in one entry of its directory, and in the local header where it has them too."""
    raw = bytearray(data)
    at = container.END.unpack(raw[-container.END.size :])[6]
    for _ in range(index):
        at += container.CENTRAL.size + struct.unpack_from("<H", raw, at + 28)[0]
    central = {"made": (4, "H"), "flags": (8, "H"), "method": (10, "H"), "time": (12, "H"), "crc": (16, "L"),
               "packed": (20, "L"), "size": (24, "L"), "extra": (30, "H"), "comment": (32, "H"), "disk": (34, "H"),
               "external": (38, "L"), "offset": (42, "L")}  # fmt: skip
    local = {"flags": 6, "method": 8, "time": 10, "crc": 14, "packed": 18, "size": 22}
    body = struct.unpack_from("<L", raw, at + 42)[0]
    both = changes.pop("both", True)
    for name, value in changes.items():
        place, code = central[name]
        struct.pack_into(f"<{code}", raw, at + place, value)
        if both and name in local:
            struct.pack_into(f"<{code}", raw, body + local[name], value)
    return bytes(raw)


def test_13_two_entries_of_one_name(toy, refused):
    members = members_of(toy)
    data = pack({MANIFEST: members[MANIFEST], "model/one-onnx": b"", "model/two-onnx": b""})
    refused(
        data.replace(b"model/two-onnx", b"model/one-onnx"),
        "ContainerError",
        "'model/one-onnx' appears twice",
    )


@pytest.mark.parametrize(
    "change", [{"crc": 1}, {"size": 1}, {"packed": 1}, {"flags": 0}, {"time": 9}]
)
def test_13_headers_that_differ(toy, refused, change):
    refused(_directory(toy, 1, both=False, **change), "ContainerError", GRAPH)


def test_13_a_checksum_that_is_wrong_in_both_places_changes_nothing(toy):
    """The hash in the manifest says what a member is; the checksum is for other programs."""
    with mk.load(_directory(toy, 1, crc=1)) as model, mk.load(toy) as plain:
        assert model.manifest.digest == plain.manifest.digest
        assert model.verify() == plain.verify()


@pytest.mark.parametrize(
    "change",
    [{"method": 8}, {"method": 99}, {"flags": 0x801}, {"flags": 0x808}, {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF},
     {"offset": 0}, {"offset": 0xFFFFFFFF}, {"size": 1 << 20}, {"extra": 20}, {"comment": 5}, {"disk": 1}],
)  # fmt: skip
def test_14_compressed_encrypted_streamed_and_overlapping_members(toy, refused, change):
    refused(_directory(toy, 1, **change), "ContainerError", GRAPH)


def test_14_a_zip_bomb(toy, refused):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in members_of(toy):
            bomb.writestr(name, bytes(100 << 20 if name == MANIFEST else 1 << 20))
    refused(file.getvalue(), "ContainerError", MANIFEST)


@pytest.mark.parametrize("kind", ["deflated", "overlapping", "claimed"])
def test_14_a_bomb_among_the_golden_rows(toy, refused, kind):
    file = io.BytesIO()
    if kind == "deflated":
        np.savez_compressed(file, in0=np.zeros(1 << 29, np.uint8), out0=np.zeros(1))
    elif kind == "claimed":
        array = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            array, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)}
        )
        with zipfile.ZipFile(file, "w") as rows:
            rows.writestr("in0.npy", array.getvalue())
    else:
        np.savez(file, in0=np.zeros(1 << 16), out0=np.zeros(1))
        raw = file.getvalue()
        start = raw.index(b"PK\x01\x02")
        end = raw.index(b"PK\x05\x06")
        entry = raw[start : raw.index(b"PK\x01\x02", start + 1)]
        entries = b"".join(entry.replace(b"in0.npy", b"%03d.npy" % i) for i in range(900))
        tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 900, 900, len(entries), start, 0)
        assert end > start
        file = io.BytesIO(raw[:start] + entries + tail)
    refused(
        forge(toy, golden=file.getvalue()),
        "PackageError",
        "golden",
        "cannot be read",
        then="verify",
    )


def test_15_bytes_around_the_package(toy, refused):
    for data in (
        b"#!/bin/sh\n" + toy,
        toy + b"x",
        b"\x89PNG" + toy,
        toy + toy,
        toy[:-22] + b"x" + toy[-22:],
    ):
        refused(data, "ContainerError")
    comment = toy[:-2] + struct.pack("<H", 5) + b"hello"
    refused(comment, "ContainerError", "before, after or between")


def test_16_members_that_are_missing_unlisted_or_changed(toy, refused):
    whole = members_of(toy)
    refused(pack({**whole, "more.bin": b""}), "IntegrityError", "more.bin")
    refused(
        pack({path: data for path, data in whole.items() if path != WEIGHTS}),
        "IntegrityError",
        WEIGHTS,
    )
    refused(pack({**whole, WEIGHTS: whole[WEIGHTS] + b"\0"}), "IntegrityError", WEIGHTS, "bytes")
    refused(
        pack({**whole, WEIGHTS: bytes(len(whole[WEIGHTS]))}), "IntegrityError", WEIGHTS, "sha256"
    )


@pytest.mark.parametrize(
    "text",
    ['{"format": 1, "format": 1}', '{"format": NaN}', '{"format": -Infinity}', '{"a":' * 100_000,
     '{"format": 1' + "0" * 5000 + "}", " " * (1 << 21), '"\\ud800"', "{}", "null"],
)  # fmt: skip
def test_17_json_that_parsers_disagree_on(toy, refused, text):
    refused(pack({**members_of(toy), MANIFEST: text.encode()}), "ManifestError", "modelkit.json")


def test_17_numbers_and_texts_that_json_may_hold(toy, refused):
    refused(
        forge(toy, edit=lambda plain: plain.update(row_bytes=1 << 63)),
        "ManifestError",
        "row_bytes",
        "64 bits",
    )
    refused(
        forge(toy, edit=lambda plain: plain["versions"].update(x="\ud800")),
        "ManifestError",
        "surrogate",
    )


# 20: what is hashed is what is run


@pytest.mark.parametrize("how", ["replaced", "overwritten", "truncated"])
def test_20_a_swap_between_the_hash_and_the_load(toy, tmp_path, monkeypatch, how):
    path, rows = (
        tmp_path / "toy.mk",
        np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32),
    )
    path.write_bytes(toy)
    expected = mk.load(path).predict(rows)
    other = save_other(tmp_path / "other.mk", toy)
    real = scan.check_graph

    def swap(*arguments, **keywords):
        if how == "replaced":
            if other.exists():
                other.replace(path)
        else:
            with path.open("r+b") as file:
                file.truncate(0) if how == "truncated" else file.write(other.read_bytes())
        return real(*arguments, **keywords)

    monkeypatch.setattr("modelkit.package.load.scan.check_graph", swap)
    with mk.load(path) as model:
        np.testing.assert_array_equal(model.predict(rows), expected)
        assert model.verify() == 0
        assert bytes(model.graph[0]) == members_of(toy)[GRAPH]
    with contextlib.suppress(mk.errors.PackageError):
        assert not np.array_equal(mk.load(path).predict(rows), expected)


def save_other(path, toy):
    path.write_bytes(forge(toy, {WEIGHTS: bytes(len(members_of(toy)[WEIGHTS]))}))
    return path

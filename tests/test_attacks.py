"""Every attack of the table in docs/security.md, with a file made here: refused by name, and nothing happens.

A package is opened in a process that has limits of memory and time, and that listens to what Python
opens and starts.
"""

import contextlib
import io
import json
import os
import pickle
import socket
import struct
import zipfile

import numpy as np
import pytest
from helpers.forge import (
    GRAPH,
    MANIFEST,
    WEIGHTS,
    Warden,
    forge,
    graph_of,
    members_of,
    pack,
    save_toy,
)
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.cli import main
from modelkit.package import container, scan


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return save_toy(tmp_path_factory.mktemp("toy") / "toy.mk").read_bytes()


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """A joblib package, as its author saves it."""
    from sklearn.linear_model import LogisticRegression

    X = np.random.default_rng(0).normal(size=(40, 3))
    path = tmp_path_factory.mktemp("native") / "native.mk"
    mk.save(
        LogisticRegression().fit(X, X[:, 0] > 0),
        path,
        example=X,
        name="native",
        version="1",
        format="joblib",
    )
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def warden(folder):
    child = Warden(folder)
    yield child
    child.close()


@pytest.fixture
def canary(folder):
    path = folder / "canary"
    yield path
    assert not path.exists(), "code from a package ran"


@pytest.fixture
def refused(warden, folder, canary):
    """Opens a package in the warden: refused with this error and these words, and nothing else was touched."""

    def open_it(data, error, *words, **asked):
        path = folder / "attack.mk"
        path.write_bytes(data)
        told = warden.open(path, **asked)
        assert told["error"] is not None, told
        assert {error, "PackageError"} <= set(told["error"]), told
        for word in words:
            assert word in told["message"], told
        assert {tuple(event) for event in told["events"]} <= {("open", str(path))}, told["events"]
        return told

    return open_it


class Evil:
    """What writes the canary when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def evil(canary):
    return pickle.dumps(Evil(canary))


def with_graph(data, change, **more):
    """The package with its graph changed in place."""
    proto = graph_of(data)
    change(proto)
    return forge(data, graph=proto.SerializeToString(), **more)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def digest_of(data):
    return mk.inspect(data).digest


# 1 to 6: code


def test_01_a_pickled_estimator(native, canary, refused):
    data = forge(native, {"native/model.joblib": evil(canary)})
    refused(data, "UntrustedError", "joblib", "digest=", "allow=")
    refused(data, "UntrustedError", "allow=", digest=digest_of(data))
    refused(data, "UntrustedError", "digest=", allow=["joblib"])
    told = refused(data, "IntegrityError", "asked for", digest="0" * 64, allow=["joblib"])
    assert not told["joblib"]


@pytest.mark.parametrize("member", [MANIFEST, GRAPH, "golden.npz"])
def test_02_a_pickle_under_another_name(toy, canary, refused, member):
    if member == MANIFEST:
        refused(
            pack({**members_of(toy), MANIFEST: evil(canary)}), "ManifestError", "not strict JSON"
        )
    elif member == GRAPH:
        refused(forge(toy, graph=evil(canary)), "GraphError", "not a well-formed ONNX model")
    else:
        refused(
            forge(toy, golden=evil(canary)),
            "PackageError",
            "golden",
            "cannot be read",
            then="verify",
        )


def test_03_an_array_of_pickled_objects(toy, canary, refused):
    data = npz(in0=np.array([Evil(canary)], object), out0=np.zeros(1))
    refused(forge(toy, golden=data), "PackageError", "golden", "cannot be read", then="verify")


def test_04_a_pickle_within_the_stream_of_joblib(native, canary, refused):
    import joblib

    file = io.BytesIO()
    joblib.dump({"estimator": np.array([Evil(canary)], object), "like": None, "nones": ()}, file)
    data = forge(native, {"native/model.joblib": file.getvalue()})
    refused(data, "UntrustedError", "joblib")
    refused(data, "UntrustedError", "joblib", digest=digest_of(data))


@pytest.mark.parametrize(
    "field", ["trust", "trusted", "trusted_types", "allow", "public_key", "signature_key"]
)
def test_05_a_package_that_says_it_is_trusted(toy, native, refused, field):
    for data in (toy, native):
        refused(
            forge(data, edit=lambda plain: plain.update({field: True})),
            "ManifestError",
            "unknown fields",
            field,
        )


@pytest.mark.parametrize("field", ["loader", "module", "entry_point", "code", "python_env", "pip"])
def test_06_a_manifest_that_names_code(toy, refused, field):
    refused(
        forge(toy, edit=lambda plain: plain.update({field: "os:system"})),
        "ManifestError",
        "unknown fields",
        field,
    )


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
    for mode in (
        0o120777,
        0o40755,
        0o20644,
        0o10644,
    ):  # a symbolic link, a folder, a device, a pipe
        refused(
            _directory(toy, 1, external=mode << 16),
            "ContainerError",
            GRAPH,
            "not a plain stored member",
        )


def test_12_a_path_that_is_no_file(warden, folder):
    os.mkfifo(folder / "pipe.mk")
    (folder / "folder.mk").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.mk"))
        for path in ("/dev/zero", "/dev/null", folder / "pipe.mk", folder / "folder.mk"):
            told = warden.open(path)
            assert "ContainerError" in told["error"], told
            assert "not a regular file" in told["message"]
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
            bomb.writestr(name, bytes(100 << 20))
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


# 21 to 26: tensors that lie elsewhere


def external(location=scan.__name__, name="w", **keys):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[64, 64])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "16384", **keys}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def initializer(tensor):
    return lambda proto: proto.graph.initializer[0].CopyFrom(tensor)


@pytest.fixture(scope="module", autouse=True)
def secrets(folder):
    """The files that the graphs below ask for, where a runtime would find them: were they read, the load would pass."""
    for name in ("secret", "weights"):
        (folder / name).write_bytes(bytes(1 << 16))
    (folder / "link").symlink_to(folder / "secret")
    os.link(folder / "secret", folder / "hardlink")


@pytest.mark.parametrize("location", ["../secret", "secret", "link", "hardlink", "/etc/passwd", "./model.onnx.data",
                                      "model/model.onnx.data", "model.onnx.data\0", ""])  # fmt: skip
def test_21_external_data_in_another_file(toy, refused, folder, location):
    for place in {location, str(folder / location.strip("\0/"))}:
        refused(
            with_graph(toy, initializer(external(place))),
            "GraphError",
            "not a member of the package",
        )


def in_constant(proto):
    proto.graph.node.insert(
        0, helper.make_node("Constant", [], ["c"], value=external("secret", "c"))
    )


def in_sparse(proto):
    sparse = proto.graph.sparse_initializer.add(dims=[64, 64])
    sparse.values.CopyFrom(external("secret", "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "i"))


def in_function(proto):
    body = [helper.make_node("Constant", [], ["b"], value=external("secret", "c"))]
    proto.functions.append(
        helper.make_function("", "F", [], ["b"], body, [helper.make_opsetid("", 18)])
    )


def in_training(proto):
    proto.training_info.add().algorithm.initializer.append(external("secret", "t"))


def in_attribute_list(proto):
    attribute = proto.graph.node[0].attribute.add(name="all", type=9)
    attribute.tensors.append(external("secret", "t"))


def in_branch(proto):
    branch = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["o"])], "b", [], [], [external("secret", "b")]
    )
    branch.output.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, [64, 64]))
    proto.graph.node.append(
        helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)
    )


@pytest.mark.parametrize(
    "place", [in_constant, in_sparse, in_function, in_training, in_attribute_list]
)
def test_22_external_data_inside_an_operator(toy, refused, place):
    refused(with_graph(toy, place), "GraphError", "inside an operator", "secret")


def test_23_external_data_in_a_subgraph(toy, refused):
    refused(with_graph(toy, in_branch), "GraphError", "inside an operator", "secret")


@pytest.mark.parametrize(
    "keys",
    [{"offset": "-1"}, {"length": "-16384"}, {"offset": 64}, {"offset": 1 << 62}, {"offset": 1 << 64}, {"length": "x"},
     {"offset": "٣"}, {"offset": "0x0"}, {"offset": " 0"}, {"length": "9" * 5000}, {"length": 16385}],
)  # fmt: skip
def test_24_external_data_beyond_the_member(toy, refused, keys):
    refused(with_graph(toy, initializer(external("model.onnx.data", **keys))), "GraphError")


def test_24_external_data_that_overlaps(toy, refused):
    def twice(proto):
        proto.graph.initializer.append(external("model.onnx.data", "v", offset=8192, length=8192))

    refused(with_graph(toy, twice), "GraphError", "two tensors read the bytes")


@pytest.mark.parametrize("key", ["basepath", "__class__", "location ", "Offset"])
def test_25_external_data_by_unknown_keys(toy, refused, key):
    refused(
        with_graph(toy, initializer(external("model.onnx.data", **{key: "x"}))),
        "GraphError",
        "by the keys",
        key,
    )


def test_25_external_data_by_a_key_twice(toy, refused):
    tensor = external("model.onnx.data")
    tensor.external_data.add(key="location", value="secret")
    refused(with_graph(toy, initializer(tensor)), "GraphError", "by the keys")


def test_26_external_data_at_an_address(toy, refused):
    for location in ("*/_ORT_MEM_ADDR_/*", "_ORT_MEM_ADDR_"):
        refused(
            with_graph(toy, initializer(external(location))),
            "GraphError",
            "not a member of the package",
        )


# 27 to 31: what a graph may do


def test_27_operators_of_unknown_origin(toy, refused):
    def node(proto):
        proto.graph.node[1].domain = "evil.corp"

    def function(proto):
        proto.functions.append(
            helper.make_function("evil.corp", "F", [], ["b"], [], [helper.make_opsetid("", 18)])
        )

    def within(proto):
        branch = helper.make_graph(
            [helper.make_node("F", [], ["o"], domain="evil.corp")], "b", [], []
        )
        proto.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch))

    for change in (node, function, within):
        refused(with_graph(toy, change), "GraphError", "evil.corp", "packages may use")


def test_27_blobs_for_the_compiler_of_a_vendor(toy, refused):
    def context(proto):
        node = helper.make_node(
            "EPContext", ["h"], ["y"], domain="com.microsoft", ep_cache_context="../secret"
        )
        proto.graph.node[1].CopyFrom(node)
        proto.opset_import.add(domain="com.microsoft", version=1)

    refused(with_graph(toy, context), "GraphError", "EPContext")


def test_28_session_options_in_the_package(toy, refused, folder, canary):
    options = {"session_options": {"optimized_model_filepath": str(canary), "enable_profiling": 1}}
    config = json.dumps({"version": 1, **options})
    data = with_graph(toy, lambda proto: helper.set_model_props(proto, {"ort_config": config}))
    refused(data, "GraphError", "session options")
    refused(
        forge(toy, edit=lambda plain: plain.update(options)), "ManifestError", "session_options"
    )
    told = Warden(folder, ORT_LOAD_CONFIG_FROM_MODEL="1")
    path = folder / "config.mk"
    path.write_bytes(data)
    assert "GraphError" in told.open(path)["error"]
    # onnxruntime alone would then read the weights from the working directory, and would not say
    # so.
    (folder / "model.onnx.data").write_bytes(bytes(16384))
    path.write_bytes(toy)
    assert "unset ORT_LOAD_CONFIG_FROM_MODEL" in told.open(path, then="verify")["message"]
    told.close()


def shaped(operator, values, *more, **attributes):
    """A graph in which a constant states the shape of a tensor, whose sum is added to the answer."""

    def change(proto):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(values), "s"))
        inputs = ["s"] if operator in ("ConstantOfShape", "HannWindow") else ["o", "s"]
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "o"))
        proto.graph.node.append(helper.make_node(operator, [*inputs, *more], ["big"], **attributes))

    return change


@pytest.mark.parametrize(
    "change",
    [
        shaped("ConstantOfShape", [1 << 34]),
        shaped("ConstantOfShape", [1 << 32, 1 << 32]),
        shaped("ConstantOfShape", [1 << 62, 4]),
        shaped("Expand", [1 << 17, 1 << 17]),
        shaped("Tile", [1 << 34]),
        shaped("Pad", [0, 1 << 34]),
        shaped("HannWindow", 1 << 34),
        shaped("OneHot", [1 << 34], "o"),
        shaped("ConstantOfShape", [*[1] * 700, 1 << 34]),
    ],
)
def test_29_a_graph_that_asks_for_64_gib(toy, refused, change):
    refused(with_graph(toy, change), "GraphError", "more than 1 GiB")


def test_29_the_same_by_constants_of_other_kinds(toy, refused):
    def node(**value):
        def change(proto):
            proto.graph.node.append(helper.make_node("Constant", [], ["s"], **value))
            proto.graph.node.append(helper.make_node("ConstantOfShape", ["s"], ["big"]))

        return change

    def steps(proto):
        for name, value in (("start", 0.0), ("limit", 1e12), ("step", 1.0)):
            proto.graph.node.append(helper.make_node("Constant", [], [name], value_float=value))
        proto.graph.node.append(helper.make_node("Range", ["start", "limit", "step"], ["big"]))

    def random(proto):
        proto.graph.node.append(
            helper.make_node("RandomNormal", [], ["big"], shape=[1 << 17, 1 << 17])
        )

    def sparse(proto):
        tensor = proto.graph.sparse_initializer.add(dims=[1 << 34])
        tensor.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "v"))
        tensor.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "i"))

    def multinomial(proto):
        proto.graph.node.append(
            helper.make_node("Multinomial", ["x"], ["big"], sample_size=1 << 34)
        )

    def targets(proto):
        proto.graph.node.append(forest(n_targets=1 << 34))

    tensor = numpy_helper.from_array(np.array([1 << 34]), "t")
    typed = helper.make_tensor("t", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    for change in (node(value_ints=[1 << 34]), node(value=tensor), node(value=typed), steps, random, sparse,
                   multinomial, targets):  # fmt: skip
        refused(with_graph(toy, change), "GraphError", "more than 1 GiB")


def test_29_a_tensor_that_claims_more_than_it_holds(toy, refused):
    def claim(proto):
        proto.graph.initializer.append(
            TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[1 << 34])
        )

    def negative(proto):
        proto.graph.initializer.append(
            TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[-1])
        )

    refused(with_graph(toy, claim), "GraphError", "'v'", "only")
    refused(with_graph(toy, negative), "GraphError", "'v'", "shape [-1]")


def test_29_constants_that_grow_are_not_computed_at_load(toy, warden, folder):
    """Thirty doublings make 64 GiB of 64 bytes: the load is cheap, and the run ends at the limits of the process."""

    def double(proto):
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(16, np.float32), "d0"))
        for i in range(30):
            proto.graph.node.append(
                helper.make_node("Concat", [f"d{i}", f"d{i}"], [f"d{i + 1}"], axis=0)
            )
        proto.graph.node.append(helper.make_node("ReduceSum", ["d30"], ["sum"], keepdims=0))
        proto.graph.node[1].output[0] = "relu"
        proto.graph.node.append(helper.make_node("Add", ["relu", "sum"], ["y"]))

    path = folder / "grows.mk"
    path.write_bytes(with_graph(toy, double))
    assert warden.open(path)["error"] is None
    assert "alloc" in warden.open(path, then="predict")["message"]


def nested(depth):
    graph = helper.make_graph([], "g", [], [])
    for _ in range(depth):
        graph = helper.make_graph(
            [helper.make_node("If", ["x"], ["z"], then_branch=graph)], "g", [], []
        )
    return graph


def test_30_graphs_within_graphs(toy, refused):
    refused(
        with_graph(toy, lambda proto: proto.graph.node.extend(nested(20).node)),
        "GraphError",
        "nests deeper",
    )
    deep = b""
    for _ in range(50_000):  # too deep for protobuf itself
        deep = b"\x32" + _length(deep) + deep if len(deep) < 1 << 17 else deep
    refused(forge(toy, graph=b"\x3a" + _length(b"\x0a" + _length(deep) + deep) + b"\x0a" + _length(deep) + deep),
            "GraphError")  # fmt: skip


def _length(data):
    size, out = len(data), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


def test_30_millions_of_nodes(toy, refused):
    node = b"\x0a\x06\x22\x04Relu"
    graph = node * (scan.MAX_NODES + 1)
    refused(
        forge(toy, graph=b"\x3a" + _length(graph) + graph), "GraphError", "more than 200000 nodes"
    )


def test_30_functions_that_double(toy, refused):
    def double(proto):
        proto.opset_import.add(domain="ai.onnx.ml", version=3)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
        for i in range(25):
            name, domain = (f"F{i + 1}", "ai.onnx.ml") if i < 24 else ("Relu", "")
            called = [
                helper.make_node(name, [a], [b], domain=domain) for a, b in (("a", "m"), ("m", "b"))
            ]
            proto.functions.append(
                helper.make_function("ai.onnx.ml", f"F{i}", ["a"], ["b"], called, opsets)
            )
        proto.graph.node[1].CopyFrom(helper.make_node("F0", ["h"], ["y"], domain="ai.onnx.ml"))

    def forever(proto):
        called = [helper.make_node("F", ["a"], ["b"], domain="ai.onnx.ml")]
        proto.functions.append(
            helper.make_function(
                "ai.onnx.ml", "F", ["a"], ["b"], called, [helper.make_opsetid("ai.onnx.ml", 3)]
            )
        )

    refused(with_graph(toy, double), "GraphError", "nodes when its functions are expanded")
    refused(with_graph(toy, forever), "GraphError", "call each other more than")


def test_30_a_graph_of_2_gb():
    import mmap

    with pytest.raises(mk.errors.GraphError, match="at most 2147483647 are read"):
        scan.check_graph(
            memoryview(mmap.mmap(-1, 1 << 31, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)),
            "w",
            None,
        )


def loop(proto):
    """y is given by a Loop without a trip count, whose condition stays true."""
    flag = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on")]
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64])
        for name in ("v", "w2")
    ]
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["w2"])]
    body = helper.make_graph(nodes, "body", [count, flag[0], value[0]], [flag[1], value[1]])
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    proto.graph.node[1].CopyFrom(helper.make_node("Loop", ["", "true", "h"], ["y"], body=body))


def test_30_a_loop_without_end_is_stopped_at_the_deadline(toy, warden, folder):
    path = folder / "loop.mk"
    path.write_bytes(with_graph(toy, loop))
    assert warden.open(path)["error"] is None
    told = warden.open(path, then="predict", deadline=0.2)
    assert "DeadlineExceeded" in told["error"], told
    assert "stopped" in told["message"]


def forest(operator="TreeEnsembleRegressor", **changes):
    """An operator over one tree: x0 > -10, then x0 > 0, then x0 > 5; each leads to a leaf otherwise."""
    old = {
        "nodes_treeids": [0] * 7, "nodes_nodeids": range(7), "nodes_featureids": [0] * 7,
        "nodes_values": [-10.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ"] * 3 + ["LEAF"] * 4,
        "nodes_truenodeids": [6, 5, 4, 0, 0, 0, 0], "nodes_falsenodeids": [1, 2, 3, 0, 0, 0, 0],
    }  # fmt: skip
    weights = {"ids": [0] * 4, "treeids": [0] * 4, "nodeids": [3, 4, 5, 6], "weights": [1.0] * 4}
    splits, leaves = (
        helper.make_tensor("t", 1, [n], values) for n, values in ((3, [-10, 0, 5]), (4, [1] * 4))
    )
    attributes = {
        "TreeEnsembleRegressor": old
        | {f"target_{name}": values for name, values in weights.items()}
        | {"n_targets": 1},
        "TreeEnsembleClassifier": old
        | {f"class_{name}": values for name, values in weights.items()}
        | {"classlabels_int64s": [0]},
        "TreeEnsemble": {
            "n_targets": 1, "tree_roots": [0], "nodes_featureids": [0] * 3, "nodes_splits": splits,
            "leaf_targetids": [0] * 4,
            "nodes_modes": helper.make_tensor("m", TensorProto.UINT8, [3], [0] * 3), "leaf_weights": leaves,
            "nodes_truenodeids": [3, 2, 1], "nodes_trueleafs": [1, 1, 1],
            "nodes_falsenodeids": [1, 2, 0], "nodes_falseleafs": [0, 0, 1],
        },
    }[operator]  # fmt: skip
    outputs = ["t", "scores"] if operator == "TreeEnsembleClassifier" else ["t"]
    return helper.make_node(operator, ["x"], outputs, domain="ai.onnx.ml", **attributes | changes)


def beside(node):
    """A graph with one more operator, of whose answer nothing is made."""

    def change(proto):
        proto.opset_import.add(
            domain="ai.onnx.ml", version=5 if node.op_type == "TreeEnsemble" else 3
        )
        proto.ir_version = 10
        proto.graph.node.append(node)

    return change


OLD, NEW = ("TreeEnsembleRegressor", "TreeEnsembleClassifier"), ("TreeEnsemble",)
CIRCLE, ITSELF = [6, 5, 1, 0, 0, 0, 0], [6, 1, 4, 0, 0, 0, 0]
ABSENT, GAP = [9, 5, 4, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize("operator", [*OLD, *NEW])
def test_30_trees_that_are_sound(toy, warden, folder, operator):
    path = folder / "sound.mk"
    path.write_bytes(with_graph(toy, beside(forest(operator))))
    assert warden.open(path, then="verify")["error"] is None


@pytest.mark.parametrize(
    ("operators", "changes", "words"),
    [
        (OLD, {"nodes_truenodeids": CIRCLE}, "2 of its nodes run in circles"),
        (
            OLD,
            {"nodes_truenodeids": CIRCLE, "nodes_modes": ["BRANCH_EQ"] * 3 + ["LEAF"] * 4},
            "run in circles",
        ),
        (OLD, {"nodes_truenodeids": ITSELF}, "run in circles"),
        (OLD, {"nodes_truenodeids": ABSENT}, "branches has a number"),
        (OLD, {"nodes_falsenodeids": [-1, 2, 3, 0, 0, 0, 0]}, "negative"),
        (OLD, {"nodes_treeids": [0] * 6 + [1]}, "a node that the tree does not have"),
        (OLD, {"nodes_nodeids": GAP}, "nodes has a number"),
        (OLD, {"nodes_nodeids": [0, 1, 2, 3, 4, 5, 5]}, "the same number in the same tree"),
        (OLD, {"nodes_truenodeids": [6, 5, 4]}, "several lengths"),
        (OLD, {"nodes_modes": ["BRANCH_LEQ"] * 3 + ["LEAF"] * 3 + ["BRANCH"]}, "several lengths"),
        (OLD, {"nodes_featureids": [0, -100_000_000, 0, 0, 0, 0, 0]}, "columns has a number"),
        (OLD[:1], {"target_ids": [0]}, "several lengths"),
        (OLD[1:], {"class_weights": [1.0]}, "several lengths"),
        (
            NEW,
            {"nodes_truenodeids": [3, 2, 0], "nodes_trueleafs": [1, 1, 0], "tree_roots": [0]},
            "lead to one node",
        ),
        (
            NEW,
            {"nodes_truenodeids": [3, 2, 2], "nodes_trueleafs": [1, 1, 0], "tree_roots": [0]},
            "lead to one node",
        ),
        (NEW, {"nodes_falsenodeids": [1, 1, 0]}, "lead to one node"),
        (NEW, {"nodes_falsenodeids": [1, 3, 0]}, "branches has a number"),
        (NEW, {"nodes_truenodeids": [4, 2, 1]}, "branches has a number"),
        (NEW, {"nodes_truenodeids": [1 << 40, 2, 1]}, "branches has a number"),
        (NEW, {"tree_roots": [3]}, "roots has a number"),
        (NEW, {"tree_roots": [0, 0]}, "lead to one node"),
        (NEW, {"nodes_trueleafs": [1, 1]}, "several lengths"),
    ],
)
def test_30_trees_that_are_none(toy, refused, operators, changes, words):
    for operator in operators:
        refused(
            with_graph(toy, beside(forest(operator, **changes))),
            "GraphError",
            words,
            operator,
            "'t'",
        )


def test_30_trees_in_circles_in_a_subgraph_or_a_function(toy, refused):
    endless = forest(nodes_truenodeids=CIRCLE)
    ml = helper.make_opsetid("ai.onnx.ml", 3)

    def branch(proto):
        taken = helper.make_graph(
            [endless], "b", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)]
        )
        proto.opset_import.append(ml)
        proto.graph.node.append(
            helper.make_node("If", ["x"], ["z"], then_branch=taken, else_branch=taken)
        )

    def function(proto):
        proto.functions.append(
            helper.make_function("ai.onnx.ml", "F", ["x"], ["t"], [endless], [ml])
        )

    def argument(proto):
        """The operator stands in a function, its lists at the call."""
        body = helper.make_node(endless.op_type, ["x"], ["t"], domain="ai.onnx.ml")
        for given in endless.attribute:
            body.attribute.add(name=given.name, type=given.type, ref_attr_name=given.name)
        names = [given.name for given in endless.attribute]
        proto.functions.append(
            helper.make_function("ai.onnx.ml", "F", ["x"], ["t"], [body], [ml], attributes=names)
        )
        call = helper.make_node("F", ["x"], ["t"], domain="ai.onnx.ml")
        call.attribute.extend(endless.attribute)
        proto.graph.node.append(call)

    refused(with_graph(toy, branch), "GraphError", "run in circles")
    refused(with_graph(toy, function), "GraphError", "run in circles")
    refused(with_graph(toy, argument), "GraphError", "arguments of a function")


def test_30_trees_with_a_list_twice(toy, refused):
    node = forest(nodes_truenodeids=CIRCLE)
    node.attribute.append(helper.make_attribute("nodes_truenodeids", [6, 5, 4, 0, 0, 0, 0]))
    refused(with_graph(toy, beside(node)), "GraphError", "'nodes_truenodeids' twice")


def test_30_a_tree_deeper_than_the_stack(toy, refused):
    """onnxruntime reads a tree by a function that calls itself: 30,000 levels would end the process."""
    deep = 30_000
    ids, zeros = list(range(deep + 2)), [0] * (deep + 2)
    changes = {
        "nodes_treeids": zeros, "nodes_nodeids": ids, "nodes_featureids": zeros, "nodes_values": [0.0] * len(ids),
        "nodes_modes": ["BRANCH_LEQ"] * deep + ["LEAF"] * 2, "nodes_falsenodeids": [*ids[1 : deep + 1], 0, 0],
        "nodes_truenodeids": [*[deep + 1] * deep, 0, 0],
    }  # fmt: skip
    refused(with_graph(toy, beside(forest(**changes))), "GraphError", "more than 2000 levels")


def test_31_a_graph_that_takes_and_gives_something_else(toy, refused):
    def rename(proto):
        proto.graph.node[1].output[0] = proto.graph.output[0].name = "z"

    def widen(proto):
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
        proto.graph.node[1].output[0] = "relu"
        proto.graph.node.append(helper.make_node("Cast", ["relu"], ["y"], to=TensorProto.DOUBLE))

    def fix(proto):
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3

    def narrow(plain):
        plain["signature"]["inputs"][0]["shape"][1] = 63

    def rank(plain):
        plain["signature"]["outputs"][0]["shape"].append(1)

    refused(with_graph(toy, rename), "GraphError", "outputs ['z']", "['y']")
    refused(with_graph(toy, widen), "GraphError", "output 'y'", "tensor(double)", "float32")
    refused(with_graph(toy, fix), "GraphError", "input 'x'", "(3, 64)")
    refused(forge(toy, edit=narrow), "GraphError", "input 'x'", "63")
    refused(forge(toy, edit=rank), "GraphError", "output 'y'")
    refused(
        forge(toy, graph=members_of(toy)[GRAPH].replace(b"\x0a\x01x", b"\x0a\x01\xe1")),
        "GraphError",
        "no text",
    )


def test_32_weights_that_were_swapped(toy, refused):
    data = forge(toy, {WEIGHTS: bytes(len(members_of(toy)[WEIGHTS]))})
    refused(data, "IntegrityError", "output 'y' of the golden rows differs", then="verify")


# 33 to 40: names, texts and requirements


@pytest.mark.parametrize(
    "name",
    ["../../prod", "Latest", "p\u0430ypal", "a b", "", "-rf", "x" * 65, "a/b", "a\n", "$(id)"],
)
def test_33_names_that_mean_something_else(toy, refused, name):
    refused(forge(toy, edit=lambda plain: plain.update(name=name)), "ManifestError", "name")
    refused(
        forge(toy, edit=lambda plain: plain.update(version=name + "/")), "ManifestError", "version"
    )


def test_35_markup_and_control_characters_in_names(toy, refused, tmp_path, capsys):
    markup = "<script>alert(1)</script>"
    evil = f"{markup}\x1b]0;owned\x07"

    def edit(plain, name=markup):
        plain["signature"]["inputs"][0]["shape"][0] = plain["signature"]["outputs"][0]["shape"][
            0
        ] = name
        plain["metadata"] = {evil: evil}
        plain["versions"][evil] = evil

    path = tmp_path / "evil.mk"
    path.write_bytes(forge(toy, edit=edit))
    with mk.load(path) as model:
        assert "<script>" not in model._repr_html_()
    assert main(["inspect", str(path)]) == 0
    assert main(["inspect", str(tmp_path / f"{evil.replace('/', '')}.mk")]) == 1
    out, err = capsys.readouterr()
    assert "script" in out
    assert not {"\x1b", "\x07"} & {*out, *err}
    refused(
        forge(toy, edit=lambda plain: edit(plain, evil)),
        "ManifestError",
        "dimension",
        "control characters",
    )


@pytest.mark.parametrize("place", ["tensor", "column", "class"])
def test_35_control_characters_in_other_names(toy, refused, place):
    def edit(plain):
        signature = plain["signature"]
        if place == "tensor":
            signature["inputs"][0]["name"] = "x\x1b[2J"
        elif place == "column":
            columns = [{"name": f"{i}\x9b", "dtype": "float32"} for i in range(64)]
            signature["inputs"][0]["columns"] = columns
        else:
            signature["classes"] = ["yes", "no\x07"]

    refused(forge(toy, edit=edit), "ManifestError", place, "control characters")


def test_39_a_graph_that_fails_beside_a_pickle_that_would_not(toy, canary, refused):
    data = forge(toy, {"native/model.joblib": evil(canary)}, graph=b"\x00")
    for asked in ({}, {"digest": digest_of(data), "allow": ["joblib"]}):
        told = refused(data, "GraphError", "not a well-formed ONNX model", **asked)
        assert not told["joblib"]


@pytest.mark.parametrize(
    "requirement", ["evil; rm -rf ~", "git+https://example.com/x", "--index-url", "$(id)"]
)
def test_40_requirements_that_would_be_installed(native, refused, canary, requirement):
    def ask(where):
        return lambda plain: plain["requires"].update(
            {requirement: "1"} if where else {"numpy": requirement}
        )

    for where in (True, False):
        data = forge(native, edit=ask(where))
        refused(data, "ManifestError", "requires")
    data = forge(
        native, edit=lambda plain: plain["requires"].update({"modelkit-no-such-library": "1.0"})
    )
    refused(
        data,
        "PackageError",
        "modelkit-no-such-library 1.0",
        digest=digest_of(data),
        allow=["joblib"],
    )

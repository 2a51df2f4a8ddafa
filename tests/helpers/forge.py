"""Packages that no writer would write, and a process with limits in which they are opened."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.package import container

MANIFEST, GRAPH, WEIGHTS = "modelkit.json", "model/model.onnx", "model/model.onnx.data"
WARDEN = Path(__file__).with_name("warden.py")


def save_toy(path, version="1"):
    """A package of 30 KB with weights outside the graph: y = relu(x @ w)."""
    w = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "toy", ends[:1], ends[1:], [numpy_helper.from_array(w, "w")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.parent.mkdir(exist_ok=True)
    mk.save(proto, path, name="toy", version=version)
    return path


def save_pair(folder):
    """Two packages of one model, which differ in their version."""
    old = save_toy(folder / "old" / "toy.mk")
    new = save_toy(folder / "new" / "toy.mk", version="2")
    assert old.read_bytes() != new.read_bytes()
    return old, new


def members_of(data):
    return {name: bytes(view) for name, view in container.read_zip(memoryview(data)).items()}


def pack(members, aligned=frozenset({WEIGHTS})):
    return b"".join(bytes(piece) for piece in container.write_zip(members, aligned))


def forge(data, changes=None, edit=None, **parts):
    """The package `data` with other members and another manifest, and with hashes that are right for them.

    `changes` are members by path, None for one to leave out; `graph` and `golden` are short for two
    of them. `edit` changes the manifest, as plain JSON, in place.
    """
    members = members_of(data)
    paths = {"graph": GRAPH, "golden": "golden.npz"}
    for path, content in (
        (changes or {}) | {paths[name]: part for name, part in parts.items()}
    ).items():
        members.pop(path) if content is None else members.__setitem__(path, content)
    manifest = json.loads(members.pop(MANIFEST))
    listed = [
        (path, content, hashlib.sha256(content).hexdigest()) for path, content in members.items()
    ]
    manifest["files"] = [
        {"path": path, "size": len(content), "sha256": got} for path, content, got in listed
    ]
    if edit is not None:
        edit(manifest)
    return pack({MANIFEST: json.dumps(manifest).encode(), **members})


def graph_of(data):
    return onnx.load_from_string(members_of(data)[GRAPH])


def with_graph(data, change, opset=None, **more):
    """The package with its graph changed in place, and with another version of its operators if one is given."""
    proto = graph_of(data)
    if opset is not None:
        proto.opset_import[0].version = opset
    change(proto)
    return forge(data, graph=proto.SerializeToString(), **more)


def varint(size):
    """A whole number as protobuf writes it."""
    size, out = size & (1 << 64) - 1, bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def digest_of(data):
    return mk.inspect(data).digest


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


class Warden:
    """A child process with limits of memory and time that opens packages and tells what happened.

    It is told `path` and the keywords of `mk.load`, and `then`: "verify", "predict" or "inspect".
    It answers with the classes and message of the error, if there was one, and whether the package
    had been loaded before it; the files it opened and processes it started, as Python's audit
    events show them; and whether joblib was imported.
    """

    def __init__(self, folder, **environment):
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(Path(mk.__file__).parent.parent),
            "PYTHONDONTWRITEBYTECODE": "1",  # of what is imported with the first seal or signature
            **environment,
        }
        self.process = None

    def open(self, path, **asked):
        if self.process is None:
            command = [sys.executable, str(WARDEN)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": self.folder}
            self.process = subprocess.Popen(command, env=self.environment, text=True, **pipes)
        self.process.stdin.write(json.dumps({"path": str(path), **asked}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()  # the child ends itself when its time is over
        if not line:
            status = self.process.wait()
            self.close()
            raise AssertionError(f"the process that opened {path} died with status {status}")
        return json.loads(line)

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None

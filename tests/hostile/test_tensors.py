"""Attacks 21 to 26 of the table in docs/explanation/security.md: tensors that lie outside the package."""

import os

import numpy as np
import pytest
from helpers.forge import with_graph
from onnx import TensorProto, helper, numpy_helper

from modelkit.package import scan


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
    ("place", "word"),
    [
        (in_constant, "inside an operator"),
        (in_attribute_list, "inside an operator"),
        (in_sparse, "sparse tensors"),
        (in_function, "functions of its own"),
    ],
)
def test_22_external_data_inside_an_operator(toy, refused, place, word):
    refused(with_graph(toy, place), "GraphError", word)


def test_22_external_data_in_a_graph_of_a_training(toy, folder, warden):
    """A run needs none, so the runtime is not given one."""

    def train(proto):
        proto.training_info.add().algorithm.initializer.append(external("secret", "t"))

    path = folder / "training.mk"
    path.write_bytes(with_graph(toy, train))
    answer = warden.open(path, then="verify")
    assert answer["error"] is None
    assert answer["events"] == [["open", str(path)]]


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

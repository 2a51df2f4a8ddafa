"""The graph of a package reads nothing outside it and uses known operators only."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.errors import GraphError
from modelkit.package import scan

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])


def external(location, **keys):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "16", **keys}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model(nodes=None, initializers=(), domain=""):
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"], domain=domain)]
    graph = helper.make_graph(nodes, "g", [X], [Y], list(initializers))
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def check(proto, size=None):
    scan.check(proto.SerializeToString(), "model.onnx.data", size)


def test_external_data_within_the_listed_member_is_accepted():
    check(model(initializers=[external("model.onnx.data")]), 16)


@pytest.mark.parametrize(
    ("tensor", "size", "message"),
    [
        (external("../secret"), 16, "not a member"),
        (external("/etc/passwd"), 16, "not a member"),
        (external("*/_ORT_MEM_ADDR_/*"), 16, "not a member"),
        (external("model.onnx.data"), None, "not a member"),
        (external("model.onnx.data"), 15, "bytes 0 to 16 of 15"),
        (external("model.onnx.data", offset=1 << 70), 16, "bytes"),
        (external("model.onnx.data", offset="-1"), 16, "external data at '-1'"),
        (external("model.onnx.data", length="x"), 16, "length 'x'"),
        (external("model.onnx.data", basepath="/"), 16, "keys"),
    ],
)
def test_external_data_elsewhere_is_refused(tensor, size, message):
    with pytest.raises(GraphError, match=message):
        check(model(initializers=[tensor]), size)


def test_external_data_inside_operators_is_refused():
    constant = helper.make_node("Constant", [], ["w"], value=external("model.onnx.data"))
    with pytest.raises(GraphError, match="inside an operator"):
        check(model([constant, helper.make_node("Add", ["x", "w"], ["y"])]), 16)
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["b"])], "b", [], [Y], [external("model.onnx.data")]
    )
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(GraphError, match="inside an operator"):
        check(model([choice]), 16)


def test_unknown_domains_are_refused():
    with pytest.raises(GraphError, match=r"evil\.corp"):
        check(model(domain="evil.corp", initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")]))


def test_session_options_in_the_graph_are_refused():
    proto = model(initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")])
    helper.set_model_props(proto, {"ort_config": "{}"})
    with pytest.raises(GraphError, match="session options"):
        check(proto)


def test_save_refuses_what_load_would_refuse(tmp_path):
    proto = model(domain="evil.corp", initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")])
    with pytest.raises(GraphError, match="evil"):
        mk.save(proto, tmp_path / "m.mk", name="m", version="1")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=300, deadline=None)
@given(junk=st.binary(max_size=200))
def test_bytes_that_are_no_graph_raise_nothing_but_graph_errors(junk):
    with contextlib.suppress(GraphError):
        scan.check(junk, "model.onnx.data", 16)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_graph_raises_nothing_but_graph_errors(data):
    raw = bytearray(model(initializers=[external("model.onnx.data")]).SerializeToString())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(GraphError):
        scan.check(bytes(raw), "model.onnx.data", 16)

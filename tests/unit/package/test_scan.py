"""The graph of a package reads nothing outside it and uses known operators only."""

import contextlib

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from helpers.examples import examples
from helpers.forge import GRAPH, members_of, varint
from helpers.graphs import external, plus_w
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.errors import GraphError
from modelkit.package import scan


def check(proto, size=None):
    scan.check_graph(proto.SerializeToString(), "model.onnx.data", size)


def test_external_data_within_the_listed_member_is_accepted():
    check(plus_w(initializers=[external("model.onnx.data")]), 16)


@pytest.mark.parametrize(
    ("tensor", "size", "message"),
    [
        (external("../secret"), 16, "not a member"),
        (external("/etc/passwd"), 16, "not a member"),
        (external("*/_ORT_MEM_ADDR_/*"), 16, "not a member"),
        (external("model.onnx.data"), None, "not a member"),
        (external("model.onnx.data"), 15, "bytes 0 to 16 of 15"),
        (external("model.onnx.data", offset=1 << 70), 16, "external data at"),
        (external("model.onnx.data", offset=1 << 40), 16, "bytes 1099511627776 to"),
        (external("model.onnx.data", offset="-1"), 16, "external data at '-1'"),
        (external("model.onnx.data", length="x"), 16, "length 'x'"),
        (external("model.onnx.data", basepath="/"), 16, "keys"),
    ],
)
def test_external_data_elsewhere_is_refused(tensor, size, message):
    with pytest.raises(GraphError, match=message):
        check(plus_w(initializers=[tensor]), size)


def test_external_data_inside_operators_is_refused():
    constant = helper.make_node("Constant", [], ["w"], value=external("model.onnx.data"))
    with pytest.raises(GraphError, match="inside an operator"):
        check(plus_w([constant, helper.make_node("Add", ["x", "w"], ["y"])]), 16)
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["b"])],
        "b",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [external("model.onnx.data")],
    )
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(GraphError, match="inside an operator"):
        check(plus_w([choice]), 16)


def test_unknown_domains_are_refused():
    with pytest.raises(GraphError, match=r"evil\.corp"):
        check(
            plus_w(
                domain="evil.corp",
                initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")],
            )
        )


def test_domains_that_the_caller_accepts():
    proto = plus_w(
        domain="good.corp", initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")]
    )
    scan.check_graph(proto.SerializeToString(), "model.onnx.data", None, domains={"good.corp"})
    with pytest.raises(GraphError, match=r"\['good\.corp'\]"):
        scan.check_graph(proto.SerializeToString(), "model.onnx.data", None, domains={"other.corp"})


def field(number, data):
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def within_graph(data):
    return field(7, data)


TENSOR = external("../secret").SerializeToString()
NODE = helper.make_node("Relu", ["x"], ["y"]).SerializeToString()


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (within_graph(field(1, NODE)) + within_graph(field(5, TENSOR)), "'../secret'"),
        (within_graph(field(1, NODE + field(4, b"EPContext"))), "EPContext"),
        (within_graph(field(5, TENSOR + b"\x70\x00")), "location 0"),
        (within_graph(field(5, b"\x72\x01\x01" + TENSOR)), "'../secret'"),
        (b"\x3b" + field(5, TENSOR) + b"\x3c" + within_graph(field(5, TENSOR)), "'../secret'"),
        (b"\x3a\xbd\x80\x00" + field(5, TENSOR), "'../secret'"),
    ],
)
def test_what_may_be_read_in_several_ways_is_checked_as_protobuf_reads_it(graph, message):
    with pytest.raises(GraphError, match=message):
        scan.check_graph(graph, "model.onnx.data", 16)


@pytest.mark.parametrize(
    ("graph", "written"),
    [
        (within_graph(field(1, NODE)) + within_graph(field(1, NODE)), within_graph(field(1, NODE) * 2)),
        (within_graph(field(1, field(4, b"EPContext") + NODE)), within_graph(field(1, NODE))),
        (b"\x3b" + field(5, TENSOR) + b"\x3c", b""),
        (b"\x38\x01", b""),
        (within_graph(b"\x28\x01"), b"\x3a\x00"),
        (b"\xf8\x07\x01", b""),
        (b"\xba\x00\x00", b"\x3a\x00"),
        (b"\x3a\x80\x00", b"\x3a\x00"),
        (b"\x08\x01\x08\x89\x80\x00", b"\x08\x09"),
        (within_graph(field(10, b"\xff\0") + field(1, NODE)), within_graph(field(1, NODE) + field(10, b"\xff\0"))),
    ],
)  # fmt: skip
def test_what_may_be_read_in_several_ways_is_written_in_one(graph, written):
    """Doubled, unknown and mistyped fields, groups, numbers in more bytes than they need, and another order."""
    assert scan.check_graph(graph, "model.onnx.data", 16).graph == written


@pytest.mark.parametrize(
    "graph",
    [b"\x02\x00", b"\x3a" + b"\x80" * 9 + b"\x01", b"\x08" + b"\x80" * 11, b"\x08", b"\x3a\x05\x0a",
     b"\x3c", b"\x3b", b"\x3a\xff\xff\xff\xff\x07", within_graph(field(5, b"\x25\x00"))],
)  # fmt: skip
def test_what_protobuf_cannot_read_is_refused(graph):
    with pytest.raises(GraphError, match="not a well-formed ONNX model"):
        scan.check_graph(graph, "model.onnx.data", 16)


def nested(levels, more=b""):
    """Graphs within the operators of each other; each message of them ends with some more bytes."""
    graph = field(1, NODE) + more
    for _ in range(levels):
        attribute = field(1, b"then_branch") + field(6, graph) + more
        graph = field(1, field(4, b"If") + field(5, attribute) + more) + more
    return within_graph(graph) + more


def test_fields_that_nobody_knows_are_left_out_at_every_depth():
    unknown = b"\xfa\x07\x03???"  # field 127
    found = scan.check_graph(nested(8, unknown), "model.onnx.data", 16)
    assert found.graph == nested(8)
    with pytest.raises(GraphError, match="nests deeper than 8 levels"):
        scan.check_graph(nested(9), "model.onnx.data", 16)
    with pytest.raises(GraphError, match="not a well-formed ONNX model"):
        scan.check_graph(nested(40), "model.onnx.data", 16)


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_what_is_written_is_what_onnx_reads(data):
    """Of a graph with some bytes changed: what is not known is left out, and all else is the same model."""
    raw = bytearray(plus_w(initializers=[external("model.onnx.data")]).SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = scan.check_graph(bytes(raw), "model.onnx.data", 16)
        proto = onnx.load_from_string(bytes(raw))
    except (GraphError, DecodeError):
        return
    proto.DiscardUnknownFields()
    assert onnx.load_from_string(found.graph) == proto
    assert scan.check_graph(found.graph, "model.onnx.data", 16).graph == found.graph


def test_a_location_without_external_data_and_the_reverse_are_refused():
    tensor = external("model.onnx.data")
    del tensor.external_data[:]
    with pytest.raises(GraphError, match="at location 1, by the keys"):
        check(plus_w(initializers=[tensor]), 16)
    tensor = external("model.onnx.data")
    tensor.ClearField("data_location")
    with pytest.raises(GraphError, match="at location 0, by the keys"):
        check(plus_w(initializers=[tensor]), 16)
    wide = (
        external("model.onnx.data")
        .SerializeToString()
        .replace(b"\x70\x01", b"\x70\x81\x80\x80\x80\x10")
    )
    assert b"\x81\x80\x80\x80\x10" in wide  # an enum has 32 bits: every parser reads a 1
    found = scan.check_graph(within_graph(field(5, wide)), "model.onnx.data", 16)
    assert found.graph.endswith(b"\x70\x01")


def test_numbers_may_come_packed_or_not():
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    packed = shape.SerializeToString()
    loose = packed.replace(b"\x3a\x06" + b"\x80\x80\x40" * 2, b"\x38\x80\x80\x40" * 2)
    assert loose != packed
    node = helper.make_node("ConstantOfShape", ["s"], ["big"]).SerializeToString()
    for tensor in (packed, loose):
        with pytest.raises(GraphError, match="more than 1 GiB"):
            scan.check_graph(within_graph(field(5, tensor) + field(1, node)), "model.onnx.data", 16)


def test_shapes_of_more_numbers_than_a_shape_has():
    """A list of 700 ones and 64 Gi, packed, as an attribute that is a shape and as a constant that one is read from."""
    sizes = field(8, b"\x01" * 700 + varint(1 << 34))
    random = NodeProto(op_type="RandomNormal", output=["big"]).SerializeToString()
    constant = NodeProto(op_type="Constant", output=["s"]).SerializeToString()
    shaped = helper.make_node("ConstantOfShape", ["s"], ["big"]).SerializeToString()
    one = field(1, random + field(5, field(1, b"shape") + sizes))
    two = field(1, constant + field(5, field(1, b"value_ints") + sizes)) + field(1, shaped)
    for nodes in (one, two):
        with pytest.raises(GraphError, match="more than 1 GiB"):
            scan.check_graph(within_graph(nodes), "model.onnx.data", 16)


def test_numbers_of_several_kinds_and_names_of_many_tensors():
    """No overflow, and no time that grows faster than the graph."""
    attribute = AttributeProto(name="value", f=1.5, ints=[1 << 62] * 63).SerializeToString()
    constant = NodeProto(op_type="Constant", output=["s"]).SerializeToString() + field(5, attribute)
    node = helper.make_node("ConstantOfShape", ["s"], ["big"]).SerializeToString()
    with pytest.raises(GraphError, match="both integers and floats"):
        scan.check_graph(within_graph(field(1, constant) + field(1, node)), "model.onnx.data", 16)
    ends = [
        helper.make_node("Constant", [], [name], value_int=i)
        for name in "sle"
        for i in range(1, 2000)
    ]
    ranges = [helper.make_node("Range", ["s", "l", "e"], [f"r{i}"]) for i in range(2000)]
    check(plus_w([*ends, *ranges]))


@pytest.mark.parametrize(
    ("start", "limit", "step", "fits"),
    [(0, 1 << 40, 1, False), (1 << 40, 0, -1, False), (0, 1.0, 1e-12, False), (0, 1 << 40, 1 << 30, True),
     (0, 9, 0, True), (0.0, float("inf"), 1.0, False), (0.0, float("nan"), 1.0, False)],
)  # fmt: skip
def test_how_long_a_range_is(start, limit, step, fits):
    ends = zip("sle", (start, limit, step), strict=True)
    constants = [
        numpy_helper.from_array(np.array(value, type(limit)), name) for name, value in ends
    ]
    with (
        contextlib.nullcontext()
        if fits
        else pytest.raises(GraphError, match="Range makes a tensor")
    ):
        check(plus_w([helper.make_node("Range", ["s", "l", "e"], ["y"])], constants))


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Range", "Tile"])
def test_shapes_within_bounds_are_accepted(operator):
    small = [
        numpy_helper.from_array(np.array(v), n)
        for n, v in (("s", [1000, 1000]), ("i", 0), ("n", 9), ("z", 0))
    ]
    inputs = {"ConstantOfShape": ["s"], "Range": ["i", "n", "z"], "Tile": ["x", "s"]}[operator]
    check(plus_w([helper.make_node(operator, inputs, ["y"])], small))


def test_session_options_in_the_graph_are_refused():
    proto = plus_w(initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")])
    helper.set_model_props(proto, {"ort_config": "{}"})
    with pytest.raises(GraphError, match="session options"):
        check(proto)


def test_save_refuses_what_load_would_refuse(tmp_path):
    proto = plus_w(
        domain="evil.corp", initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")]
    )
    with pytest.raises(GraphError, match="evil"):
        mk.save(proto, tmp_path / "m.mk", name="m", version="1")
    assert list(tmp_path.iterdir()) == []


def test_save_stores_what_load_gives_the_runtime(boosting_mk, penguins_mk):
    for path in (boosting_mk, penguins_mk):
        graph = members_of(path.read_bytes())[GRAPH]
        assert scan.check_graph(graph, "model.onnx.data", None).graph == graph
        with mk.load(path) as model:
            assert model.graph[0] == graph


def test_a_constant_that_holds_nothing_is_left_to_the_runtime():
    """It refuses one; a search for failures found that the scan raised a bare ValueError."""
    proto = plus_w(initializers=[numpy_helper.from_array(np.ones(4, np.float32), "w")])
    proto.graph.node.append(helper.make_node("Constant", [], ["c"]))
    proto.graph.node.append(helper.make_node("ConstantOfShape", ["c"], ["d"]))
    check(proto)


def test_metadata_of_more_entries_than_anybody_writes():
    model = plus_w()
    helper.set_model_props(model, {f"key{number}": "" for number in range(10_000)})
    check(model)
    model.metadata_props.add(key="one more")
    with pytest.raises(GraphError, match="more than 10,000 entries of metadata"):
        check(model)

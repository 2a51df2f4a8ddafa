"""Attacks 27 to 32, and 34, of the table in docs/explanation/security.md: what a graph may do."""

import json

import numpy as np
import pytest
from helpers.forge import (
    GRAPH,
    WEIGHTS,
    Warden,
    digest_of,
    forest,
    forge,
    members_of,
    varint,
    with_graph,
)
from helpers.graphs import external
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.errors import GraphError
from modelkit.package import scan, walk
from modelkit.runtimes import schema


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

    for change in (node, within):
        refused(with_graph(toy, change), "GraphError", "evil.corp", "packages may use")
    refused(with_graph(toy, function), "GraphError", "functions of its own")


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


def length_of(data):
    return varint(len(data))


def field(number, data):
    return varint(number << 3 | 2) + length_of(data) + data


@pytest.mark.parametrize(
    "more",
    [
        field(7, field(5, external("../secret").SerializeToString())),
        field(7, field(1, NodeProto(op_type="EPContext", output=["e"]).SerializeToString())),
        field(14, field(1, b"key") + field(1, b"ort_config")),
        field(7, field(5, b"\x08\x01\x08\x80\x80\x80\x80\x40" + field(8, b"w"))),
    ],
)
def test_34_what_is_added_to_a_graph_behind_its_end(toy, refused, more):
    """Parsers join a message that stands twice: what is checked is what they join."""
    refused(forge(toy, graph=members_of(toy)[GRAPH] + more), "GraphError")


@pytest.mark.parametrize(
    "more",
    [
        field(1000, field(7, external("../secret").SerializeToString())),
        b"\x3b" + field(5, external("../secret").SerializeToString()) + b"\x3c",
        b"\x38\x01\xc0\x3e\x01",
        field(7, b"\x28\x01" + field(99, b"?")),
        field(7, b"\x92\x80\x00\x03toy"),
    ],
)
def test_34_what_one_parser_reads_and_another_does_not(toy, folder, warden, more):
    """It is in the file, whose hash holds, and not in what the runtime is given."""
    path = folder / "more.mk"
    path.write_bytes(forge(toy, graph=members_of(toy)[GRAPH] + more))
    assert warden.open(path, then="verify") | {"events": []} == {
        "error": None, "loaded": True, "answer": 0.0, "events": [], "joblib": False
    }  # fmt: skip
    assert mk.inspect(path).digest != digest_of(toy)
    with mk.load(path) as model:
        assert model.graph[0] == members_of(toy)[GRAPH]
        assert model.stored == members_of(path.read_bytes())[GRAPH]


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
    for change in (node(value_ints=[1 << 34]), node(value=tensor), node(value=typed), steps, random,
                   multinomial, targets):  # fmt: skip
        refused(with_graph(toy, change), "GraphError", "more than 1 GiB")
    refused(with_graph(toy, sparse), "GraphError", "sparse tensors")


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
        deep = b"\x32" + length_of(deep) + deep if len(deep) < 1 << 17 else deep
    refused(forge(toy, graph=b"\x3a" + length_of(b"\x0a" + length_of(deep) + deep) + b"\x0a" + length_of(deep) + deep),
            "GraphError")  # fmt: skip


def test_30_millions_of_nodes(toy, refused):
    node = b"\x0a\x06\x22\x04Relu"
    graph = node * (walk.MAX_NODES + 1)
    refused(
        forge(toy, graph=b"\x3a" + length_of(graph) + graph), "GraphError", "more than 200000 nodes"
    )


@pytest.mark.parametrize("many", ["attributes", "graphs"])
def test_30_a_million_parts_of_a_node(toy, refused, many):
    """Each takes two bytes of a package, and 20 microseconds and 400 bytes of memory to look at."""

    def crowd(proto):
        node = proto.graph.node[1]
        if many == "attributes":
            node.attribute.extend([AttributeProto()] * 900_000)
        else:
            node.attribute.add(name="a").graphs.extend([GraphProto()] * 900_000)

    refused(with_graph(toy, crowd), "GraphError", "more than 800000 attributes, and graphs in them")


def test_30_parts_of_many_nodes(toy, monkeypatch):
    def crowd(proto):
        node = proto.graph.node[1]
        node.attribute.extend(AttributeProto(name=f"a{i}") for i in range(50))
        proto.graph.node.extend([node] * 20)

    data = with_graph(toy, crowd)
    monkeypatch.setattr(walk, "MAX_PARTS", 1000)
    with pytest.raises(GraphError, match="more than 1000 attributes"):
        walk.walk(schema.parse(members_of(data)[GRAPH]))


def test_30_functions_that_double(toy, refused):
    """25 of them would make 33 million nodes."""

    def double(proto):
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
        for i in range(25):
            name, domain = (f"F{i + 1}", "com.microsoft") if i < 24 else ("Relu", "")
            called = [
                helper.make_node(name, [a], [b], domain=domain) for a, b in (("a", "m"), ("m", "b"))
            ]
            proto.functions.append(
                helper.make_function("com.microsoft", f"F{i}", ["a"], ["b"], called, opsets)
            )
        proto.graph.node[1].CopyFrom(helper.make_node("F0", ["h"], ["y"], domain="com.microsoft"))

    refused(with_graph(toy, double), "GraphError", "functions of its own")


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


def test_34_a_producer_of_the_name_of_another_format(toy, warden, folder):
    """With "ORTM" at byte 4, onnxruntime would read all of it as its own format, which nobody scans."""

    def name(proto):
        proto.producer_name = "ORTM" + " " * 60

    data = with_graph(toy, name)
    assert members_of(data)[GRAPH][4:8] == b"ORTM"
    path = folder / "named.mk"
    path.write_bytes(data)
    assert warden.open(path, then="predict")["error"] is None


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
        "not a text",
    )


def test_32_weights_that_were_swapped(toy, refused):
    data = forge(toy, {WEIGHTS: bytes(len(members_of(toy)[WEIGHTS]))})
    refused(data, "IntegrityError", "output 'y' of the golden rows differs", then="verify")

"""Graphs of a few kilobytes whose constants would take gigabytes at load.

Each is made small here, and opened in a process with limits of memory and time.
"""

import numpy as np
import pytest
from helpers.forge import GRAPH, members_of, with_graph
from helpers.graphs import beside, constant, folding, node, told
from onnx import TensorProto, helper

from modelkit.package import scan, sizes

# What constants make at load


def filled(count, side):
    """So many square matrices that constants state, and their sum."""
    nodes = [node("ConstantOfShape", ["side"], [f"c{i}"]) for i in range(count)]
    nodes.append(node("Sum", [f"c{i}" for i in range(count)], ["sum"]))
    return beside(nodes, [constant("side", [side, side])])


def test_many_constants_that_a_graph_states(toy, warden):
    """Forty of 256 MB: the load makes none of them."""
    data = with_graph(toy, filled(40, 8000))
    assert folding(data).limit <= 1 << 20
    assert told(warden, data)["error"] is None


def test_many_constants_are_not_computed_at_load(toy, warden):
    """Thirty of 4 MB are below every bound of one, and 120 MB in all."""
    data = with_graph(toy, filled(30, 1000))
    assert folding(data).limit < 4_000_000
    assert folding(with_graph(toy, filled(2, 1000))).limit > 4_000_000
    assert told(warden, data, then="predict")["error"] is None


@pytest.mark.parametrize("hidden", ["computed", "of a value", "of constants that share a name"])
def test_shapes_that_a_graph_does_not_state(toy, hidden):
    """They are as large as the limit of one result; so many of them lower it."""
    if hidden == "computed":
        first = [node("Mul", ["side", "side"], ["shape"])]
    elif hidden == "of a value":
        first = [node("Expand", ["relu", "side"], ["wide"]), node("Shape", ["wide"], ["shape"])]
    else:
        first = [node("Identity", ["side"], ["shape"])]
    many = [node("ConstantOfShape", ["shape"], [f"c{i}"]) for i in range(100)]
    change = beside(
        [*first, *many, node("Sum", [f"c{i}" for i in range(100)], ["sum"])],
        [constant("side", [1, 64])],
    )
    assert 0 < folding(with_graph(toy, change)).limit <= sizes.TOUCHED_BYTES // 50


BRANCH = helper.make_graph(
    [node("Identity", ["side"], ["o"])],
    "b",
    [],
    [helper.make_tensor_value_info("o", TensorProto.INT64, [2])],
)
HIDDEN = {
    "a branch": [node("If", ["yes"], ["shape"], then_branch=BRANCH, else_branch=BRANCH)],
    "a Dropout": [
        node("Cast", ["side"], ["numbers of it"], to=TensorProto.FLOAT),
        node("Dropout", ["numbers of it"], ["dropped"]),
        node("Cast", ["dropped"], ["shape"], to=TensorProto.INT64),
    ],
}


@pytest.mark.parametrize("behind", HIDDEN)
def test_constants_behind_what_onnxruntime_takes_away(toy, warden, behind):
    """Twenty of 128 MB, which each row picks one number of."""
    many = [node("ConstantOfShape", ["shape"], [f"c{i}"]) for i in range(20)]
    many += [node("Gather", [f"c{i}", "column"], [f"g{i}"]) for i in range(20)]
    picked = [
        node("Cast", ["relu"], ["columns"], to=TensorProto.INT64),
        node("Clip", ["columns", "zero", "zero"], ["column"]),
        *many,
        node("Sum", [f"g{i}" for i in range(20)], ["sum"]),
    ]
    constants = [
        constant("side", [8000, 4000]), constant("yes", True), constant("zero", 0),
    ]  # fmt: skip
    data = with_graph(toy, beside([*HIDDEN[behind], *picked], constants))
    assert folding(data).limit <= 1 << 22
    assert told(warden, data)["error"] is None


@pytest.mark.parametrize("operator", ["MatMul", "ReduceSum"])
def test_results_of_tensors_without_elements(toy, warden, operator):
    """A sum over nothing, and a product of it, are as large as the other sides: twenty of 240 MB."""
    nodes, constants = [node("Cast", ["relu"], ["columns"], to=TensorProto.INT64)], []
    nodes.append(node("Clip", ["columns", "zero", "zero"], ["column"]))
    for i in range(20):
        sides = [(8000, 0), (0, 8000)] if operator == "MatMul" else [(0, 60_000_000)]
        parts = [TensorProto(name=f"{side}{i}", data_type=1, dims=side) for side in sides]
        names = [part.name for part in parts]
        constants += parts
        more = {} if operator == "MatMul" else {"keepdims": 0}
        inputs = names if operator == "MatMul" else [*names, "first"]
        nodes.append(node(operator, inputs, [f"c{i}"], **more))
        nodes.append(node("Gather", [f"c{i}", "column"], [f"g{i}"]))
    nodes.append(node("Sum", [f"g{i}" for i in range(20)], ["sum"]))
    constants += [constant("zero", 0), constant("first", [0])]
    data = with_graph(toy, beside(nodes, constants))
    assert folding(data).limit <= 1 << 22
    assert told(warden, data)["error"] is None


def test_products_of_constants_are_left_to_the_runs(toy, warden):
    """Sixty products of matrices of 4,000 rows would take minutes at load, where nothing stops them."""
    nodes = [node("ConstantOfShape", ["side"], ["m0"])]
    nodes += [node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(60)]
    data = with_graph(toy, beside(nodes, [constant("side", [4000, 4000])]))
    assert folding(data).limit < 1 << 20
    assert scan.check_graph(members_of(data)[GRAPH], "model.onnx.data", 16384).endless
    assert told(warden, data)["error"] is None


@pytest.mark.parametrize("heavy", ["Conv", "Einsum", "TfIdfVectorizer"])
def test_operators_whose_work_is_not_known_turn_it_off(toy, heavy):
    x = constant("c", np.ones((1, 1, 8)), np.float32)
    made = {
        "Conv": node("Conv", ["c", "c"], ["made"]),
        "Einsum": node("Einsum", ["c", "c"], ["made"], equation="abc,abd->d"),
        "TfIdfVectorizer": node(
            "TfIdfVectorizer", ["c"], ["made"], mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
            ngram_counts=[0], ngram_indexes=[0], pool_int64s=[1],
        ),
    }[heavy]  # fmt: skip
    assert folding(with_graph(toy, beside([made], [x]))) == sizes.Folding(0, costly=True)


def test_weights_that_are_widened_are_computed_at_load(toy):
    """As in graphs whose weights are whole numbers of 8 bits: 20 of 4 MB, four times their size."""
    weights = [constant(f"w{i}", np.ones((1000, 1000)), np.int8) for i in range(20)]
    scales = [constant(f"s{i}", np.ones((1000, 1)), np.float32) for i in range(20)]
    nodes = [node("Cast", [f"w{i}"], [f"f{i}"], to=TensorProto.FLOAT) for i in range(20)]
    nodes += [node("Mul", [f"f{i}", f"s{i}"], [f"m{i}"]) for i in range(20)]
    nodes.append(node("Sum", [f"m{i}" for i in range(20)], ["sum"]))
    assert folding(with_graph(toy, beside(nodes, [*weights, *scales]))).limit >= 1 << 24

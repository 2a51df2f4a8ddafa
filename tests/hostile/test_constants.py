"""Graphs of a few kilobytes whose constants would take gigabytes at load.

Each is made small here, and opened in a process with limits of memory and time.
"""

import numpy as np
import pytest
from helpers.forge import GRAPH, members_of, with_graph
from helpers.graphs import beside, constant, folding, node, told
from onnx import TensorProto

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

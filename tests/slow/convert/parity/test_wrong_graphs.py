"""The parity check is the judge of every conversion: it refuses graphs that are wrong in one place."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
from helpers.kinds import mixed_pipeline, penguins, wine_holes
from onnx.helper import make_attribute
from onnx.numpy_helper import from_array, to_array
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

from modelkit.convert.parity.check import open_signature, prove_parity
from modelkit.convert.sklearn import from_sklearn
from modelkit.errors import ParityError
from modelkit.runtimes.onnx import OnnxModel

TREES = {
    "tree": DecisionTreeClassifier(max_leaf_nodes=8, random_state=0),
    "histogram": HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=6, min_samples_leaf=4),
}


@cache
def source_of(name):
    if name == "columns":
        X, y = penguins()
        return from_sklearn(mixed_pipeline().fit(X, y), X, "float64")
    X, y = (each[::3] for each in wine_holes())
    return from_sklearn(TREES[name].fit(X, y == 1), X, "float64")


def check(source, proto):
    prove_parity(
        replace(source, proto=proto),
        lambda signature: OnnxModel(proto.SerializeToString(), signature),
        None,
    )


def copy_of(source):
    proto = onnx.ModelProto()
    proto.CopyFrom(source.proto)
    return proto


def ensemble_of(proto):
    node = next(node for node in proto.graph.node if node.op_type == "TreeEnsemble")
    return node, {attribute.name: attribute for attribute in node.attribute}


def places(name, key):
    """The places in an attribute of the trees."""
    _, given = ensemble_of(source_of(name).proto)
    held = given[key]
    return range(len(held.ints) or len(to_array(held.t)))


def one_moved(proto, key, place, change):
    """Changes one number of an attribute of the trees."""
    _, given = ensemble_of(proto)
    values = to_array(given[key].t).copy()
    values[place] = change(values[place])
    given[key].t.CopyFrom(from_array(values))


def threshold_up(proto, place):
    one_moved(proto, "nodes_splits", place, lambda value: np.nextafter(value, np.inf))


def threshold_down(proto, place):
    one_moved(proto, "nodes_splits", place, lambda value: np.nextafter(value, -np.inf))


def less_for_equal(proto, place):
    one_moved(proto, "nodes_modes", place, lambda mode: 1 - mode)


def leaf_moved(proto, place):
    one_moved(proto, "leaf_weights", place, lambda weight: weight + 1e-3)


def missing_turned(proto, place):
    node, given = ensemble_of(proto)
    old = given.get("nodes_missing_value_tracks_true")
    turned = list(old.ints) if old else [0] * len(given["nodes_featureids"].ints)
    turned[place] = 1 - turned[place]
    if old:
        node.attribute.remove(old)
    node.attribute.append(make_attribute("nodes_missing_value_tracks_true", turned))


def other_column(proto, place):
    _, given = ensemble_of(proto)
    ids = given["nodes_featureids"].ints
    ids[place] = (ids[place] + 1) % 13


TREE_CHANGES = {
    threshold_up: "nodes_splits",
    threshold_down: "nodes_splits",
    less_for_equal: "nodes_modes",
    missing_turned: "nodes_featureids",
    other_column: "nodes_featureids",
    leaf_moved: "leaf_weights",
}


def edge_rows(source):
    """Rows of the example, each with one column missing, at a threshold, or next to one."""
    _, given = ensemble_of(source.proto)
    found = [source.rows]
    for column, value in zip(
        given["nodes_featureids"].ints, to_array(given["nodes_splits"].t), strict=True
    ):
        for near in (value, np.nextafter(value, np.inf), np.nextafter(value, -np.inf), np.nan):
            rows = source.rows.copy()
            rows[:, column] = near
            found.append(rows)
    return np.concatenate(found)


def answers(source, proto):
    with OnnxModel(proto.SerializeToString(), open_signature(source.signature)) as model:
        return model.run(edge_rows(source))["probabilities"]


@pytest.mark.parametrize("change", TREE_CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", TREES)
def test_trees_that_are_wrong_in_one_place(name, change):
    source = source_of(name)
    check(source, source.proto)
    right = answers(source, source.proto)
    seen = 0
    for place in places(name, TREE_CHANGES[change]):
        proto = copy_of(source)
        change(proto, place)
        if np.allclose(answers(source, proto), right, rtol=0, atol=2e-6, equal_nan=True):
            continue  # as one bit of a threshold is, between two numbers of float32
        with pytest.raises(ParityError):
            check(source, proto)
        seen += 1
    assert seen or name == "tree"  # which compares in float32, where no number is a threshold


def numbers_moved(proto):
    """Yields the graph with each number of its constants moved by a hundredth."""
    for which, constant in enumerate(proto.graph.initializer):
        if constant.data_type != 11:
            continue
        values = to_array(constant)
        for place in range(values.size):
            moved = values.copy()
            moved.flat[place] += 0.01 * max(1.0, abs(moved.flat[place]))
            wrong = onnx.ModelProto()
            wrong.CopyFrom(proto)
            wrong.graph.initializer[which].CopyFrom(from_array(moved, constant.name))
            yield wrong


def texts_exchanged(proto):
    """Yields the graph with two of the texts, or of their numbers, of an operator exchanged."""
    for which, node in enumerate(proto.graph.node):
        for number, attribute in enumerate(node.attribute):
            if node.op_type != "LabelEncoder" or not attribute.name.startswith(("keys", "values")):
                continue
            wrong = onnx.ModelProto()
            wrong.CopyFrom(proto)
            held = wrong.graph.node[which].attribute[number]
            if held.HasField("t"):
                held.t.CopyFrom(from_array(to_array(held.t)[::-1].copy()))
            else:
                kept = held.strings or held.ints
                kept[:] = kept[::-1]
            yield wrong


@pytest.mark.parametrize("changes", [numbers_moved, texts_exchanged])
def test_columns_that_are_wrong_in_one_place(changes):
    source = source_of("columns")
    wrong = list(changes(source.proto))
    assert wrong
    for proto in wrong:
        with pytest.raises(ParityError):
            check(source, proto)

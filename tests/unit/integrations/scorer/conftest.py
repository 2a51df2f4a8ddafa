"""Packages of graphs and estimators that Scorers of several files open: each saved once."""

import numpy as np
import pandas as pd
import pytest
from helpers.graphs import model_of, tensor
from helpers.scored import save_graph
from onnx import TensorProto
from sklearn.linear_model import LinearRegression, LogisticRegression

import modelkit as mk

R = np.random.default_rng(0)
STRING = TensorProto.STRING


@pytest.fixture(scope="session")
def sums(tmp_path_factory):
    """The sum of three floats of a tensor without columns."""
    graph = model_of(
        [("ReduceSum", ["x", "axis"], ["y"], {"keepdims": 0})],
        [tensor("x", "n", 3)],
        [tensor("y", "n")],
        {"axis": np.array([1])},
    )
    folder = tmp_path_factory.mktemp("sums")
    return save_graph(graph, folder / "m.mk", x=np.zeros((4, 3), np.float32))


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A text, as it is."""
    graph = model_of(
        [("Identity", ["x"], ["y"], {})],
        [tensor("x", "n", kind=STRING)],
        [tensor("y", "n", kind=STRING)],
    )
    folder = tmp_path_factory.mktemp("texts")
    return save_graph(graph, folder / "m.mk", x=np.full(4, "a", object))


@pytest.fixture(scope="session")
def arrays(tmp_path_factory):
    """A model that was trained on an array of three columns."""
    X = R.normal(size=(60, 3))
    path = tmp_path_factory.mktemp("arrays") / "m.mk"
    mk.save(LinearRegression().fit(X, X.sum(axis=1)), path, example=X, name="m", version="1")
    return path


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """A model that was trained on a frame whose columns are numbers."""
    X = pd.DataFrame(R.normal(size=(200, 2)))
    path = tmp_path_factory.mktemp("numbered") / "m.mk"
    mk.save(LogisticRegression().fit(X, X[0] > 0), path, example=X, name="m", version="1")
    return path, X


@pytest.fixture(scope="session")
def alike(tmp_path_factory):
    """Two outputs, of which the columns of one are named as the other."""
    graph = model_of(
        [("Gather", ["x", "first two"], ["y"], {"axis": 1}),
         ("Gather", ["x", "first"], ["y_0"], {"axis": 1})],
        [tensor("x", "n", 3)],
        [tensor("y", "n", 2), tensor("y_0", "n")],
        {"first two": np.array([0, 1]), "first": np.array(0)},
    )  # fmt: skip
    return save_graph(
        graph, tmp_path_factory.mktemp("alike") / "m.mk", x=np.zeros((7, 3), np.float32)
    )

"""Packages that Scorers, Dask and MLflow are given: each saved once."""

import numpy as np
import pytest
from helpers.graphs import model_of, tensor
from helpers.scored import save_graph, save_package


@pytest.fixture(scope="session")
def package(once):
    return once("scored.mk", save_package)


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """An output of which only the rows tell how many values it has."""
    graph = model_of(
        [("Identity", ["x"], ["y"], {})], [tensor("x", "n", "k")], [tensor("y", "n", "k")]
    )
    folder = tmp_path_factory.mktemp("wide")
    return save_graph(graph, folder / "m.mk", x=np.zeros((4, 3), np.float32))

"""The package that Scorers, Dask and MLflow are given: saved once."""

import pytest
from helpers.scored import save_package


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    return save_package(tmp_path_factory.mktemp("scored") / "p.mk")

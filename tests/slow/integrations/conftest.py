"""The package that Scorers, Dask and MLflow are given: saved once."""

import pytest
from helpers.scored import save_package


@pytest.fixture(scope="session")
def package(once):
    return once("scored.mk", save_package)

"""The packages that every engine scores: each saved once, when it is asked for first."""

import pytest
from helpers.engines import Packages


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    return Packages(tmp_path_factory.mktemp("engines"))

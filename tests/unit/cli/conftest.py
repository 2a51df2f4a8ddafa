"""What the tests of commands share: packages of a model, one of them of other rows, which registries hold."""

import pytest


@pytest.fixture(scope="session")
def packages(churn_packages):
    return churn_packages

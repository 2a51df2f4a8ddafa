"""What the tests of the registry share: one with three versions of a model."""

import pytest
from helpers.churn import ALL_VERSIONS, registry_at


@pytest.fixture
def registry(tmp_path, churn_packages):
    return registry_at(tmp_path / "models", churn_packages, ALL_VERSIONS)


@pytest.fixture
def released(registry):
    """The same, where the first version is the champion."""
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return registry

"""What the tests of retraining share: a registry with a champion."""

import pytest
from helpers.retrainings import registry_at


@pytest.fixture
def registry(retrained_packages, tmp_path):
    return registry_at(tmp_path / "models", retrained_packages)

"""What the tests of rollouts share: a clock that goes by hand, and a registry of models that say their number."""

import pytest
from helpers.churn import ALL_VERSIONS, registry_at
from helpers.rollouts import Clock, registry_of_numbers

import modelkit as mk


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.rollout.perf_counter_ns", clock)
    return clock


@pytest.fixture
def registry(numbered_packages, tmp_path):
    return registry_of_numbers(numbered_packages, tmp_path / "models")


@pytest.fixture
def two(churn_packages):
    """Two versions of a model that are not registered."""
    return [mk.load(churn_packages / f"{version}.mk", threads=1) for version in ("1.0.0", "1.1.0")]


@pytest.fixture
def churn(churn_packages, tmp_path):
    """A registry of three versions, the first of which is the champion."""
    registry = registry_at(tmp_path / "models", churn_packages, ALL_VERSIONS)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return registry

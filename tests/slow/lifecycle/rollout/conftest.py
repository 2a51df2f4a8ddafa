"""What the slow tests of rollouts share: a clock that goes by hand, and a registry of models that say their number."""

import pytest
from helpers.rollouts import Clock, registry_of_numbers


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.rollout.perf_counter_ns", clock)
    return clock


@pytest.fixture
def registry(numbered_packages, tmp_path):
    return registry_of_numbers(numbered_packages, tmp_path / "models")

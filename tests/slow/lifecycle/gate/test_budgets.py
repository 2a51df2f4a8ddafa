"""Budgets are measured on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import modelkit as mk
from modelkit.errors import UsageError


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel tells no peak")
def test_budgets_are_measured_here(judged_pair, judged_rows):
    budgets = {"p50_ratio": 50, "p99_ratio": 500, "memory_ratio": 3, "size_ratio": 1.5}
    found = mk.gate(
        *judged_pair, *judged_rows, margin=0.05, budgets={**budgets, "memory_bytes": 10}
    )
    outcomes = {check.name: check.outcome for check in found.checks if check.part == "budget"}
    assert set(outcomes) == {*budgets, "memory_bytes"}
    assert outcomes["p50_ratio"] == outcomes["memory_ratio"] == outcomes["size_ratio"] == "pass"
    assert outcomes["memory_bytes"] == "fail"
    assert found["memory_bytes"].estimate > 1_000_000
    with mk.load(judged_pair[0]) as model, pytest.raises(UsageError, match="pass its path"):
        mk.gate(model, judged_pair[1], *judged_rows, margin=0.05, budgets={"memory_ratio": 3})

"""Budgets are measured on this machine."""

from __future__ import annotations

import modelkit as mk


def test_budgets_are_measured_here(judged_pair, judged_rows):
    budgets = {"p50_ratio": 50, "p50_seconds": 1e-9, "size_ratio": 1.5}
    found = mk.gate(*judged_pair, *judged_rows, margin=0.05, budgets=budgets)
    outcomes = {check.name: check.outcome for check in found.checks if check.part == "budget"}
    assert outcomes == {"p50_ratio": "pass", "p50_seconds": "fail", "size_ratio": "pass"}

"""What processes do that gate at the same time. It imports little, since each of them imports it."""

from __future__ import annotations

import modelkit as mk
from modelkit.errors import Conflict
from modelkit.lifecycle.gate.holdout import counted_use


def promote(url, version, verdict, ready, results):
    """Let a version become the champion by its verdict, when all others are ready to."""
    registry = mk.Registry(url)
    ready.wait(60)
    try:
        registry.set_alias(
            "churn",
            "champion",
            version,
            expected="1.0.0",
            reason="gate",
            verdict=mk.Verdict.from_json(verdict),
        )
        results.put((version, "won"))
    except Conflict:
        results.put((version, "lost"))


def use(url, digest, gates, results):
    """Count gates on one hold-out."""
    registry = mk.Registry(url)
    results.put([counted_use(registry.hold_out_folder(digest), gate) for gate in gates])

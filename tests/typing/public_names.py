"""What a user's type checker sees. mypy reads this file, and nobody runs it: a name that it does not know is `Any`."""

from typing import assert_type

import modelkit as mk
from modelkit.types import BatchPlan, Manifest, RetrainRun, Stats


def names_have_their_types(source: str, registry: mk.Registry) -> None:
    model = mk.load(source)
    assert_type(model, mk.Model)
    assert_type(mk.inspect(source), Manifest)
    with mk.Batcher(model) as batcher:
        assert_type(batcher, mk.Batcher)
        assert_type(batcher.plan, BatchPlan)
        assert_type(batcher.stats(), Stats)
    assert_type(mk.Meter(model).totals(), mk.types.MeterTotals)
    assert_type(registry.version("churn", "1"), mk.types.ModelVersion)
    assert_type(mk.Rollout(registry, "churn").status(), mk.types.RolloutProgress)
    assert_type(mk.devices(), tuple[mk.types.Device, ...])
    assert_type(mk.__version__, str)


def errors_and_events_are_modules(error: mk.errors.ModelkitError, event: mk.events.Event) -> None:
    assert_type(str(error), str)
    assert_type(str(event), str)


def runs(found: RetrainRun) -> mk.types.RetrainRun:
    return found

"""Losses are posted to a rollout of the log, or it is said why not."""

from __future__ import annotations

import pytest

import modelkit as mk
from modelkit.lifecycle.rollout.losses import post_outcomes

LOSS = (mk.Guard("loss", margin=0.02),)


POLICY = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), LOSS, tick=0.05)


def test_where_nothing_is_registered_that_is_said(registry, tmp_path):
    for where, name in ((registry, "other"), (mk.Registry(tmp_path / "nowhere"), "m")):
        with pytest.raises(mk.errors.NotFound):
            post_outcomes(where, name, [("k", 0.5)])


def test_a_post_makes_nothing_where_the_registry_was_removed(registry, tmp_path):
    registry.start_rollout("m", "2", POLICY, reason="try")
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    with pytest.raises(mk.errors.RegistryError, match="was removed"):
        post_outcomes(registry, "m", [("k", 0.5)])
    assert not (tmp_path / "models").exists()

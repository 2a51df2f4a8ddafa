"""Finds the Rollout within the layers of a Model."""

from __future__ import annotations

from modelkit.lifecycle.rollout.rollout import Rollout
from modelkit.model.model import Model


def rollout_in(model: Model) -> Rollout | None:
    """The Rollout that chooses who answers; None where one Model answers everything."""
    layer: Model | None = model
    while layer is not None and not isinstance(layer, Rollout):
        layer = layer.inner
    return layer

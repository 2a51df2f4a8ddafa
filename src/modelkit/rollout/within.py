"""Finds the Rollout within the layers of a Model."""

from __future__ import annotations

from modelkit.model import Model
from modelkit.rollout.rollout import Rollout


def rollout_in(model: Model) -> Rollout | None:
    """The Rollout that chooses who answers; None where one Model answers everything."""
    layer: Model | None = model
    while layer is not None and not isinstance(layer, Rollout):
        layer = layer.inner
    return layer

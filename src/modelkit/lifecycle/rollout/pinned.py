"""One arm of a Rollout, for whoever has to stay with it, as an Explainer does."""

from __future__ import annotations

from typing import final

from modelkit.lifecycle.rollout.lineup import Lineup
from modelkit.model.activation import Activation
from modelkit.model.model import Model
from modelkit.model.wrapper import Wrapper


@final
class Pinned(Wrapper):
    """A Model of an Activation, which is not drained while this is held.

    Args:
        model: the Model.
        activation: the Activation that it belongs to.
    """

    __slots__ = ("_activation",)

    def __init__(self, model: Model, activation: Activation[Lineup]) -> None:
        super().__init__(model)
        self._activation = activation

    @property
    def unobserved(self) -> Model:
        """The same without Monitors in it."""
        inner = self._inner.unobserved
        return self if inner is self._inner else Pinned(inner, self._activation)

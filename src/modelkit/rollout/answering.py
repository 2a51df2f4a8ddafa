"""One of the Models that may answer, and its answers with who gave them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

import numpy as np

from modelkit.identity import Identity, identity_of
from modelkit.model import Call, Model, Outputs
from modelkit.signature import Feeds

Way = Callable[[Any, tuple[str, ...], Call], Outputs]
AsyncWay = Callable[[Any, tuple[str, ...], Call], Awaitable[Outputs]]


@final
class SignedAnswers(dict[str, np.ndarray[Any, Any]]):
    """Outputs by name, and who answered.

    Attributes:
        served_by: the name, version and digest of the model.
    """

    __slots__ = ("served_by",)

    served_by: Identity


@final
class Arm:
    """One of the Models that may answer, and its ways to do so.

    Args:
        model: the Model.
        like: the Model by whose signature feeds are coerced.
    """

    __slots__ = ("_like", "aways", "identity", "model", "signature", "ways")

    def __init__(
        self,
        model: Model,
        like: Model,
    ) -> None:
        same = model.signature == like.signature
        self.model = model
        self.signature = model.signature
        self.identity = identity_of(model)
        self.ways: tuple[Way, Way] = (model._call, model._run if same else self._run)
        self.aways: tuple[AsyncWay, AsyncWay] = (
            model._acall,
            model._arun if same else self._arun,
        )
        self._like = like.signature

    def _run(
        self,
        feeds: Feeds,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Outputs:
        return self.model._call(self.rows(feeds), outputs, call)

    def _arun(
        self,
        feeds: Feeds,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Awaitable[Outputs]:
        return self.model._acall(self.rows(feeds), outputs, call)

    def rows(self, feeds: Feeds) -> Outputs:
        """Feeds as rows, which any signature can check."""
        return self._like.columns(feeds)

    def sign(self, answers: Outputs) -> SignedAnswers:
        """The answers with who gave them, which a Rollout within this one knows better."""
        if isinstance(answers, SignedAnswers):
            return answers
        signed = SignedAnswers(answers)
        signed.served_by = self.identity
        return signed

    def sign_some(self, answers: Outputs, outputs: tuple[str, ...]) -> SignedAnswers:
        """Those of the answers that the call asked for, with who gave them."""
        signed = SignedAnswers({name: answers[name] for name in outputs})
        signed.served_by = self.sign(answers).served_by
        return signed

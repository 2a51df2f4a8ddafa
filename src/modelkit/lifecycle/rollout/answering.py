"""One of the Models that may answer, and its answers with who gave them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NoReturn, final

import numpy as np

from modelkit.errors import ClosedError
from modelkit.model.identity import Identity, identity_of
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import Wrapper


@final
class SignedAnswers(dict[str, np.ndarray[Any, Any]]):
    """Outputs by name, and who answered.

    Attributes:
        served_by: the name, version and digest of the model.
    """

    __slots__ = ("served_by",)

    served_by: Identity


def _sign(identity: Identity, answers: Outputs) -> SignedAnswers:
    """The answers with who gave them, which a Rollout within this one knows better."""
    if isinstance(answers, SignedAnswers):
        return answers
    signed = SignedAnswers(answers)
    signed.served_by = identity
    return signed


def _sign_some(identity: Identity, answers: Outputs) -> SignedAnswers:
    signed = SignedAnswers(answers)
    signed.served_by = _sign(identity, whole_of(answers)).served_by
    return signed


@final
class SomeAnswers(dict[str, np.ndarray[Any, Any]]):
    """The outputs that a call asked for, by name, and `whole`, all that there are."""

    __slots__ = ("whole",)

    whole: Outputs


def whole_of(answers: Outputs) -> Outputs:
    """All outputs that are known of some."""
    return answers.whole if isinstance(answers, SomeAnswers) else answers


def _some_of(whole: Outputs, outputs: Iterable[str]) -> SomeAnswers:
    some = SomeAnswers({name: whole[name] for name in outputs})
    some.whole = whole
    return some


def copied(answers: Outputs) -> Outputs:
    """The answers as arrays of our own, which the caller does not change."""
    whole = {name: array.copy() for name, array in whole_of(answers).items()}
    return _some_of(whole, answers) if isinstance(answers, SomeAnswers) else whole


@final
class Whole(Wrapper):
    """A Model of which all outputs are computed, for the marks of guards, whatever a call asks for."""

    __slots__ = ("_every",)

    def __init__(self, inner: Model) -> None:
        super().__init__(inner)
        self._every = inner.signature.output_names

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        return _some_of(self._inner._call(X, self._every, call), outputs)

    async def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        return _some_of(await self._inner._acall(X, self._every, call), outputs)


@final
class Arm:
    """One of the Models that may answer.

    Args:
        model: the Model.
        marked: whether all outputs are needed, whatever a call asks for.

    Attributes:
        asked: what is asked for answers.
        sign: gives answers with who gave them.
    """

    __slots__ = ("acall", "asked", "call", "identity", "manifest", "model", "sign", "signature")

    def __init__(self, model: Model, *, marked: bool = False) -> None:
        self.model = model
        self.asked = Whole(model) if marked else model
        self.signature = model.signature
        self.manifest = model.manifest
        self.identity = identity_of(model)
        # No method of this object, which would keep it, and the Model, until garbage is collected.
        self.sign = partial(_sign_some if marked else _sign, self.identity)
        self.call = self.asked._call
        self.acall = self.asked._acall

    def closed(self) -> Arm:
        """The same of a Rollout that was closed: nobody answers."""
        arm = Arm(self.model)
        arm.call = arm.acall = _refuse
        return arm


def _refuse(X: object, outputs: tuple[str, ...], call: Call) -> NoReturn:
    del X, outputs, call
    raise ClosedError("the Rollout was closed")

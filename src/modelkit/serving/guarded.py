"""Guarded: a Model that asks a policy who may do what."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, final

from modelkit.errors import UsageError
from modelkit.model.access import Policy, check_access, check_policy
from modelkit.model.call import Action
from modelkit.model.identity import Identity, identity_of
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import Wrapper, check_is_model, has_several_versions, layers_of

# What may not be inside of a layer; of others, neither Guarded nor InputChecks.
INSIDE = {"audit.answers": ("Guarded",), "InputChecks": ("Guarded", "Answers", "InputChecks")}


@final
class Guarded(Wrapper):
    """A Model that answers as the one it wraps does, and whom a policy allows it.

        def policy(principal, action, about):
            return principal == "billing" and action == "predict"


        guarded = mk.Guarded(mk.layered(model), policy)
        with mk.acting_as("billing"):
            guarded.predict(X)

    It is the outermost layer, and asks before the rows of a call are looked at: what is denied
    reaches no layer inside, so a Meter, a Monitor and a Rollout count nothing of it. An Explainer of
    it asks for "explain", and an App for "outcome" before it takes losses.

    The policy is asked in the thread or task of the caller, which waits for it: let it look into the
    memory of the process, and nowhere else. `inner` and `base` answer anyone who has this object.

    Args:
        model: the Model to guard; of a Rollout, every version that it chooses is.
        policy: a function of the principal, a text or None; of the action, "predict", "explain" or
            "outcome"; and of the `Identity` of the model, of a Rollout the champion's. It gives True
            to allow it, and False or a text, the reason, to deny it. Anything else denies it too.

    Raises:
        TypeError: for anything but a Model, and for a policy that is async or cannot be called.
        AccessDenied: by every verb, where the policy does not give True.
    """

    __slots__ = ("_about", "_champion", "_policy")

    def __init__(self, model: Model, policy: Policy) -> None:
        check_is_model(model, "Guarded")
        self._policy = check_policy(policy)
        super().__init__(model)
        self._champion = (model.manifest, identity_of(model))
        self._about = None if has_several_versions(model) else self._champion[1]

    def _find_champion(self) -> Identity:
        """Which version of a Rollout answers now."""
        manifest = self._inner.manifest
        known, found = self._champion
        if manifest is not known:
            found = identity_of(self._inner)
            self._champion = (manifest, found)
        return found

    def _around(self, inner: Model) -> Model:
        return self if inner is self._inner else Guarded(inner, self._policy)

    def __reduce__(self) -> tuple[Any, ...]:
        return Guarded, (self._inner, self._policy)

    def _check_access(self, action: Action) -> bool:
        check_access(self._policy, action, self._about or self._find_champion())
        self._inner._check_access(action)
        return True

    def _call(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        check_access(self._policy, "predict", self._about or self._find_champion())
        return self._inner._call(X, outputs, call)

    def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Awaitable[Outputs]:
        check_access(self._policy, "predict", self._about or self._find_champion())
        return self._inner._acall(X, outputs, call)


def check_outside(model: Model, outer: str) -> None:
    """Raise UsageError where a layer that refuses calls is inside of what would count these, or run elsewhere."""
    inside = INSIDE.get(outer, ("Guarded", "InputChecks"))
    for layer in layers_of(model):
        kind = type(layer).__name__
        if kind in inside:
            raise UsageError(
                f"{kind} is a layer outside of {outer}, which would count what it refuses: put it around, "
                f"{kind}({outer}(...), ...)"
            )

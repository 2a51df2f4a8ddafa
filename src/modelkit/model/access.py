"""Who asks, and who may do what: a policy of the application decides.

The principal is the name of who asks, in a context variable: an App sets it for each request, and
you set it elsewhere by `acting_as`. What may be forbidden asks by `check_access`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import final

from modelkit.errors import AccessDenied, public_text
from modelkit.events import Denied, emit
from modelkit.model.call import Action
from modelkit.model.identity import Identity

Policy = Callable[[str | None, Action, Identity], bool | str]

_principal: ContextVar[str | None] = ContextVar("modelkit_principal", default=None)
principal = _principal.get


@final
class acting_as:  # noqa: N801 - it reads as a statement, as `suppress` does
    """Let what is done within this block, in this thread or task, be done by a principal.

        with mk.acting_as("billing"):
            guarded.predict(X)

    Args:
        name: who asks, as your policy knows them; None for nobody.

    Raises TypeError for anything else.
    """

    def __init__(self, name: str | None) -> None:
        if not (name is None or isinstance(name, str)):
            kind = type(name).__name__
            raise TypeError(f"a principal is a text, or None for nobody; got {kind}")
        self._name = name

    def __enter__(self) -> None:
        self._before = _principal.set(self._name)

    def __exit__(self, *_error: object) -> None:
        _principal.reset(self._before)


def check_policy(policy: Policy) -> Policy:
    """The policy. Raises TypeError for one that cannot be called, or that would have to be awaited."""
    if not callable(policy):
        raise TypeError(
            f"a policy is a function of principal, action and about; got {type(policy).__name__}"
        )
    if iscoroutinefunction(policy) or iscoroutinefunction(type(policy).__call__):
        raise TypeError(
            f"a policy is a plain function, and {policy!r:.80} is async: look up what it needs before, "
            "as an async `auth` of an App may"
        )
    return policy


def check_access(policy: Policy, action: Action, about: Identity) -> None:
    """Ask a policy. Raises AccessDenied unless it gives True.

    Nothing else is permission: neither 1, nor what an async function gives, nor an error. The reason that a
    policy gives, a text, is part of the message.
    """
    who = _principal.get()
    cause: Exception | None = None
    found: object
    try:
        found = policy(who, action, about)
    except Exception as error:
        found = f"the policy failed: {public_text(error)}"
        cause = error
    if found is True:
        return
    if not isinstance(found, bool | str):
        found = f"the policy gave {type(found)} in place of True, False or a reason"
    reason = found or ""
    if not reason.isprintable():
        reason = repr(reason)  # a line break would look like another record of a log
    emit(Denied(about.name, about.version, action, who, reason))
    raise AccessDenied(
        f"{'an unknown caller' if who is None else repr(who)} lacks the permission {action!r} for "
        f"{about.title}{reason and f': {reason}'}",
        principal=who,
        action=action,
        about=about,
    ) from cause

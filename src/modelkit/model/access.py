"""Who asks, and who may do what: a policy of the application decides.

The principal is the name of who asks, in a context variable: an App sets it for each request, and
you set it elsewhere by `acting_as`. What may be forbidden asks by `check_access`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from modelkit.errors import AccessDenied
from modelkit.events import Denied, emit
from modelkit.model.identity import Identity

Action = Literal["load", "predict", "explain", "outcome", "export", "set_alias"]
Policy = Callable[[str | None, Action, Identity], bool | str]

_principal: ContextVar[str | None] = ContextVar("modelkit_principal", default=None)
principal = _principal.get


@contextmanager
def acting_as(name: str | None) -> Iterator[None]:
    """Let what is done within this block, in this thread or task, be done by a principal.

        with mk.acting_as("billing"):
            guarded.predict(X)

    Args:
        name: who asks, as your policy knows them; None for nobody.
    """
    before = _principal.set(name)
    try:
        yield
    finally:
        _principal.reset(before)


def check_access(policy: Policy, action: Action, about: Identity) -> None:
    """Ask a policy. Raises AccessDenied unless it gives True.

    The reason that a policy gives, a text, is part of the message.
    """
    who = _principal.get()
    found = policy(who, action, about)
    if found is True:
        return
    reason = found if isinstance(found, str) else ""
    emit(Denied(about.name, about.version, action, who, reason))
    raise AccessDenied(
        f"{who or 'nobody in particular'} may not {action.replace('_', ' ')} {about.title}"
        f"{': ' if reason else ''}{reason}",
        principal=who,
        action=action,
        about=about,
    )

"""What a caller may say of one call: by when, how urgent, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelkit.errors import UsageError

# What a policy allows.
Action = Literal["load", "predict", "explain", "outcome", "export", "set_alias"]


@dataclass(frozen=True)
class Call:
    """How one call wants to be served.

    `deadline` is a point on `time.monotonic()`, in seconds. `priority` is 0, or -1 for work that
    may wait. `key` is what a rollout routes by. A bare model ignores all three and runs at once;
    wrappers act on them.
    """

    deadline: float | None = None
    priority: int = 0
    key: str | None = None


PLAIN = Call()


def make_call(deadline: float | None, priority: int, key: str | None) -> Call:
    """A Call from what a user passes, with `deadline` in seconds from now.

    Raises UsageError for another priority, and for a deadline that is not positive; TypeError for
    a key that is not a text, which a rollout that begins later could not hash.
    """
    if deadline is None and priority == 0 and key is None:
        return PLAIN
    if priority not in (0, -1):
        raise UsageError(f"priority is 0, or -1 for work that may wait; got {priority!r}")
    if key is not None and not isinstance(key, str):
        raise TypeError(f"a key is a text, such as str(customer); got {key!r}")
    if deadline is None:
        return Call(None, priority, key)
    try:
        positive = deadline > 0
    except TypeError:  # a text, for one
        positive = False
    if not positive:
        raise UsageError(f"deadline is in seconds from now and must be positive; got {deadline!r}")
    import time

    return Call(time.monotonic() + deadline, priority, key)

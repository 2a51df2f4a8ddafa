"""Who writes an entry of a log, and when."""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from datetime import UTC, datetime
from typing import Any

from modelkit.errors import UsageError
from modelkit.lifecycle.registry.log import Entry, State


def entry_after(state: State, version: str, reason: str, **more: Any) -> Entry:
    """The next entry of a log."""
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError("a reason is needed: readers of the history look for it")
    return Entry(
        generation=state.generation + 1,
        at=time_now(),
        actor=author(),
        reason=reason,
        version=version,
        id=uuid.uuid4().hex,
        previous=state.last,
        **more,
    )


def time_now() -> str:
    """The time in ISO 8601 and UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def author() -> str:
    """User and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in many containers
        user = f"user {os.getuid()}" if hasattr(os, "getuid") else "someone"
    return f"{user}@{socket.gethostname()}"

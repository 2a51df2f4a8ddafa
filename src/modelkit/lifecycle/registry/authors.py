"""Who writes an entry of a log, and when."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime

from modelkit.errors import UsageError


def signed(reason: str) -> dict[str, str]:
    """The fields of an entry that say when it was written, by whom, and why."""
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError("a reason is needed: readers of the history look for it")
    return {"at": time_now(), "actor": author(), "reason": reason}


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

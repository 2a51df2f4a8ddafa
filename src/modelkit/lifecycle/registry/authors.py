"""Who writes an entry of a log, when, and who hears of it."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime

from modelkit.errors import UsageError
from modelkit.events import AliasSet, emit
from modelkit.lifecycle.registry.log import Entry


def signed(reason: str) -> dict[str, str]:
    """The fields of an entry that say when it was written, by whom, and why."""
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError("a reason is needed: readers of the history look for it")
    return {"at": time_now(), "actor": author(), "reason": reason}


def announced(name: str, entry: Entry) -> Entry:
    """The entry, with an event where it sets an alias, as a promotion does."""
    if entry.alias:
        emit(AliasSet(name, entry.alias, entry.version, entry.was or "", entry.reason))
    return entry


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

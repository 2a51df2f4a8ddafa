"""The names of folders in a registry, and what people read about it: its card, and that something is not there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from modelkit.errors import RegistryError
from modelkit.lifecycle.registry.log import Alias
from modelkit.report import html

ENTRY_ID = re.compile("[0-9a-f]{32}")


def folder_of(number: int, entry_id: str) -> str:
    """The name of the folder of what an entry begins; its id keeps it apart after a log was replaced.

    Raises RegistryError for an id that would lead elsewhere.
    """
    if not ENTRY_ID.fullmatch(entry_id):
        raise RegistryError(
            f"the id of an entry is {entry_id!r:.60}, and not 32 hexadecimal digits: it was written by "
            "hand; put back the log, from a copy of the registry"
        )
    return f"{number:010d}-{entry_id}"


def registry_card(url: str, aliases: Mapping[str, Mapping[str, Alias]]) -> str:
    """The models of a registry, and what their aliases name."""
    rows = [
        (name, alias, *now._cells())
        for name, named in aliases.items()
        for alias, now in named.items()
    ]
    header = ("model", "alias", "version", "since", "by", "reason")
    return html.card(f"Registry {url}", [("models", html.some(list(aliases)))], header, rows)


def nothing_there(url: str) -> str:
    """What is said of a place where nothing was ever registered."""
    return (
        f"there is no registry at {url}: no package was ever registered there. Is the path right? "
        "The first package that is registered makes one"
    )


def removed(url: str, what: str) -> str:
    """What is said of a version that an alias names, and whose files are gone."""
    there = url if "://" in url or Path(url).exists() else f"{url}, which is not there any more"
    return (
        f"{what} is gone from {there}. Put back what was removed or renamed, or open the registry "
        "where it is now"
    )

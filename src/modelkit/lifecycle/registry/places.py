"""What people read about a registry: its card, and that something is not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelkit.lifecycle.registry.log import Alias
from modelkit.report import html


def registry_card(url: str, aliases: Mapping[str, Mapping[str, Alias]]) -> str:
    """The models of a registry, and what their aliases name."""
    rows = []
    for name, named in aliases.items():
        for alias, now in named.items():
            rows.append((name, alias, now.version, now.at, now.actor, now.reason))
    header = ("model", "alias", "version", "since", "by", "reason")
    facts = [("models", html.some(list(aliases)))]
    return html.card(f"Registry {url}", facts, header, rows)


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

"""The card of a Registry."""

from __future__ import annotations

from collections.abc import Mapping

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

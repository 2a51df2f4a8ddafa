"""What is said of a registry, or a version of it, that is not there."""

from __future__ import annotations

from pathlib import Path


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

"""Where the files of a registry lie, and how a package is copied out of it."""

from __future__ import annotations

from pathlib import Path

from modelkit.errors import PackageError
from modelkit.lifecycle.registry.bucket_package import check_package
from modelkit.lifecycle.registry.releases import ModelVersion
from modelkit.package.load import open_bytes


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


def kept_name(name: str, version: str, key: str) -> str:
    """The name of the file of what is kept beside a version."""
    return f"models/{name}/kept/{version}/{key}"


def verdict_name(digest: str) -> str:
    """The name of the file of a verdict."""
    return f"blobs/sha256/{digest}.verdict.json"


def is_package(path: Path, release: ModelVersion) -> bool:
    """Whether a file is the package of a release."""
    try:
        check_package(open_bytes(path), release)
    except PackageError:
        return False
    return True

"""By what a Model is known in metrics, events and logs."""

from __future__ import annotations

from typing import NamedTuple

from modelkit.model.model import Model


class Identity(NamedTuple):
    """What tells one model from another: what is counted of both, and what is said of them."""

    name: str
    version: str
    digest: str


def identity_of(model: Model) -> Identity:
    """The name, version and digest of the package of a Model; of its class if it has none."""
    manifest = model.manifest
    if manifest is None:
        return Identity(type(model.base).__name__, "", "")
    return Identity(manifest.name, manifest.version, manifest.digest)

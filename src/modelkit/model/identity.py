"""By what a Model is known in metrics, events and logs."""

from __future__ import annotations

from typing import NamedTuple

from modelkit.model.model import Model


class Identity(NamedTuple):
    """The name, version and digest of a model, by which its counts and events are kept apart."""

    name: str
    version: str
    digest: str

    @property
    def title(self) -> str:
        """The name and the version, as sentences have them."""
        return f"{self.name} {self.version}".strip()


def identity_of(model: Model) -> Identity:
    """The name, version and digest of the package of a Model; of its class if it has none."""
    manifest = model.manifest
    if manifest is None:
        return Identity(type(model.base).__name__, "", "")
    return Identity(manifest.name, manifest.version, manifest.digest)

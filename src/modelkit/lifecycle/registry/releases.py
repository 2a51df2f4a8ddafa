"""One version of a model in a registry, as a value."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

from modelkit._internal import fields
from modelkit._internal.json import parse_json
from modelkit.errors import RegistryError
from modelkit.report import html

DIGEST = re.compile("[0-9a-f]{64}")


class Recorded(Protocol):
    """A value with a record of its own, such as a Verdict."""

    def to_json(self) -> str:
        """The record."""


@final
@dataclass(frozen=True)
class ModelVersion:
    """One version of a model in a registry; it never changes, but a verdict may be added once.

    Attributes:
        name, version: of the package.
        digest: the digest of the package.
        model_digest: the digest of all that decides what the model answers.
        size: the size of the package in bytes.
        parents: the versions or digests it was made from.
        verdict: the digest of the verdict it was registered with, at once or later, or "".
        at: when it was registered, in ISO 8601 and UTC.
        actor: who registered it: user and machine.
    """

    name: str
    version: str
    digest: str
    model_digest: str
    size: int
    parents: tuple[str, ...]
    verdict: str
    at: str
    actor: str

    __repr__ = fields.brief

    def to_json(self) -> str:
        """The version as one JSON object."""
        return json.dumps(fields.write_object(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str, where: str = "the version") -> ModelVersion:
        """The inverse of `to_json`. Raises RegistryError for anything else."""
        try:
            return fields.read_known(ModelVersion, parse_json(text), where)
        except (RecursionError, ValueError) as error:
            raise RegistryError(f"{where} cannot be read: {error}") from None

    def __str__(self) -> str:
        return f"{self.name} {self.version}, sha256:{self.digest}, {self.at} by {self.actor}"

    def _cells(self) -> dict[str, str]:
        return {
            "version": self.version,
            "registered": self.at[:19].replace("T", " "),
            "by": self.actor,
            "bytes": f"{self.size:,}",
            "digest": self.digest[:12],
        }

    def _repr_html_(self) -> str:
        facts = [
            ("digest", f"sha256:{self.digest}"),
            ("model", f"sha256:{self.model_digest}"),
            ("size", f"{self.size:,} bytes"),
            ("parents", ", ".join(self.parents) or "none"),
            ("verdict", self.verdict or "none"),
            ("registered", f"{self.at} by {self.actor}"),
        ]
        return html.card(f"{self.name} {self.version}", facts)


def read_release(data: bytes, where: str, name: str, version: str) -> ModelVersion:
    """The release of a version from its file.

    Raises RegistryError for anything else, such as the release of another version: its fields are
    parts of paths.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise RegistryError(f"{where} cannot be read: {error}") from None
    release = ModelVersion.from_json(text, where)
    if (release.name, release.version) != (name, version):
        raise RegistryError(f"{where} is of {release.name!r} {release.version!r}")
    for digest in (release.digest, release.verdict or release.digest):
        if not DIGEST.fullmatch(digest):
            raise RegistryError(f"{where} cannot be read: {digest!r} is not a digest")
    return release


def parents_of(parents: Sequence[str]) -> tuple[str, ...]:
    """The parents of a release. Raises TypeError for a bare text, and for parents other than texts."""
    found = () if isinstance(parents, str) else tuple(parents)
    if isinstance(parents, str) or not all(isinstance(parent, str) for parent in found):
        raise TypeError(f"parents are a list of versions or digests, not {parents!r}")
    return found

"""Describe a package to a reviewer before it is opened, without running or hashing anything."""

from __future__ import annotations

import json
import platform
from collections import Counter
from dataclasses import dataclass
from typing import Any

from modelkit.errors import GraphError
from modelkit.model.manifest import Manifest
from modelkit.package import container, trust
from modelkit.package.contents import is_sealed
from modelkit.package.load import scan_graph
from modelkit.package.operators import decoded
from modelkit.package.scanned import Scan
from modelkit.package.sealing import read_seal
from modelkit.package.source import Openable, open_bytes, read_manifest


@dataclass(frozen=True)
class Review:
    """A package as it stands. Its members are not hashed: `load` does that.

    Attributes:
        manifest: what the package says about itself.
        operators: how often each ONNX operator occurs, by domain.
        installed: the versions here of the libraries that the package was made with or needs.
        needs: the keywords that `load` must be given, with their values.
        refused: why `load` would refuse the graph all the same; None if it would not.
    """

    manifest: Manifest
    operators: dict[str, dict[str, int]]
    installed: dict[str, str]
    needs: dict[str, Any]
    refused: str | None

    @property
    def opens(self) -> str:
        """One line that says how to open the package."""
        if self.refused is not None:
            return f"it is refused: {self.refused}"
        ways = []
        if "unseal" in self.needs:
            ways.append(
                f"unseal=, the key of one of {', '.join(self.needs['unseal'])}: it is sealed"
            )
        if "digest" in self.needs:
            ways.append(
                "digest= and allow={'joblib'}: opening it runs whatever code its author put into it"
            )
        elif "allow" in self.needs:
            ways.append(f"allow={set(self.needs['allow'])}: it uses operators of these domains")
        return "; ".join(ways) or "mk.load(path) is enough"

    def to_json(self) -> str:
        """One JSON document in ASCII, with the fields of the manifest and of this class."""
        more = {
            "digest": self.manifest.digest,
            "model_digest": self.manifest.model_digest,
            "operators": self.operators,
            "installed": self.installed,
            "needs": self.needs,
            "opens": self.opens,
            "refused": self.refused,
        }
        return json.dumps(json.loads(self.manifest.to_json()) | more, indent=1, sort_keys=True)


def review(source: Openable) -> Review:
    """Read a package for a reviewer.

    Raises PackageError where its container or manifest is damaged.
    """
    members = container.read_zip(open_bytes(source))
    manifest, _ = read_manifest(members)
    here = installed_here(manifest)
    needs: dict[str, Any] = {}
    if is_sealed(members):
        needs["unseal"] = list(read_seal(members).recipients)
    if manifest.runtime == "joblib":
        needs |= {"digest": manifest.digest, "allow": [trust.JOBLIB]}
    if needs:
        return Review(manifest, {}, here, needs, None)
    try:
        found = scan_graph({**members}, None)
    except GraphError as error:
        return Review(manifest, {}, here, {}, str(error))
    allowed = {"allow": found.beyond} if found.beyond else {}
    return Review(manifest, count_operators(found), here, allowed, None)


def installed_here(manifest: Manifest) -> dict[str, str]:
    """The versions here of Python and of the libraries that a package was made with or needs."""
    libraries = sorted({*manifest.versions, *manifest.requires} - {"python"})
    return {"python": platform.python_version(), **trust.installed(libraries)}


def count_operators(found: Scan) -> dict[str, dict[str, int]]:
    """How often each operator of a graph occurs, by domain; subgraphs count too."""
    by_domain: dict[str, dict[str, int]] = {}
    for (domain, name), count in sorted(Counter(node[:2] for node in found.nodes).items()):
        by_domain.setdefault(decoded(domain) or "ai.onnx", {})[decoded(name)] = count
    return by_domain

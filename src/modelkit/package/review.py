"""What a reviewer wants to know about a package before it is opened; runs nothing and hashes nothing."""

from __future__ import annotations

import json
import platform
from collections import Counter
from dataclasses import dataclass
from typing import Any

from modelkit.errors import GraphError
from modelkit.manifest import WEIGHTS_REF, Manifest
from modelkit.package import container, scan, trust
from modelkit.package.load import GRAPH, WEIGHTS_MEMBER, Openable, open_bytes, read_manifest


@dataclass(frozen=True)
class Review:
    """A package as it stands.

    `operators` are the ONNX operators by domain, with how often each occurs; `installed` the
    versions here of the libraries that the package was made with or needs; `needs` what `load` must
    be given, and `refused` why it would refuse the graph all the same. Members are not hashed:
    `load` does that.
    """

    manifest: Manifest
    operators: dict[str, dict[str, int]]
    installed: dict[str, str]
    needs: dict[str, Any]
    refused: str | None

    @property
    def opens(self) -> str:
        """What it would take to open the package, in a line."""
        if self.refused is not None:
            return f"it is refused: {self.refused}"
        if not self.needs:
            return "nothing: it opens with mk.load(path)"
        if self.manifest.runtime == "joblib":
            return (
                "digest= and allow={'joblib'}: opening it runs whatever code its author put into it"
            )
        return f"allow={set(self.needs['allow'])}: it uses operators of these domains"

    def to_json(self) -> str:
        """One JSON document, in ASCII; its keys are those of the manifest, and those of this class."""
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

    Raises PackageError where it has no sound container or manifest.
    """
    members = container.read_zip(open_bytes(source))
    manifest = read_manifest(members)
    here = installed_here(manifest)
    if manifest.runtime == "joblib":
        return Review(
            manifest, {}, here, {"digest": manifest.digest, "allow": [trust.JOBLIB]}, None
        )
    graph, weights = members[GRAPH], members.get(WEIGHTS_MEMBER)
    try:
        found = scan.scan(graph)
        scan.check_graph(
            graph, WEIGHTS_REF, None if weights is None else len(weights), domains=found.beyond
        )
        counts, refused = operators(found), None
    except GraphError as error:
        return Review(manifest, {}, here, {}, str(error))
    return Review(manifest, counts, here, {"allow": found.beyond} if found.beyond else {}, refused)


def installed_here(manifest: Manifest) -> dict[str, str]:
    """The versions here of Python and of the libraries that a package was made with or needs."""
    libraries = sorted({*manifest.versions, *manifest.requires} - {"python"})
    return {"python": platform.python_version(), **trust.installed(libraries)}


def operators(found: scan.Scan) -> dict[str, dict[str, int]]:
    """The operators of a graph by domain, with how often each occurs, in subgraphs and functions too."""
    counts = sum(found.functions.values(), Counter(found.calls))
    by_domain: dict[str, dict[str, int]] = {}
    for (domain, operator, _), count in sorted(counts.items()):
        names = by_domain.setdefault(scan.decoded(domain) or "ai.onnx", {})
        names[scan.decoded(operator)] = names.get(scan.decoded(operator), 0) + count
    return by_domain

"""`modelkit inspect`: what a package says about itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from modelkit.cli.arguments import Printed, add_command, escaped, package

if TYPE_CHECKING:
    from modelkit.model.manifest import Manifest


def add_inspect(verbs: Any) -> None:
    """The arguments of `modelkit inspect`."""
    about = "show what a package says about itself, without running it"
    add_command(verbs, "inspect", run_inspect, about, "file", "--registry", "--json")


def run_inspect(args: argparse.Namespace) -> Printed:
    """What a package says about itself, and what it takes to open it."""
    from modelkit.package.review import review

    found = review(package(args, args.file))
    if args.format == "json":
        return [found.to_json()], 0
    manifest = found.manifest
    facts = [("to open", found.opens), *manifest.facts()]
    for domain, counts in found.operators.items():
        counted = ", ".join(f"{count} {name}" for name, count in counts.items())
        facts.append(("operators", f"{domain}: {counted}"))
    here = other_versions(manifest, found.installed)
    if here:
        versions = ", ".join(f"{library} {version}" for library, version in here.items())
        facts.append(("here", versions))
    facts += [(kind, " ".join(row)) for kind, *row in manifest.signature.table()]
    lines = [f"{manifest.name} {manifest.version}"]
    lines += [f"  {name:<10} {value}" for name, value in facts]
    return escaped(lines), 0


def other_versions(manifest: Manifest, here: dict[str, str]) -> dict[str, str]:
    """The libraries of a manifest that are installed here in another version, or not at all."""
    made_with = manifest.versions | manifest.requires
    here = dict.fromkeys(manifest.requires, "none") | here
    return {
        library: here[library]
        for library, version in sorted(made_with.items())
        if here.get(library, version) != version
    }

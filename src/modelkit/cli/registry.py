"""`modelkit registry`: packages by name and version, and aliases that say which is current."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modelkit as mk
from modelkit.cli.arguments import (
    Printed,
    add_action,
    add_actions,
    name_and_version,
    plain_fields,
    printed,
    read_text,
)
from modelkit.errors import RegistryError, UsageError
from modelkit.report.html import some

if TYPE_CHECKING:
    from modelkit.lifecycle.registry.log import Alias
    from modelkit.lifecycle.registry.releases import ModelVersion

NONE = "none"  # what stands for an alias that there was not


def add_registry(verbs: Any) -> None:
    """The arguments of `modelkit registry`."""
    actions = add_actions(verbs, "registry", "keep packages by name and version, with aliases")
    action = add_action(actions, "list", run_list, "the models, or the versions of one")
    action.add_argument(
        "name", nargs="?", help="the model whose versions are listed; else all models"
    )
    either = "such as churn@champion or churn@1.2.0"
    add_action(actions, "show", run_show, "one version", model=either)
    about = "keep a package for ever"
    action = add_action(
        actions, "register", run_register, about, "--verdict", package="a package: a .mk file"
    )
    action.add_argument("--parent", action="append", default=[], help="what it was made from")
    action = add_action(
        actions,
        "alias",
        run_alias,
        "let an alias name another version",
        "--verdict",
        "--reason",
        "--force",
        model="name and alias, such as churn@champion",
        version="the version that it names from now on",
    )
    action.add_argument(
        "--expected",
        help=f"the version it names now, or its generation as '#12', in quotes; {NONE} for a new alias;"
        " not needed with --verdict",
    )
    about = "retire a version, which no alias can then name"
    version = "name and version, such as churn@1.0.0"
    add_action(actions, "retire", run_retire, about, "--reason", model=version)
    about = "keep a file beside a version, once"
    action = add_action(actions, "keep", run_keep, about, model=either, file="such as a report")
    action.add_argument("--key", help="what to call it there; else the name of the file")
    about = "who changed what, when and why"
    add_action(actions, "history", run_history, about, model="a name, or name and alias")
    about = "the path of a verified package on this machine"
    action = add_action(actions, "fetch", run_fetch, about, model=either)
    action.add_argument("--output", metavar="FOLDER", help="a folder to put it in")
    about = "write one HTML page: versions, aliases, what was found about each, rollouts, history"
    action = add_action(actions, "page", run_page, about)
    action.add_argument("--output", metavar="FILE", required=True, help="such as registry.html")


def run_list(args: argparse.Namespace) -> Printed:
    """The models and what their aliases name, or the versions of one model."""
    from modelkit.lifecycle.registry.places import nothing_there
    from modelkit.lifecycle.registry.versions import Versions
    from modelkit.store import open_store

    registry = mk.Registry(args.registry)
    if args.name is not None:
        return _list_versions(args, registry)
    plain = {}
    lines = []
    versions = Versions(open_store(args.registry))
    names = versions.names()
    if not names:
        raise RegistryError(nothing_there(registry.url))
    for name in names:
        aliases = {alias: now.version for alias, now in registry.aliases(name).items()}
        plain[name] = aliases
        named = ", ".join(f"{alias} {version}" for alias, version in aliases.items())
        listed = some(versions.of(name)) or "none"
        lines.append(f"{name}: {named or 'no alias'}; versions {listed}")
    return printed(args, plain, lines)


def _list_versions(args: argparse.Namespace, registry: mk.Registry) -> Printed:
    """The versions of one model, with the aliases that name each, and whether it was retired."""
    releases = registry.versions(args.name)
    state = registry.state(args.name)
    plain = []
    lines = []
    for release in releases:
        named = _naming(state.aliases, release)
        retired = state.retired.get(release.version)
        marks = named if retired is None else [*named, f"retired: {retired}"]
        plain.append({**plain_fields(release), "aliases": named, "retired": retired})
        lines.append(f"{release}{''.join(f'; {mark}' for mark in marks)}")
    return printed(args, plain, lines)


def _naming(aliases: Mapping[str, Alias], release: ModelVersion) -> list[str]:
    """The aliases that name a version."""
    return [alias for alias, now in aliases.items() if now.version == release.version]


def run_show(args: argparse.Namespace) -> Printed:
    """One version, and the aliases that name it."""
    name, which = name_and_version(args.model)
    registry = mk.Registry(args.registry)
    release = registry.version(name, which)
    plain = {**plain_fields(release), "aliases": _naming(registry.aliases(name), release)}
    lines = [str(release)]
    lines += [f"  {field:<12} {value}" for field, value in plain.items()]
    return printed(args, plain, lines)


def run_register(args: argparse.Namespace) -> Printed:
    """Keep a package under its name and version."""
    release = mk.Registry(args.registry).register(
        args.package, parents=args.parent, verdict=read_verdict(args.verdict)
    )
    return printed(args, plain_fields(release), [str(release)])


def run_alias(args: argparse.Namespace) -> Printed:
    """Let an alias name another version, if it still is what was expected."""
    name, alias = name_and_version(args.model)
    verdict = read_verdict(args.verdict)
    now = mk.Registry(args.registry).set_alias(
        name,
        alias,
        args.version,
        expected=_expected(args.expected, verdict),
        reason=args.reason,
        force=args.force,
        verdict=verdict,
    )
    line = f"{name}@{alias} is {now.version}, generation {now.generation}"
    return printed(args, plain_fields(now), [line])


def run_retire(args: argparse.Namespace) -> Printed:
    """Retire a version, which no alias can then name."""
    name, version = name_and_version(args.model)
    mk.Registry(args.registry).retire(name, version, reason=args.reason)
    plain = {"name": name, "retired": version}
    return printed(args, plain, [f"{name} {version} is retired: no alias can name it"])


def run_keep(args: argparse.Namespace) -> Printed:
    """Keep a file beside a version."""
    name, which = name_and_version(args.model)
    registry = mk.Registry(args.registry)
    path = Path(args.file)
    key = args.key or path.name
    version = registry.version(name, which).version
    registry.keep(name, version, key, path.read_bytes())
    plain = {"name": name, "version": version, "key": key}
    return printed(args, plain, [f"{key} is kept beside {name} {version}"])


def run_history(args: argparse.Namespace) -> Printed:
    """Every entry of a model's log, or every entry about one alias."""
    name, _, alias = args.model.partition("@")
    registry = mk.Registry(args.registry)
    entries = registry.history(name, alias or None)
    if not entries:
        registry.versions(name)  # raises NotFound for a name that is misspelt
    plain = [plain_fields(entry) for entry in entries]
    return printed(args, plain, [str(entry) for entry in entries])


def run_fetch(args: argparse.Namespace) -> Printed:
    """The path of a verified package."""
    name, which = name_and_version(args.model)
    path = mk.Registry(args.registry).fetch(name, which, args.output)
    return printed(args, str(path), [str(path)])


def run_page(args: argparse.Namespace) -> Printed:
    """Write a page of everything that the registry holds."""
    from modelkit.cli.registry_page import registry_page

    page = registry_page(mk.Registry(args.registry))
    Path(args.output).write_text(page, encoding="utf-8")
    return printed(args, args.output, [f"the page is in {args.output}"])


def read_verdict(path: str | None) -> mk.Verdict | None:
    """The Verdict in a file, or None. Raises PackageError."""
    return None if path is None else mk.Verdict.from_json(read_text(path))


def _expected(text: str | None, verdict: mk.Verdict | None) -> str | int | None:
    """What `--expected` stands for, or what a Verdict has judged.

    Raises UsageError for a generation that is not a number, and where there is neither.
    """
    if text is None and verdict is not None:
        return verdict.generation
    if text is None:
        raise UsageError(
            "pass --expected with the version that the alias names now, --expected none for a new "
            "alias, or --verdict"
        )
    if text == NONE:
        return None
    if not text.startswith("#"):
        return text
    if not text[1:].isdecimal():
        raise UsageError(f"a generation is a number, such as #12, not {text!r}")
    return int(text[1:])

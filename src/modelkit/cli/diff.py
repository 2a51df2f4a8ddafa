"""`modelkit diff`: in what two packages differ."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from textwrap import wrap
from typing import Any

from modelkit.cli.arguments import Printed, add_command, escaped, package


def add_diff(verbs: Any) -> None:
    """The arguments of `modelkit diff`."""
    about = "show how two packages differ: digests, facts, columns, figures"
    parser = add_command(verbs, "diff", run_diff, about, "file", "--registry")
    parser.add_argument("other", help="the package to compare it with")


def run_diff(args: argparse.Namespace) -> Printed:
    """Each fact, column or figure that differs, as it is in either package."""
    one, other = (dict(_facts(package(args, path))) for path in (args.file, args.other))
    names = [name for name in one | other if one.get(name) != other.get(name)]
    lines = [f"--- {args.file}", f"+++ {args.other}"]
    for name in names:
        lines.append(name)
        for mark, facts in (("-", one), ("+", other)):
            lines += wrap(
                facts.get(name, ""), 100, initial_indent=f"  {mark} ", subsequent_indent="    "
            )
    return escaped(lines if names else ["the packages are equal"]), 0


def _facts(path: str) -> Iterator[tuple[str, str]]:
    """What a package says about itself, and the figures of its Evaluation, by name."""
    from modelkit.lifecycle.evaluation.evaluation import EVALUATION_NAME, Evaluation
    from modelkit.package.source import open_bytes, read_verified

    manifest, members = read_verified(open_bytes(path))
    yield "name", manifest.name
    yield "version", manifest.version
    yield from ((name, value) for name, value in manifest.facts() if name != "file")
    for kind, name, dtype, shape, about in manifest.signature.table():
        yield f"{kind} {name}", f"{dtype} {shape} {about}"
    for each in manifest.attachments:
        if each.name == EVALUATION_NAME and each.path in members:  # not sealed
            found = Evaluation.from_json(str(members[each.path], "utf-8"))
            yield from ((figure.name, str(figure.value)) for figure in found.figures)

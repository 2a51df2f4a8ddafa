"""`modelkit export`: files that other programs read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from modelkit.cli.arguments import Printed, add_command, escaped, package
from modelkit.errors import ModelkitError, UsageError


def add_export(verbs: Any) -> None:
    """The arguments of `modelkit export`."""
    from modelkit.integrations.deploy import PLATFORMS
    from modelkit.integrations.grafana import Objectives

    parser = add_command(
        verbs,
        "export",
        run_check,
        "write files that other programs read, and check those that you have edited",
    )
    parser.add_argument(
        "--check", metavar="DIR", help="say whether the files of a folder fit together"
    )
    kinds = parser.add_subparsers(metavar="KIND")
    about = "a dashboard for Grafana, and alert rules for Prometheus"
    kind = add_command(kinds, "grafana", run_export_grafana, about)
    _add_output(kind)
    kind.add_argument(
        "--errors",
        type=float,
        default=Objectives.errors,
        help=f"the share of calls that may fail; {Objectives.errors:g} by default",
    )
    kind.add_argument(
        "--p99",
        type=float,
        default=Objectives.p99,
        help=f"seconds in which 99 of 100 calls are to be answered; {Objectives.p99:g} by default",
    )
    kind.add_argument(
        "--runbook",
        default=Objectives.runbook,
        help="the URL where you publish docs/reference/alerts.md, which alerts link to",
    )
    for name, platform in PLATFORMS.items():
        kind = add_command(kinds, name, run_export, platform.about, "file")
        kind.set_defaults(kind=name)
        _add_output(kind)
        kind.add_argument(
            "--image", default="", metavar="NAME", help="the name of the image; else the package's"
        )
        kind.add_argument(
            "--registry", default="", metavar="WHERE",
            help="a folder or URL, from which the package is fetched; else it is part of the image",
        )  # fmt: skip


def _add_output(kind: Any) -> None:
    about = "the folder; it is made if it does not exist"
    kind.add_argument("--output", metavar="FOLDER", required=True, help=about)
    kind.add_argument(
        "--force", action="store_true", help="overwrite files that were changed since"
    )


def run_export_grafana(args: argparse.Namespace) -> Printed:
    """Write the dashboard and the alert rules."""
    from modelkit.integrations.grafana import Objectives, alert_rules, dashboard

    objectives = Objectives(args.errors, args.p99, args.runbook)
    texts = {"dashboard.json": dashboard(), "alerts.yml": alert_rules(objectives)}
    files = {name: text.encode() for name, text in texts.items()}
    return _write(Path(args.output), files, force=args.force), 0


def run_check(args: argparse.Namespace) -> Printed:
    """Say whether the files of a folder fit one another."""
    if args.check is None:
        raise UsageError(
            "name what to export, as `modelkit export --help` lists it, or --check DIR"
        )
    from modelkit.integrations.deploy.check import checked

    problems, commands = checked(Path(args.check))
    if problems:
        return escaped(problems), 1
    return escaped(
        [f"the files in {args.check} fit one another; in that folder, run also:", *commands]
    ), 0


def run_export(args: argparse.Namespace) -> Printed:
    """Write the files by which a platform runs a package."""
    from modelkit.integrations.deploy import exported

    path = Path(package(args, args.file))
    files = exported(args.kind, path, args.image, args.registry)
    return _write(Path(args.output), files, force=args.force), 0


def _write(folder: Path, files: dict[str, bytes], *, force: bool) -> list[str]:
    """Write files into a folder, after whatever may forbid one of them; gives a line for each."""
    for parent in {(folder / name).parent for name in files}:
        parent.mkdir(parents=True, exist_ok=True)
    changed = [name for name, data in files.items() if _differs(folder / name, data)]
    if changed and not force:
        raise ModelkitError(
            f"{', '.join(changed)} in {folder} would change: you have edited it, or the "
            "package is another one; give another folder, or overwrite with --force"
        )
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [str(folder / name) for name in files]


def _differs(path: Path, data: bytes) -> bool:
    return path.exists() and path.read_bytes() != data

"""`modelkit export`: files that other programs read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from modelkit.cli.arguments import Printed, add_command
from modelkit.errors import ModelkitError
from modelkit.integrations.grafana import Objectives, alert_rules, dashboard


def add_export(verbs: Any) -> None:
    """The arguments of `modelkit export`."""
    parser = add_command(verbs, "export", None, "write files that other programs read")
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    about = "a dashboard for Grafana, and alert rules for Prometheus"
    kind = add_command(kinds, "grafana", run_export_grafana, about)
    kind.add_argument("--out", required=True, help="the folder; it is made if it is not there")
    kind.add_argument(
        "--errors",
        type=float,
        default=Objectives.errors,
        help=f"the part of calls that may fail; {Objectives.errors:g} by default",
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
        help="the URL where you publish docs/metrics.md, which alerts link to",
    )
    kind.add_argument(
        "--force", action="store_true", help="overwrite files that were changed since"
    )


def run_export_grafana(args: argparse.Namespace) -> Printed:
    """Write the dashboard and the alert rules."""
    objectives = Objectives(args.errors, args.p99, args.runbook)
    texts = {"dashboard.json": dashboard(), "alerts.yml": alert_rules(objectives)}
    return _write(Path(args.out), texts, force=args.force), 0


def _write(folder: Path, texts: dict[str, str], *, force: bool) -> list[str]:
    """Write files into a folder, all or none of them; gives a line for each."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = [name for name, text in texts.items() if _differs(folder / name, text)]
    if changed and not force:
        raise ModelkitError(
            f"{', '.join(changed)} in {folder} would be overwritten, and would change; give "
            "another folder, or --force"
        )
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [str(folder / name) for name in texts]


def _differs(path: Path, text: str) -> bool:
    return path.exists() and path.read_bytes() != text.encode()

"""`modelkit retrain`: what became of the retrainings of a model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import modelkit as mk
from modelkit import html
from modelkit.cli.printed import Printed, add_command
from modelkit.html import printable
from modelkit.retraining.history import runs_of


def add_retrain(verbs: Any) -> None:
    """The arguments of `modelkit retrain`."""
    parser = add_command(verbs, "retrain", "see when a model was trained again, and why not")
    parser.add_argument(
        "registry", metavar="WHERE", help="a folder, or the URL of a bucket (s3://, gs://, az://)"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, run, about in (
        ("status", run_status, "the last run, and the last refusal of one"),
        ("history", run_history, "every run and every refusal, with the reasons"),
    ):
        action = actions.add_parser(name, help=about)
        action.add_argument("name")
        action.add_argument("--json", action="store_true", help="print one JSON document")
        action.add_argument("--page", metavar="FILE", help="write it as a page of HTML too")
        action.set_defaults(run=run)


def run_status(args: argparse.Namespace) -> Printed:
    """The last run, and the last refusal of one."""
    runs = runs_of(mk.Registry(args.registry), args.name)
    refusals = [run for run in runs if run.number == 0]
    return _printed(args, [*[run for run in runs if run.number][-1:], *refusals[-1:]])


def run_history(args: argparse.Namespace) -> Printed:
    """Every run and every refusal."""
    return _printed(args, list(runs_of(mk.Registry(args.registry), args.name)))


def _printed(args: argparse.Namespace, runs: list[mk.Run]) -> Printed:
    if args.page:
        body = "".join(run._repr_html_() for run in runs)
        title = f"Retraining of {args.name}"
        Path(args.page).write_text(html.page(title, body), encoding="utf-8")
    if args.json:
        return [json.dumps([json.loads(run.to_json()) for run in runs])], True
    lines = "\n".join(map(str, runs)).splitlines() or [f"{args.name} was never trained again"]
    return [printable(line) for line in lines], True

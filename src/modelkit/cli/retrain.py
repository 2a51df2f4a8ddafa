"""`modelkit retrain`: what became of the retrainings of a model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_action, add_actions, printed
from modelkit.lifecycle.retrain.records import retrainings_of
from modelkit.report import html


def add_retrain(verbs: Any) -> None:
    """The arguments of `modelkit retrain`."""
    actions = add_actions(verbs, "retrain", "see when a model was trained again, and why not")
    for name, run, about in (
        ("status", run_status, "the last retraining, and the last refusal of one"),
        ("history", run_history, "every retraining and every refusal, with the reasons"),
    ):
        add_action(actions, name, run, about, "--html", name=None)


def run_status(args: argparse.Namespace) -> Printed:
    """The last retraining, and the last refusal of one."""
    found = _runs(args)
    runs = [run for run in found if run.number]
    refusals = [run for run in found if not run.number]
    return _listed(args, runs[-1:] + refusals[-1:])


def run_history(args: argparse.Namespace) -> Printed:
    """Every retraining and every refusal."""
    return _listed(args, _runs(args))


def _runs(args: argparse.Namespace) -> list[mk.types.RetrainRun]:
    return list(retrainings_of(mk.Registry(args.registry), args.name))


def _listed(args: argparse.Namespace, runs: list[mk.types.RetrainRun]) -> Printed:
    if args.html is not None:
        cards = [run._repr_html_() for run in runs]
        page = html.page(f"Retraining of {args.name}", *cards)
        Path(args.html).write_text(page, encoding="utf-8")
    lines = "\n".join(map(str, runs)).splitlines()
    if not lines:
        lines = [f"{args.name} was never trained again"]
    return printed(args, [json.loads(run.to_json()) for run in runs], lines)

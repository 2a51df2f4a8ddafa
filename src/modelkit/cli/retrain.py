"""`modelkit retrain`: what became of the retrainings of a model."""

from __future__ import annotations

import argparse
import json
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_action, add_actions
from modelkit.cli.tables import write_forms
from modelkit.report import html


def add_retrain(verbs: Any) -> None:
    """The arguments of `modelkit retrain`."""
    actions = add_actions(verbs, "retrain", "see when a model was trained again, and why not")
    for name, run, about in (
        ("status", run_status, "the last retraining, and the last refusal of one"),
        ("history", run_history, "every retraining and every refusal, with the reasons"),
    ):
        add_action(actions, name, run, about, "--output", name="the name of the model")


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
    from modelkit.lifecycle.retrain.records import retrainings_of

    return list(retrainings_of(mk.Registry(args.registry), args.name))


def _listed(args: argparse.Namespace, runs: list[mk.types.RetrainRun]) -> Printed:
    forms = {
        "txt": lambda: "\n".join(map(str, runs)) or f"{args.name} was never trained again",
        "json": lambda: json.dumps([json.loads(run.to_json()) for run in runs]),
        "html": lambda: html.page(
            f"Retraining of {args.name}", *(run._repr_html_() for run in runs)
        ),
    }
    return write_forms(args, forms), 0

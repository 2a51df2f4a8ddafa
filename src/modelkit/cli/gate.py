"""`modelkit gate`: whether a candidate may take the place of a champion."""

from __future__ import annotations

import argparse
from math import inf
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import (
    Printed,
    add_command,
    add_extra,
    add_options,
    between,
    reported,
    whole,
)
from modelkit.cli.csv import names_of
from modelkit.cli.evaluate import labelled_rows, positive_class
from modelkit.errors import UsageError
from modelkit.lifecycle.gate.policy import read_budgets

STATUS = {"promote": 0, "inconclusive": 3, "block": 4}


def add_gate(verbs: Any) -> None:
    """The arguments of `modelkit gate`."""
    parser = add_command(
        verbs,
        "gate",
        "say whether a candidate may take the place of a champion: the status is 0 for "
        "promote, 3 for inconclusive and 4 for block",
    )
    parser.add_argument("candidate", help="a package, or registry:NAME@VERSION")
    parser.add_argument(
        "--champion", required=True, help="a package, or registry:NAME@ALIAS of --registry"
    )
    parser.add_argument(
        "--registry", help="where the registry is, which counts gates on these rows"
    )
    add_options(parser, "--data", "--label", "--slice", "--clusters", "--queries", "--positive")
    add_options(parser, "--html", "--json")
    parser.add_argument(
        "--margin",
        required=True,
        action="append",
        help="how much worse it may be, such as 0.01; once as METRIC=NUMBER for each of several",
    )
    parser.add_argument("--metric", help="the primary metric; else the first of the task")
    parser.add_argument(
        "--alpha",
        type=between(0, 0.5),
        default=0.05,
        help="the probability of a false promotion; 0.05 by default",
    )
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        help="a metric that must be no worse, or a floor such as 'recall >= 0.6'",
    )
    parser.add_argument(
        "--veto", action="append", default=[], help="a metric that may not be harmed"
    )
    parser.add_argument(
        "--budget", action="append", default=[], help="what it may cost, such as p50_ratio=1.2"
    )
    add_extra(parser, "columns that the champion does not know and that no option names")
    parser.add_argument(
        "--seed", type=whole, default=0, help="of the draws for a metric of your own; 0 by default"
    )
    parser.add_argument("--out", help="write the Verdict to this file, as JSON")
    parser.add_argument("--junit", help="write it to this file, as JUnit")
    parser.set_defaults(run=run_gate)


def run_gate(args: argparse.Namespace) -> Printed:
    """Judge a candidate by the rows of a file, and write the Verdict where it is wanted."""
    budgets = read_budgets(dict(_pair("budget", text) for text in args.budget))
    margin = _margin(args.margin)
    registry = None if args.registry is None else mk.Registry(args.registry)
    signature = _signature(args.champion, registry)
    named = {*(args.slice or ()), args.clusters, args.queries}
    rows, truth = labelled_rows(args.data, args.label, signature, named)
    if args.extra == "ignore":
        known = {*signature.ignored, *names_of(signature), *named}
        rows = {name: values for name, values in rows.items() if name in known}
    verdict = mk.gate(
        args.candidate,
        args.champion,
        rows,
        truth,
        metric=args.metric,
        margin=margin,
        alpha=args.alpha,
        require=args.require,
        veto=args.veto,
        slices=args.slice,
        clusters=args.clusters,
        queries=args.queries,
        positive=positive_class(args.positive, signature),
        budgets=budgets,
        registry=registry,
        seed=args.seed,
    )
    args.unsound = STATUS[verdict.decision]
    return reported(args, verdict), verdict.decision == "promote"


def _signature(source: str, registry: mk.Registry | None) -> mk.Signature:
    """The signature of the champion, by which the cells of CSV are read."""
    if not source.startswith("registry:"):
        return mk.inspect(source).signature
    name, _, which = source.removeprefix("registry:").partition("@")
    if registry is None or not which:
        raise UsageError(f"{source!r} needs --registry WHERE, and the form registry:NAME@ALIAS")
    return mk.inspect(registry.fetch(name, which)).signature


def _margin(texts: list[str]) -> float | dict[str, float]:
    """One number for the primary metric, or numbers by metric."""
    if len(texts) == 1 and "=" not in texts[0]:
        return _number("margin", texts[0])
    return dict(_pair("margin", text) for text in texts)


def _pair(what: str, text: str) -> tuple[str, float]:
    name, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"--{what} {text!r} is written as NAME=NUMBER")
    return name.strip(), _number(what, value)


def _number(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < inf:
        raise UsageError(f"--{what}: {text!r} is not a number of at least 0")
    return value

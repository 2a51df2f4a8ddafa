"""`modelkit gate`: whether a candidate may take the place of a champion."""

from __future__ import annotations

import argparse
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import (
    LABELLED,
    Printed,
    add_command,
    add_extra,
    between,
    named_number,
    reported,
    whole,
)
from modelkit.cli.evaluate import labelled_rows, row_options
from modelkit.cli.registry import name_and_version
from modelkit.errors import UsageError
from modelkit.lifecycle.gate.policy import read_budgets

STATUS = {"promote": 0, "inconclusive": 3, "block": 4}


def add_gate(verbs: Any) -> None:
    """The arguments of `modelkit gate`."""
    about = (
        "say whether a candidate may take the place of a champion: the status is 0 for promote, 3 for "
        "inconclusive and 4 for block"
    )
    parser = add_command(verbs, "gate", run_gate, about, *LABELLED, "--unseal")
    parser.add_argument("candidate", help="a package, or registry:NAME@VERSION")
    parser.add_argument(
        "--champion", required=True, help="a package, or registry:NAME@ALIAS of --registry"
    )
    parser.add_argument(
        "--registry", help="where the registry is, which counts gates on these rows"
    )
    parser.add_argument(
        "--margin",
        required=True,
        action="append",
        type=named_number,
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
        "--budget", action="append", default=[], type=named_number,
        help="what it may cost, such as p50_ratio=1.2",
    )  # fmt: skip
    add_extra(parser, "columns that the champion does not know and that no option names")
    parser.add_argument(
        "--seed", type=whole, default=0, help="of the draws for a metric of your own; 0 by default"
    )
    parser.add_argument("--out", help="write the Verdict to this file, as JSON")
    parser.add_argument("--junit", help="write it to this file, as JUnit")


def run_gate(args: argparse.Namespace) -> Printed:
    """Judge a candidate by the rows of a file, and write the Verdict where it is wanted."""
    budgets = read_budgets(dict(args.budget))
    registry = None if args.registry is None else mk.Registry(args.registry)
    signature = _signature(args.champion, registry)
    rows, truth = labelled_rows(args.data, args, signature)
    if args.extra == "ignore":
        known = {*signature.ignored, *signature.column_names}
        known |= {*args.slice, args.clusters, args.queries}
        rows = {name: values for name, values in rows.items() if name in known}
    named = [name for name, _ in args.margin]
    verdict = mk.gate(
        args.candidate,
        args.champion,
        rows,
        truth,
        metric=args.metric,
        margin=args.margin[0][1] if named == [""] else dict(args.margin),
        alpha=args.alpha,
        require=args.require,
        veto=args.veto,
        budgets=budgets,
        registry=registry,
        unseal=args.unseal,
        seed=args.seed,
        **row_options(args, signature),
    )
    return reported(args, verdict), STATUS[verdict.decision]


def _signature(source: str, registry: mk.Registry | None) -> mk.Signature:
    """The signature of the champion, by which the cells of CSV are read."""
    if not source.startswith("registry:"):
        return mk.inspect(source).signature
    if registry is None:
        raise UsageError(f"{source!r} needs --registry WHERE")
    name, which = name_and_version(source.removeprefix("registry:"))
    return mk.inspect(registry.fetch(name, which)).signature

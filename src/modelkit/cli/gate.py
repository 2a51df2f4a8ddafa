"""`modelkit gate`: whether a candidate may take the place of a champion."""

from __future__ import annotations

import argparse
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import (
    LABELLED,
    REGISTRY,
    REPORT,
    Printed,
    add_command,
    between,
    named_number,
    package,
    registry_of,
    whole,
)
from modelkit.cli.evaluate import labelled_rows, row_options
from modelkit.cli.rows import known_columns
from modelkit.cli.tables import write_report

STATUS = {"promote": 0, "inconclusive": 3, "block": 4}


def add_gate(verbs: Any) -> None:
    """The arguments of `modelkit gate`."""
    parser = add_command(
        verbs,
        "gate",
        run_gate,
        "say whether a candidate may replace a champion: the status is 0 for promote, 3 for "
        "inconclusive and 4 for block",
        "file",
        *LABELLED,
        "--unseal",
        formats=(*REPORT, "xml"),
    )
    parser.add_argument(
        "--champion", required=True, help="the model to replace: a package, or registry:NAME@ALIAS"
    )
    parser.add_argument(
        "--registry", metavar="WHERE", help="the registry, which counts gates on these rows"
    )
    parser.add_argument(
        "--margin",
        required=True,
        action="append",
        type=named_number,
        help="how much worse it may be, such as 0.01; for several metrics, repeat METRIC=NUMBER",
    )
    parser.add_argument("--metric", help="the primary metric; else the task's first")
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
        help="a metric that must not be worse, or a floor such as 'recall >= 0.6'",
    )
    parser.add_argument(
        "--veto", action="append", default=[], help="a metric that must not get worse"
    )
    parser.add_argument(
        "--budget", action="append", default=[], type=named_number,
        help="a limit on time or size, such as p50_ratio=1.2",
    )  # fmt: skip
    parser.add_argument(
        "--seed",
        type=whole,
        default=0,
        help="the seed of the draws for your own metric; 0 by default",
    )


def run_gate(args: argparse.Namespace) -> Printed:
    """Judge a candidate by the rows of a file, and write the Verdict where it is wanted."""
    from modelkit.lifecycle.gate.policy import read_budgets

    budgets = read_budgets(dict(args.budget))
    named = [source for source in (args.champion, args.file) if source.startswith(REGISTRY)]
    registry = registry_of(args, *named[:1]) if named or args.registry else None
    # The cells of CSV are read by the champion's columns.
    signature = mk.inspect(package(args, args.champion)).signature
    rows, truth = labelled_rows(args.rows, args, signature)
    if args.extra == "ignore":
        known = {*signature.ignored, *args.slice, args.clusters, args.queries}
        rows = known_columns(rows, signature, known)
    metrics = [name for name, _ in args.margin]
    verdict = mk.gate(
        args.file,
        args.champion,
        rows,
        truth,
        metric=args.metric,
        margin=args.margin[0][1] if metrics == [""] else dict(args.margin),
        alpha=args.alpha,
        require=args.require,
        veto=args.veto,
        budgets=budgets,
        registry=registry,
        unseal=args.unseal,
        seed=args.seed,
        **row_options(args, signature),
    )
    return write_report(args, verdict), STATUS[verdict.decision]

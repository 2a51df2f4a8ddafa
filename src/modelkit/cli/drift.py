"""`modelkit drift`: whether rows are no longer like a reference."""

from __future__ import annotations

import argparse
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import ROWS_HELP, Printed, add_command, between, reported
from modelkit.cli.csv import known_columns, read_rows
from modelkit.drift.monitor import packaged
from modelkit.drift.units import columns_aside
from modelkit.embedding.verbs import is_encoder

ALARMED = 4


def add_drift(verbs: Any) -> None:
    """The arguments of `modelkit drift`."""
    about = "say whether rows have drifted away from a reference; the status is then 4"
    parser = add_command(verbs, "drift", run_drift, about, "--unseal", "--html", "--json")
    parser.add_argument(
        "file", help="a package: it names the columns, and its profile is the reference by default"
    )
    parser.add_argument("--current", required=True, help=f"{ROWS_HELP}; the rows in question")
    parser.add_argument(
        "--reference",
        help="a file of rows of the past; half of them make the cells, half are counted",
    )
    parser.add_argument(
        "--alpha",
        type=between(0, 1),
        default=0.01,
        help="the probability of a false alarm; 0.01 by default",
    )
    parser.add_argument("--csv", help="write PSI in ten bins of the reference to this file")


def run_drift(args: argparse.Namespace) -> Printed:
    """Compare the rows of a file with others, or with the profile in the package."""
    report = _compare(args)
    return reported(args, report), ALARMED if report.alarms else 0


def _compare(args: argparse.Namespace) -> mk.DriftReport:
    with mk.load(args.file, unseal=args.unseal) as model:
        signature = model.signature
        if args.reference is None:
            profile = packaged(model)
        else:
            past = known_columns(read_rows(args.reference, signature), signature)
            # Texts differ all the time; their vectors tell whether that matters.
            profile = mk.Profile.fit(past, model=model if is_encoder(model) else None)
        rows = read_rows(args.current, signature, columns_aside(profile.time, profile.unit))
        watched = any(feature.output for feature in profile.features)
        scores = model.run(known_columns(rows, signature)) if watched else None
        rows = known_columns(rows, signature, columns_aside(profile.time, profile.unit))
        return mk.Detector(profile, alpha=args.alpha).test(rows, scores=scores)

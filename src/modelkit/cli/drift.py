"""`modelkit drift`: whether rows are no longer like a reference."""

from __future__ import annotations

import argparse
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import REPORT, ROWS_HELP, Printed, add_command, between, opened
from modelkit.cli.rows import known_columns, read_rows
from modelkit.cli.tables import write_report

ALARMED = 4


def add_drift(verbs: Any) -> None:
    """The arguments of `modelkit drift`."""
    parser = add_command(
        verbs,
        "drift",
        run_drift,
        "say whether rows have drifted from a reference; the status is 4 if they have",
        "file",
        "rows",
        "--registry",
        "--unseal",
        formats=REPORT,
    )
    parser.add_argument(
        "--reference",
        help=f"past rows, {ROWS_HELP}; half of them define the cells, half are counted; by "
        "default the profile in the package is the reference",
    )
    parser.add_argument(
        "--alpha",
        type=between(0, 1),
        default=0.01,
        help="the probability of a false alarm; 0.01 by default",
    )


def run_drift(args: argparse.Namespace) -> Printed:
    """Compare rows with others, or with the profile in the package."""
    report = _compare(args)
    return write_report(args, report), ALARMED if report.alarms else 0


def _compare(args: argparse.Namespace) -> mk.DriftReport:
    from modelkit.drift.monitor import packaged
    from modelkit.drift.units import columns_aside
    from modelkit.embedding.verbs import is_encoder

    with opened(args) as model:
        signature = model.signature
        if args.reference is None:
            profile = packaged(model)
        else:
            past = known_columns(read_rows(args.reference, signature), signature)
            # Texts differ all the time; their vectors tell whether that matters.
            profile = mk.Profile.fit(past, model=model if is_encoder(model) else None)
        aside = columns_aside(profile.time, profile.unit)
        rows = read_rows(args.rows, signature, aside)
        watched = any(feature.output for feature in profile.features)
        scores = model.run(known_columns(rows, signature)) if watched else None
        rows = known_columns(rows, signature, aside)
        return mk.Detector(profile, alpha=args.alpha).test(rows, scores=scores)

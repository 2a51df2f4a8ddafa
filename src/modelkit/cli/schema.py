"""`modelkit schema`: what the rows of a model look like."""

from __future__ import annotations

import argparse
import json
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, escaped, package


def add_schema(verbs: Any) -> None:
    """The arguments of `modelkit schema`."""
    add_command(
        verbs,
        "schema",
        run_schema,
        "show what rows look like, or their JSON Schema with --json",
        "file",
        "--registry",
        "--json",
    )


def run_schema(args: argparse.Namespace) -> Printed:
    """A line for each column that rows have, with its type and what it may hold."""
    from modelkit.report.listing import aligned

    signature = mk.inspect(package(args, args.file)).signature
    if args.format == "json":
        return [json.dumps(signature.json_schema(), indent=1)], 0
    table = [["column", "type", "may be missing", "values"]]
    for spec in signature.inputs:
        whole = mk.Column(spec.name, spec.dtype, nullable=not spec.finite)
        for column in spec.columns or (whole,):
            values = column.categories or (() if spec.columns else ("shape", *spec.shape))
            missing = "yes" if column.nullable else "no"
            table.append([column.name, column.dtype, missing, ", ".join(map(str, values))])
    return escaped(aligned(table)), 0

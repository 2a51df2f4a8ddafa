"""`modelkit predict`: answers to the rows of a file."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, add_extra
from modelkit.cli.csv import read_rows
from modelkit.errors import SignatureError
from modelkit.model.model import Outputs
from modelkit.report.html import printable


def add_predict(verbs: Any) -> None:
    """The arguments of `modelkit predict`."""
    about = "predict the rows of a file and print CSV"
    parser = add_command(
        verbs, "predict", run_predict, about, "file", "--unseal", "--input", "--json"
    )
    add_extra(parser, "columns that the model does not know")


def run_predict(args: argparse.Namespace) -> Printed:
    """Predict every row of a file, and print the primary output and the probabilities."""
    with mk.load(args.file, extra=args.extra, unseal=args.unseal) as model:
        signature = model.signature
        outputs = model.run(read_rows(args.input, signature))
    if args.json:
        return [mk.to_json(outputs)], 0
    columns = _columns(signature, outputs)
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    shown = _printable_cells if sys.stdout.isatty() else list  # a file gets what the model gave
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(shown(columns))
    writer.writerows(map(shown, rows))
    return [table.getvalue().removesuffix("\n")], 0


def _columns(signature: mk.Signature, outputs: Outputs) -> Outputs:
    """The primary output, or all where none stands out, and a column for each probability."""
    names = signature.output_names
    if signature.primary is not None:
        names = (signature.primary,)
    columns = {name: outputs[name] for name in names if outputs[name].ndim == 1}
    if signature.has_probabilities and signature.classes is not None:
        for i, label in enumerate(signature.classes):
            columns[f"p({label})"] = outputs["probabilities"][:, i]
    if not columns:
        raise SignatureError(f"the outputs {signature.output_names} are not columns; use Model.run")
    return columns


def _printable_cells(row: Iterable[Any]) -> list[Any]:
    return [printable(cell) if isinstance(cell, str) else cell for cell in row]

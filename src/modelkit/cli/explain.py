"""`modelkit explain`: what each column of a row adds to its answer."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, add_extra, escaped, whole
from modelkit.cli.csv import read_rows
from modelkit.cli.evaluate import positive_class
from modelkit.errors import UsageError
from modelkit.report import html


def add_explain(verbs: Any) -> None:
    """The arguments of `modelkit explain`."""
    about = "say what each column of one row of a file adds to the answer"
    parser = add_command(
        verbs, "explain", run_explain, about, "file", "--unseal", "--input", "--html", "--json"
    )
    parser.add_argument(
        "--row", type=whole, default=0, help="the row to explain, counted from 0; 0 by default"
    )
    parser.add_argument(
        "--background", help="a file of typical rows; by default those stored in the package"
    )
    parser.add_argument(
        "--output", default="auto", help="the output to explain, for a model of several"
    )
    parser.add_argument(
        "--positive",
        help="of two classes, the one whose raw score or probability is explained; by default the answer's, "
        "or the second",
    )
    add_extra(parser, "columns that the model does not know")


def run_explain(args: argparse.Namespace) -> Printed:
    """What each column of one row adds to the answer, the largest first."""
    explanation, label = _explain_row(args)
    at = -1
    if args.positive is None and label in explanation.output_names:
        at = explanation.output_names.index(label)
    if args.html is not None:
        page = html.page(
            f"{args.file}, row {args.row} of {args.input}", explanation.card(output=at)
        )
        Path(args.html).write_text(page, encoding="utf-8")
    if args.json:
        return [mk.to_json(explanation)], 0
    return escaped(_explained(explanation, at)), 0


def _explain_row(args: argparse.Namespace) -> tuple[mk.Explanation, str]:
    """The explanation of the row, and its label if the model gives one."""
    with mk.load(args.file, extra=args.extra, unseal=args.unseal) as model:
        rows = read_rows(args.input, model.signature)
        if args.row >= len(rows):
            last = len(rows) - 1
            raise UsageError(f"{args.input} has rows 0 to {last}, and no row {args.row}")
        background = None
        if args.background is not None:
            background = read_rows(args.background, model.signature)
        row = rows[args.row : args.row + 1]
        positive = positive_class(args.positive, model.signature)
        explainer = mk.Explainer(
            model, background=background, output=args.output, positive=positive
        )
        explanation = explainer.explain(row)
        answer = model.run(row)
    return explanation, str(answer["label"][0]) if "label" in answer else ""


def _explained(explanation: mk.Explanation, at: int) -> Iterable[str]:
    """The lines that show how one row came to its output number `at`."""
    yield f"{explanation.output_names[at]} ({explanation.output_space}), {explanation.method}"
    top = explanation.top(len(explanation.feature_names), output=at)
    wide = max(len(name) for name, _, _ in top)
    for name, value, added in top:
        yield f"  {name:<{wide}}  {added:+.6g}  {html.short(value)}"
    base = explanation.base_values[0, at]
    yield f"  base {base:.6g}, sum {base + explanation.values[0, :, at].sum():.6g}"

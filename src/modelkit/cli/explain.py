"""`modelkit explain`: what each column of a row adds to its answer."""

from __future__ import annotations

import argparse
from itertools import chain
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import REPORT, ROWS_HELP, Printed, add_command, opened, whole
from modelkit.cli.evaluate import positive_class
from modelkit.cli.rows import Columns, beside, read_rows, set_aside
from modelkit.cli.tables import write_forms
from modelkit.errors import UsageError
from modelkit.report import html


def add_explain(verbs: Any) -> None:
    """The arguments of `modelkit explain`."""
    parser = add_command(
        verbs,
        "explain",
        run_explain,
        "say what each column of a row adds to its answer",
        "file",
        "rows",
        "--id",
        "--extra",
        "--registry",
        "--unseal",
        formats=REPORT,
    )
    parser.add_argument(
        "--row", type=whole, help="the one row to explain, counted from 0; all by default"
    )
    parser.add_argument(
        "--background", help=f"typical rows, {ROWS_HELP}; by default those stored in the package"
    )
    parser.add_argument(
        "--of", default="auto", metavar="OUTPUT",
        help="the output to explain, for a model of several",
    )  # fmt: skip
    parser.add_argument(
        "--positive",
        help="of two classes, the one whose raw score or probability is explained; by default the answer's, "
        "or the second",
    )


def run_explain(args: argparse.Namespace) -> Printed:
    """What each column of the rows adds to the answers, the largest first."""
    explanation, places, ids = _explain(args)
    rows = range(len(places))
    first = args.row or 0

    def text() -> str:
        parts = [_row_lines(explanation, row, places[row]) for row in rows]
        if len(parts) > 1:
            parts = [[f"row {row}", *part] for row, part in enumerate(parts)]
        return "\n".join(chain.from_iterable(parts))

    def page() -> str:
        cards = [explanation.card(row=row, output=places[row]) for row in rows]
        return html.page(f"{args.file}, row {first} of {args.rows}", *cards)

    def table() -> Columns:
        values = explanation.values[rows, :, places]
        found = {
            "output": [explanation.output_names[at] for at in places],
            "base": explanation.base_values[rows, places],
        }
        return beside(ids, found | dict(zip(explanation.feature_names, values.T, strict=True)))

    forms = {"txt": text, "json": explanation.to_json, "html": page}
    return write_forms(args, forms, table), 0


def _explain(args: argparse.Namespace) -> tuple[mk.Explanation, list[int], Columns]:
    """The explanation of the rows, the output of each that is shown, and the ids."""
    with opened(args) as model:
        signature = model.signature
        rows = read_rows(args.rows, signature, args.id)
        if args.row is not None:
            last = len(next(iter(rows.values()))) - 1
            if args.row > last:
                raise UsageError(f"{args.rows} has rows 0 to {last}, not {args.row}")
            rows = {name: values[args.row : args.row + 1] for name, values in rows.items()}
        columns, ids = set_aside(rows, args.id, signature)
        background = None
        if args.background is not None:
            background = read_rows(args.background, signature)
        explainer = mk.Explainer(
            model,
            background=background,
            output=args.of,
            positive=positive_class(args.positive, signature),
        )
        explanation = explainer.explain(columns)
        answer = model.run(columns)
    names = explanation.output_names
    labels = map(str, answer.get("label", ()) if args.positive is None else ())
    places = [names.index(label) if label in names else -1 for label in labels]
    return explanation, places or [-1] * len(explanation), ids


def _row_lines(explanation: mk.Explanation, row: int, at: int) -> list[str]:
    """The lines that show how one row came to its output number `at`."""
    top = explanation.top(len(explanation.feature_names), row=row, output=at)
    wide = max(len(name) for name, _, _ in top)
    base = explanation.base_values[row, at]
    return [
        f"{explanation.output_names[at]} ({explanation.output_space}), {explanation.method}",
        *(f"  {name:<{wide}}  {added:+.6g}  {html.short(value)}" for name, value, added in top),
        f"  base {base:.6g}, sum {base + explanation.values[row, :, at].sum():.6g}",
    ]

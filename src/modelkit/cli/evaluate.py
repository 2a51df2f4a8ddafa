"""`modelkit evaluate`: what the model of a package is worth on labelled rows."""

from __future__ import annotations

import argparse
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import (
    LABELLED,
    REGISTRY,
    REPORT,
    ROWS_HELP,
    Printed,
    add_command,
    between,
    opened,
)
from modelkit.cli.rows import read_rows, values_of
from modelkit.cli.tables import write_report
from modelkit.errors import SignatureError, UsageError


def add_evaluate(verbs: Any) -> None:
    """The arguments of `modelkit evaluate`."""
    parser = add_command(
        verbs,
        "evaluate",
        run_evaluate,
        "measure how good a model is on labelled rows",
        "file",
        *LABELLED,
        "--registry",
        "--unseal",
        formats=REPORT,
    )
    parser.add_argument("--train", help=f"the rows that the model was trained on, {ROWS_HELP}")
    parser.add_argument("--weight", help="the column with the weights of the rows")
    parser.add_argument(
        "--level",
        type=between(0, 1),
        default=0.95,
        help="the level of the intervals; 0.95 by default",
    )
    about = "measure how often decisions flip under noise, errors and an attack, with the defaults"
    parser.add_argument("--robustness", action="store_true", help=about)
    parser.add_argument("--attach", action="store_true", help="put the Evaluation into the package")


def run_evaluate(args: argparse.Namespace) -> Printed:
    """Evaluate the model of a package on the rows of a file."""
    if args.attach and args.file.startswith(REGISTRY):
        raise UsageError(
            f"{args.file} cannot be changed: attach to the package file, and register the result"
        )
    with opened(args) as model:
        found = _evaluated(model, args)
    if args.attach:
        mk.attach(args.file, evaluation=found)
    return write_report(args, found), 0


def _evaluated(model: mk.Model, args: argparse.Namespace) -> mk.Evaluation:
    signature = model.signature
    rows, truth, *weights = labelled_rows(args.rows, args, signature, args.weight)
    return mk.evaluate(
        model,
        rows,
        truth,
        train=args.train and labelled_rows(args.train, args, signature, args.weight),
        robustness=mk.robustness(model, rows, truth, slices=args.slice, level=args.level)
        if args.robustness
        else None,
        sample_weight=weights[0] if weights else None,
        level=args.level,
        **row_options(args, signature),
    )


def row_options(args: argparse.Namespace, signature: mk.Signature) -> dict[str, Any]:
    """The options about labelled rows, as `mk.evaluate` and `mk.gate` take it."""
    return {
        "slices": args.slice,
        "clusters": args.clusters,
        "queries": args.queries,
        "positive": positive_class(args.positive, signature),
    }


def positive_class(text: str | None, signature: mk.Signature) -> Any:
    """The class that a text means, which is a number where the model's classes are."""
    if text is None:
        return None
    from modelkit.lifecycle.evaluation.task import OUTLIERS

    known = OUTLIERS if signature.classes is None else signature.classes
    return {str(name): name for name in known}.get(text, text)


def labelled_rows(
    path: str, args: argparse.Namespace, signature: mk.Signature, weight: str | None = None
) -> tuple[Any, ...]:
    """The columns of a file without truth and weights, the truth, and weights where they are named.

    Of several labels the truth is a dict by name. Raises UsageError for a column that is not there.
    """
    named = {*args.label, *args.slice, args.clusters, args.queries, weight}
    columns = read_rows(path, signature, named)

    def take(name: str) -> list[Any]:
        values = values_of(columns, name)
        del columns[name]
        return values

    truth = {name: _truth(take(name), signature) for name in args.label}
    labels = truth if len(truth) > 1 else truth[args.label[0]]
    if weight is None:
        return columns, labels
    return columns, labels, _numbers(weight, take(weight))


def _truth(values: list[Any], signature: mk.Signature) -> list[Any]:
    """Labels as the model writes them: the cells of CSV are texts."""
    if signature.classes is not None:
        by_text = {str(name): name for name in signature.classes}
        return [by_text.get(value, value) if isinstance(value, str) else value for value in values]
    try:
        return _numbers("the truth", values)
    except SignatureError:
        if signature.primary != "label":
            raise
        return values


def _numbers(what: str, values: list[Any]) -> list[Any]:
    numbers = []
    for row, value in enumerate(values):
        try:
            numbers.append(float(value))
        except (TypeError, ValueError):
            raise SignatureError(
                f"{what}: row {row} holds {value!r:.40}, which is not a number"
            ) from None
    return numbers

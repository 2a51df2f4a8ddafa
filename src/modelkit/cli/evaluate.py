"""`modelkit evaluate`: what the model of a package is worth on labelled rows."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, add_extra, add_options, between, reported
from modelkit.cli.csv import read_rows
from modelkit.errors import SignatureError, UsageError
from modelkit.lifecycle.evaluation.task import OUTLIERS
from modelkit.signature import frames


def add_evaluate(verbs: Any) -> None:
    """The arguments of `modelkit evaluate`."""
    parser = add_command(verbs, "evaluate", "say what a model is worth on labelled rows")
    add_options(
        parser, "file", "--data", "--label", "--slice", "--clusters", "--queries", "--positive"
    )
    add_options(parser, "--html", "--json")
    parser.add_argument("--train", help="a file of the rows that the model was trained on")
    parser.add_argument("--weight", help="the column with the weights of the rows")
    add_extra(parser, "columns that the model does not know and that no option names")
    parser.add_argument(
        "--level", type=between(0, 1), default=0.95, help="of the intervals; 0.95 by default"
    )
    parser.add_argument("--attach", action="store_true", help="put the Evaluation into the package")
    parser.add_argument("--progress", action="store_true", help="show a bar")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> Printed:
    """Evaluate the model of a package on the rows of a file."""
    with mk.load(args.file, extra=args.extra) as model:
        found = _evaluated(model, args)
    if args.attach:
        mk.attach(args.file, evaluation=found)
    return reported(args, found), True


def _evaluated(model: mk.Model, args: argparse.Namespace) -> mk.Evaluation:
    rows, truth, *weights = _read(args.data, args, model.signature)
    before = None
    if args.train is not None:
        before = _read(args.train, args, model.signature)
    return mk.evaluate(
        model,
        rows,
        truth,
        train=before,
        slices=args.slice,
        clusters=args.clusters,
        sample_weight=weights[0] if weights else None,
        queries=args.queries,
        positive=positive_class(args.positive, model.signature),
        level=args.level,
        progress=args.progress,
    )


def positive_class(text: str | None, signature: mk.Signature) -> Any:
    """The class that a text means, which is a number where the model's classes are."""
    if text is None:
        return None
    known = OUTLIERS if signature.classes is None else signature.classes
    return {str(name): name for name in known}.get(text, text)


def labelled_rows(
    path: str, labels: list[str], signature: mk.Signature, named: Collection[str | None] = ()
) -> tuple[dict[str, Any], Any]:
    """The columns of a file without truth, and the truth as the model writes it, of several by name.

    `named` are further columns that options name. Raises UsageError for a column that is not
    there.
    """
    names, read = frames.read_frame(read_rows(path, signature, {*labels, *named}))
    columns = dict(zip(names, read, strict=True))
    known = list(columns)
    truth = {name: _truth(_take(columns, name, known), signature) for name in labels}
    return columns, truth if len(truth) > 1 else truth[labels[0]]


def _read(path: str, args: argparse.Namespace, signature: mk.Signature) -> tuple[Any, ...]:
    """The columns of a file without truth and weights, the truth, and weights where there are."""
    named = {*(args.slice or ()), args.weight, args.clusters, args.queries}
    columns, truth = labelled_rows(path, args.label, signature, named)
    if args.weight is None:
        return columns, truth
    known = list(columns)
    return columns, truth, _numbers(args.weight, _take(columns, args.weight, known))


def _take(columns: dict[str, Any], name: str, known: list[str]) -> list[Any]:
    """A column, which is then no longer among the others. Raises UsageError."""
    if name not in columns:
        raise UsageError(f"there is no column {name!r}; there are {', '.join(known)}")
    values: list[Any] = frames.as_column(columns.pop(name)).tolist()
    return values


def _truth(values: list[Any], signature: mk.Signature) -> list[Any]:
    """Labels as the model writes them: the cells of CSV are texts."""
    if signature.classes is not None:
        by_text = {str(name): name for name in signature.classes}
        return [by_text.get(value, value) if isinstance(value, str) else value for value in values]
    if signature.primary == "label" and not all(map(_is_number, values)):
        return values
    return _numbers("the truth", values)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _numbers(what: str, values: list[Any]) -> list[Any]:
    for row, value in enumerate(values):
        if not _is_number(value):
            raise SignatureError(f"{what}: row {row} holds {value!r:.40}, which is not a number")
    return [float(value) for value in values]

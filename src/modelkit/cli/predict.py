"""`modelkit predict`: answers to the rows of a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import TABLE, Printed, add_command, opened
from modelkit.cli.rows import Columns, beside, read_chunks, set_aside
from modelkit.cli.tables import write_rows
from modelkit.errors import SignatureError

CHUNK = 8192  # rows that are held at once


def add_predict(verbs: Any) -> None:
    """The arguments of `modelkit predict`."""
    add_command(
        verbs,
        "predict",
        run_predict,
        "predict the rows of a file",
        "file",
        "rows",
        "--id",
        "--extra",
        "--registry",
        "--unseal",
        formats=TABLE,
    )


def run_predict(args: argparse.Namespace) -> Printed:
    """Predict the rows of a file: the primary output and the probabilities."""
    return answer_rows(args, _answers)


def answer_rows(
    args: argparse.Namespace, answer: Callable[[mk.Model, Columns], Columns]
) -> Printed:
    """The ids of rows and what a model makes of them, as a table, chunk by chunk."""
    return write_rows(args, _answered(args, answer)), 0


def _answered(
    args: argparse.Namespace, answer: Callable[[mk.Model, Columns], Columns]
) -> Iterator[Columns]:
    before = 0
    with opened(args) as model:
        size = CHUNK if model.batchable else None
        for chunk in read_chunks(args.rows, model.signature, args.id, size):
            columns, ids = set_aside(chunk, args.id, model.signature)
            try:
                answers = answer(model, columns)
            except SignatureError as error:
                if not before:
                    raise
                raise SignatureError(f"in the rows from {before} on, {error}") from error
            yield beside(ids, answers)
            before += len(next(iter(chunk.values())))


def _answers(model: mk.Model, columns: Columns) -> Columns:
    """The primary output, or all where none stands out, and a column for each probability."""
    signature = model.signature
    outputs = model.run(columns)
    names = signature.output_names if signature.primary is None else (signature.primary,)
    found = {name: outputs[name] for name in names if outputs[name].ndim <= 2}
    if signature.has_probabilities and signature.classes is not None:
        for i, label in enumerate(signature.classes):
            found[f"p({label})"] = outputs["probabilities"][:, i]
    if not found:
        raise SignatureError(f"the outputs {signature.output_names} are not columns; use Model.run")
    return found

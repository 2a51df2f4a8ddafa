"""`modelkit embed`: the vectors of texts."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import TABLE, Printed, add_command, whole
from modelkit.cli.predict import answer_rows
from modelkit.cli.rows import Columns, values_of
from modelkit.errors import UsageError


def add_embed(verbs: Any) -> None:
    """The arguments of `modelkit embed`."""
    parser = add_command(
        verbs,
        "embed",
        run_embed,
        "turn the texts of a file into vectors",
        "file",
        "rows",
        "--id",
        "--registry",
        "--unseal",
        formats=TABLE,
    )
    parser.add_argument(
        "--column", default="text", help="the column with the texts; text by default"
    )
    parser.add_argument("--role", help="the role of the texts, such as query")
    parser.add_argument(
        "--dims", type=whole, help="the length of the vectors, if the encoder has several"
    )


def run_embed(args: argparse.Namespace) -> Printed:
    """Embed the texts of a file."""
    return answer_rows(args, partial(_vectors, args))


def _vectors(args: argparse.Namespace, model: mk.Model, columns: Columns) -> Columns:
    from modelkit.embedding.verbs import is_encoder

    if not is_encoder(model):
        raise UsageError(f"{args.file!r} does not embed texts; use modelkit predict")
    texts = values_of(columns, args.column)
    return {"embedding": mk.embed(model, texts, role=args.role, dims=args.dims)}

"""`modelkit card`: a model card for people, or a bill of materials for an inventory."""

from __future__ import annotations

import argparse
from typing import Any

from modelkit.cli.arguments import Printed, add_command, package


def add_card(verbs: Any) -> None:
    """The arguments of `modelkit card`."""
    about = "write a model card, or a bill of materials, from what a package holds"
    parser = add_command(verbs, "card", run_card, about, "file", "--registry", "--unseal")
    parser.add_argument(
        "--format", choices=("markdown", "cyclonedx"), default="markdown",
        help="markdown, the default: a model card as Hugging Face lays it out; cyclonedx: a bill of "
        "materials in JSON of CycloneDX 1.6",
    )  # fmt: skip


def run_card(args: argparse.Namespace) -> Printed:
    """Write the card of a package."""
    from modelkit.integrations.cards import bill_of_materials, model_card

    write = model_card if args.format == "markdown" else bill_of_materials
    return [write(package(args, args.file), args.unseal)], 0

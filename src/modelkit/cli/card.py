"""`modelkit card`: a model card for people, or a bill of materials for an inventory."""

from __future__ import annotations

import argparse
from typing import Any

from modelkit.cli.arguments import Printed, add_command
from modelkit.integrations.cards import bill_of_materials, model_card

FORMATS = {"markdown": model_card, "cyclonedx": bill_of_materials}


def add_card(verbs: Any) -> None:
    """The arguments of `modelkit card`."""
    about = "write a model card, or a bill of materials, from what a package holds"
    parser = add_command(verbs, "card", run_card, about, "file", "--unseal")
    parser.add_argument(
        "--format", choices=FORMATS, default="markdown",
        help="markdown, the default: a model card as Hugging Face lays it out; cyclonedx: a bill of "
        "materials in JSON of CycloneDX 1.6",
    )  # fmt: skip


def run_card(args: argparse.Namespace) -> Printed:
    """Write the card of a package."""
    return [FORMATS[args.format](args.file, args.unseal)], 0

"""`modelkit seal`: encrypt a package."""

from __future__ import annotations

import argparse
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, escaped, package
from modelkit.errors import UsageError


def add_seal(verbs: Any) -> None:
    """The arguments of `modelkit seal`."""
    about = "encrypt a package for the holders of keys"
    parser = add_command(verbs, "seal", run_seal, about, "file", "--registry", "--unseal")
    parser.add_argument(
        "--to", required=True, action="append", metavar="NAME=KEY",
        help="a recipient: a name, and the file of its public key or env:NAME; repeat it for more",
    )  # fmt: skip
    parser.add_argument("--output", metavar="FILE", required=True, help="the file to write")


def run_seal(args: argparse.Namespace) -> Printed:
    """Seal a package for recipients, or one that is sealed already for others."""
    recipients: dict[str, str] = {}
    for text in args.to:
        name, _, key = text.partition("=")
        if not key or name in recipients:
            raise UsageError(f"a recipient is written as NAME=KEY, each NAME once, not {text!r}")
        recipients[name] = key
    manifest = mk.seal(package(args, args.file), recipients, out=args.output, unseal=args.unseal)
    named = f"{args.output}: {manifest.name} {manifest.version}, sealed for {', '.join(recipients)}"
    return escaped([named, f"  digest sha256:{manifest.digest}"]), 0

"""`modelkit sign`: a signature of a package, in a file beside it."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import Printed, add_command, escaped


def add_sign(verbs: Any) -> None:
    """The arguments of `modelkit sign`."""
    about = "sign a package: the signature is added to FILE.sig"
    parser = add_command(verbs, "sign", run_sign, about, "file")
    parser.add_argument(
        "--key", required=True, help="a private key of Ed25519: a file of PEM, or env:NAME"
    )
    parser.add_argument(
        "--expires", type=_time, metavar="DATE",
        help="when the signature ends, such as 2030-01-31: at the start of that day, in UTC",
    )  # fmt: skip


def run_sign(args: argparse.Namespace) -> Printed:
    """Sign a package."""
    signed = mk.sign(args.file, args.key, expires=args.expires)
    until = "for ever" if signed.expires is None else f"until {signed.expires}"
    line = f"{args.file}.sig: key {signed.key} signed {signed.digest}, {until}"
    return escaped([line]), 0


def _time(text: str) -> datetime:
    """The `type` of an argument that is a point in time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a date such as 2030-01-31, nor a time of ISO 8601"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

"""`modelkit audit`: whether anybody changed what an audit log recorded."""

from __future__ import annotations

import argparse
from typing import Any

import modelkit as mk
from modelkit.cli.arguments import (
    Printed,
    add_action,
    add_command,
    plain_fields,
    printed,
    read_text,
)


def add_audit(verbs: Any) -> None:
    """The arguments of `modelkit audit`."""
    parser = add_command(verbs, "audit", None, "check an audit log")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    about = (
        "find what was changed, moved or removed in an audit log: the status is 1 if anything was"
    )
    action = add_action(actions, "verify", run_verify, about, folder="the folder of an AuditLog")
    action.add_argument(
        "--key", action="append", default=[], metavar="PUB",
        help="a public Ed25519 key in PEM, one of which every checkpoint must be signed with",
    )  # fmt: skip
    action.add_argument(
        "--checkpoint", action="append", default=[], metavar="FILE",
        help="checkpoints that you kept elsewhere, one a line, which the log must hold",
    )  # fmt: skip


def run_verify(args: argparse.Namespace) -> Printed:
    """What a check of the folder finds."""
    kept = [line for path in args.checkpoint for line in read_text(path).split() or [""]]
    report = mk.AuditLog.verify(args.folder, args.key, kept)
    lines, _ = printed(args, plain_fields(report), str(report).splitlines())
    return lines, 1 if report.problems else 0

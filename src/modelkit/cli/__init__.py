"""`modelkit`: a command for each thing that one does with a package or a registry.

Each command has a module. `add_...` says which arguments it takes; `run_...` takes the parsed
arguments and gives the lines to print, and the exit status.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

import modelkit as mk
from modelkit._internal.progress import bars
from modelkit.cli.arguments import Parser, Run, examples_of
from modelkit.errors import Conflict, ModelkitError, UsageError
from modelkit.report.html import printable

COMMANDS = (  # each a module of this folder
    "inspect",
    "schema",
    "diff",
    "predict",
    "embed",
    "explain",
    "drift",
    "evaluate",
    "gate",
    "bench",
    "doctor",
    "sign",
    "verify",
    "card",
    "export",
    "registry",
    "rollout",
    "retrain",
    "seal",
    "audit",
    "serve",
    "completion",
)
# What the errors of the library name, and the options of a command that stand for it.
OPTIONS = {
    "extra='ignore'": "--extra ignore",
    "leave such columns out": "--id COLUMN",
    "background=": "--background",
    "output=": "--of",
    "Monitor(model, profile)": "--reference",
    "allow={'joblib'}": "--allow joblib",
    "digest=": "--digest",
    "unseal=": "--unseal",
    "trust=": "--key",
}
INTERRUPTED = 130  # as shells have it for Ctrl-C
CONFLICT = 3  # the status where somebody else was faster
STATUSES = (
    "Exit status: 0: success. 1: error. 2: wrong arguments. 3: conflict (changed since you looked), or "
    "an inconclusive gate. 4: a drift alarm, or a gate that blocks."
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands, from which the documentation and the completion are made, too."""
    parser = Parser(
        prog="modelkit",
        description="Packages of trained models.",
        epilog=f"{STATUSES}\n\n{examples_of('modelkit predict')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"modelkit {mk.__version__}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        add = getattr(import_module(f"modelkit.cli.{name}"), f"add_{name}")
        add(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status, as `STATUSES` has it."""
    args, unknown = build_parser().parse_known_args(arguments)
    try:
        if unknown:
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        run: Run = args.run
        with bars(sys.stderr.isatty()):
            lines, status = run(args)
        _print(lines)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        return _fail(f"the output cannot show {character!a}; set PYTHONIOENCODING=utf-8")
    except (ModelkitError, OSError) as error:
        wrong = 2 if isinstance(error, UsageError) else 1
        text = str(error)
        known = [
            option
            for words, option in OPTIONS.items()
            if words in text and hasattr(args, option.split()[0][2:])
        ]
        if known:
            text += f"\non the command line: {', '.join(known)}"
        if isinstance(error, OSError) and error.filename is not None and error.filename2 is None:
            text = f"{error.filename!r}: {error.strerror}"  # without the number of the system
        return _fail(printable(text), CONFLICT if isinstance(error, Conflict) else wrong)
    return status


def _print(lines: Iterable[str]) -> None:
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        # Otherwise the interpreter complains when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(reason: str, status: int = 1) -> int:
    print(f"modelkit: {reason}", file=sys.stderr)
    return status

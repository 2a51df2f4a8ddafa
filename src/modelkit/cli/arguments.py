"""The arguments that commands share, and what a command prints."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, nan
from pathlib import Path
from textwrap import fill
from types import MappingProxyType
from typing import Any, NoReturn, final

import modelkit as mk
from modelkit._internal.names import did_you_mean
from modelkit.cli.examples import EXAMPLES
from modelkit.errors import ModelkitError, UsageError
from modelkit.report.html import printable

REGISTRY = "registry:"  # before the name of a package in a registry
WHERE = "MODELKIT_REGISTRY"  # the variable that says where the registry is
ROWS_HELP = "CSV with a header, JSON, JSON lines or Parquet; - for the standard input"
TABLE = ("csv", "json", "jsonl", "parquet")  # the formats of an answer, to be printed
REPORT = ("txt", "html", *TABLE)
# What several commands take, said once.
SHARED: dict[str, dict[str, Any]] = {
    "file": {"help": "a package: a .mk file, or registry:NAME@ALIAS"},
    "rows": {"metavar": "ROWS", "help": ROWS_HELP},
    "--registry": {
        "metavar": "WHERE",
        "help": f"the registry of registry:NAME@ALIAS; else {WHERE}",
    },
    "--label": {
        "required": True,
        "action": "append",
        "help": "the column with the true labels; repeat it for a model with several labels",
    },
    "--slice": {
        "action": "append",
        "default": [],
        "help": "a column whose values divide the rows into slices",
    },
    "--clusters": {"help": "the column that says which rows belong together"},
    "--queries": {"help": "the column with the query of each row, for a ranker"},
    "--positive": {
        "help": "the class that precision, recall, F1 and the areas are about, of two; by "
        "default the second, and of an outlier detector the outliers, -1"
    },
    "--unseal": {
        "metavar": "KEY",
        "help": "the private key that opens a sealed package: its file, or env:NAME",
    },
    "--key": {
        "action": "append",
        "default": [],
        "metavar": "PUB",
        "help": "a public key of Ed25519, in a file of PEM or env:NAME; one of those given must have signed",
    },
    "--extra": {
        "choices": ("refuse", "ignore"),
        "default": "refuse",
        "help": "columns that the model does not know and that options do not name: refuse them, "
        "the default, or ignore them",
    },
    "--id": {
        "action": "append",
        "default": [],
        "metavar": "COLUMN",
        "help": "a column to copy into the output, beside the answers; repeat it for more",
    },
    "--output": {
        "action": "append",
        "default": [],
        "metavar": "FILE",
        "help": "a file to write, in the format of its ending; repeat it for several formats of "
        "a report",
    },
    "--json": {
        "action": "store_const",
        "dest": "format",
        "const": "json",
        "help": "print it as JSON",
    },
    "--reason": {"required": True, "help": "why, for the history"},
    "--force": {"action": "store_true", "help": "even if it was rolled back before"},
    "--verdict": {
        "help": "the Verdict that `modelkit gate --output FILE.json` wrote about this version"
    },
}
# Those about labelled rows.
LABELLED = ("rows", "--label", "--slice", "--clusters", "--queries", "--positive", "--extra")
Printed = tuple[Iterable[str], int]  # the lines to print, and the exit status
Run = Callable[[argparse.Namespace], Printed]


def between(low: float, high: float) -> Callable[[str], float]:
    """The `type` of an argument that is a number above one and below another one."""

    def read(text: str) -> float:
        value = _number(text)
        if not low < value < high:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number between {low:g} and {high:g}"
            )
        return value

    return read


def whole(text: str) -> int:
    """The `type` of an argument that counts from 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def named_number(text: str) -> tuple[str, float]:
    """The `type` of an argument that is NAME=NUMBER, or a number alone, whose name is empty."""
    name, _, digits = text.rpartition("=")
    value = _number(digits)
    if not 0 <= value < inf:
        raise argparse.ArgumentTypeError(
            f"{digits!r} is not a number of at least 0; write the number of a name as NAME=NUMBER"
        )
    return name.strip(), value


def _number(text: str) -> float:
    """A number, or NaN for another text."""
    try:
        return float(text)
    except ValueError:
        return nan


def add_consent(parser: Any, more: str = "") -> None:
    """The arguments that say which packages may be opened, and what they may do."""
    parser.add_argument(
        "--digest", action="append", default=[], help=f"refuse any other package{more}"
    )
    parser.add_argument(
        "--allow", action="append", default=[], metavar="WHAT",
        help="what you accept beyond the default: joblib, or a domain of operators",
    )  # fmt: skip
    parser.add_argument("--unseal", **SHARED["--unseal"])


@final
class Parser(argparse.ArgumentParser):
    """A parser that guesses which word was meant, and knows the registry of an action by the environment."""

    words: Sequence[str] = ()
    actions: Mapping[str, Any] = MappingProxyType({})  # those of a command on a registry

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the parser of argparse; the words are kept for `error`."""
        self.words = sys.argv[1:] if args is None else list(args)
        if self.words and self.words[0] in self.actions:
            needed = f"{self.words[0]!r} needs a registry before it, or {WHERE}"
            self.words = [os.environ.get(WHERE) or self.error(needed), *self.words]
        return super().parse_known_args(self.words, namespace)

    def error(self, message: str) -> NoReturn:
        """End with the status 2, and say which command, choice or option may have been meant."""
        known = re.findall("[a-z0-9-]+", self.format_help())
        for word in self.words:
            name = word.partition("=")[0]
            chosen = f"invalid choice: {word!r}" in message
            if chosen or (name.startswith("--") and name not in known):
                # The help holds more words than the choices, such as the one that was tried.
                likely = re.findall("[a-z0-9-]+", message.partition("choose from")[2]) or known
                message += f"; {name!r} is unknown{did_you_mean(name, likely)}"
        super().error(message)


def add_command(
    commands: Any, name: str, run: Run | None, about: str, *shared: str, formats: Sequence[str] = ()
) -> Any:
    """A parser for one command, with arguments of the table; its help ends with examples.

    If its answer can be printed in several formats, `--output`, `--format` and `--json` say in which.
    """
    parser = commands.add_parser(
        name,
        help=about,
        description=fill(f"{about[0].upper()}{about[1:]}.", 90),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.epilog = examples_of(parser.prog)
    parser.set_defaults(run=run, parser=parser)
    for option in shared:
        parser.add_argument(option, **SHARED[option])
    if formats:
        parser.add_argument("--output", **SHARED["--output"])
        parser.add_argument("--format", choices=formats, help="the format of the printed output")
        parser.add_argument("--json", **SHARED["--json"])
    return parser


def examples_of(prog: str) -> str:
    """The examples of a command, as its help shows them."""
    begin = f"{prog.replace('WHERE', 'models')} "
    shown = [line for line in EXAMPLES.splitlines() if f"{line} ".startswith(begin)]
    return "\n  ".join(["examples:", *shown])


def add_actions(verbs: Any, name: str, about: str) -> Any:
    """What holds the actions of a command on a registry, which is its first argument."""
    parser = add_command(verbs, name, None, about)
    parser.add_argument(
        "registry", metavar="WHERE",
        help=f"a folder, or the URL of a bucket (s3://, gs://, az://); {WHERE} if it is left out",
    )  # fmt: skip
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    parser.actions = actions.choices
    return actions


def add_action(
    actions: Any, name: str, run: Run, about: str, /, *shared: str, **places: str
) -> Any:
    """A parser for one action, which takes arguments by their places, and can print JSON."""
    action = add_command(actions, name, run, about, *shared, "--json")
    for place, meaning in places.items():
        action.add_argument(place, help=meaning)
    return action


def name_and_version(model: str, such_as: str = "champion") -> tuple[str, str]:
    """A name, and the version or alias behind its @. Raises UsageError."""
    name, _, which = model.partition("@")
    if not which:
        raise UsageError(f"{model!r} lacks a version: write it as {name or 'churn'}@{such_as}")
    return name, which


def package(args: argparse.Namespace, source: str) -> str:
    """The path of a package that is named by its path, or as registry:NAME@VERSION. Raises UsageError."""
    if not source.startswith(REGISTRY):
        return source
    name, which = name_and_version(source.removeprefix(REGISTRY))
    return str(registry_of(args, source).fetch(name, which))


def registry_of(args: argparse.Namespace, source: str = "registry") -> mk.Registry:
    """The registry that `--registry` names, or the environment. Raises UsageError."""
    where = args.registry or os.environ.get(WHERE)
    if not where:
        raise UsageError(f"{source!r} needs --registry WHERE, or {WHERE}")
    return mk.Registry(where)


def opened(args: argparse.Namespace) -> mk.Model:
    """The model of the package that a command is about."""
    extra = getattr(args, "extra", "refuse")
    return mk.load(package(args, args.file), extra=extra, unseal=args.unseal)


def escaped(lines: Iterable[str]) -> list[str]:
    """Lines as a terminal shows them."""
    return [printable(line) for line in lines]


def printed(args: argparse.Namespace, plain: Any, lines: Iterable[str]) -> Printed:
    """Lines as a terminal shows them, or with `--json` the plain value."""
    return [json.dumps(plain)] if args.format == "json" else escaped(lines), 0


def plain_fields(value: Any) -> dict[str, Any]:
    """The fields of a value, as JSON has them."""
    from modelkit._internal import fields

    return dict(fields.write_object(value))


def read_text(path: str) -> str:
    """The text of a file. Raises ModelkitError for a file that is none, OSError for one that is not there."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelkitError(f"{path} is not text in UTF-8: {error}") from error

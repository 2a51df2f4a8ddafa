"""The arguments that commands share, and what a command prints."""

import argparse
import json
from collections.abc import Callable, Iterable
from math import inf, nan
from pathlib import Path
from typing import Any

from modelkit.errors import ModelkitError
from modelkit.report.html import printable

ROWS_HELP = "Parquet, or CSV with a header, where an empty cell is a missing value"
# What several commands take, said once.
SHARED: dict[str, dict[str, Any]] = {
    "file": {"help": "a package: a .mk file"},
    "--input": {"required": True, "help": ROWS_HELP},
    "--data": {"required": True, "help": f"{ROWS_HELP}; rows that no model here was trained on"},
    "--label": {
        "required": True,
        "action": "append",
        "help": "the column with the truth; once for each label of a model of several",
    },
    "--slice": {
        "action": "append",
        "default": [],
        "help": "a column by whose values rows are looked at apart",
    },
    "--clusters": {"help": "the column that says which rows belong together"},
    "--queries": {"help": "the column with the query of each row, of a ranker"},
    "--positive": {
        "help": "of two classes, the one that precision, recall, F1 and the areas are of; by default "
        "the second, and of an outlier detector the outliers, -1"
    },
    "--unseal": {
        "metavar": "KEY",
        "help": "what opens a sealed package: the file of a private key, or env:NAME",
    },
    "--key": {
        "action": "append",
        "default": [],
        "metavar": "PUB",
        "help": "a public key of Ed25519, in a file of PEM or env:NAME; one of those given must have signed",
    },
    "--html": {"help": "write it to this file too, as a page of its own"},
    "--json": {"action": "store_true", "help": "print it as one line of JSON"},
    "--reason": {"required": True, "help": "why, for the history"},
    "--force": {"action": "store_true", "help": "although it was rolled back before"},
    "--verdict": {"help": "the Verdict of `modelkit gate --out`, which has to be about this"},
}
# Those about labelled rows, and a report of them.
LABELLED = (
    *("--data", "--label", "--slice", "--clusters", "--queries", "--positive"),
    *("--html", "--json"),
)
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


def add_extra(parser: Any, what: str) -> None:
    """The argument that says what becomes of columns that nothing needs."""
    about = f"what becomes of {what}; refuse by default"
    parser.add_argument("--extra", choices=("refuse", "ignore"), default="refuse", help=about)


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


def add_command(commands: Any, name: str, run: Run | None, about: str, *shared: str) -> Any:
    """A parser for one command, with arguments of the table; its help begins with what it is about."""
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.set_defaults(run=run)
    for option in shared:
        parser.add_argument(option, **SHARED[option])
    return parser


def add_actions(verbs: Any, name: str, about: str) -> Any:
    """What holds the actions of a command on a registry, which is its first argument."""
    parser = add_command(verbs, name, None, about)
    parser.add_argument(
        "registry", metavar="WHERE", help="a folder, or the URL of a bucket (s3://, gs://, az://)"
    )
    return parser.add_subparsers(required=True, metavar="ACTION")


def add_action(
    actions: Any, name: str, run: Run, about: str, /, *shared: str, **places: str | None
) -> Any:
    """A parser for one action, which takes arguments by their places, and can print JSON."""
    action = add_command(actions, name, run, about, *shared, "--json")
    for place, meaning in places.items():
        action.add_argument(place, help=meaning)
    return action


def escaped(lines: Iterable[str]) -> list[str]:
    """Lines as a terminal shows them."""
    return [printable(line) for line in lines]


def printed(args: argparse.Namespace, plain: Any, lines: Iterable[str]) -> Printed:
    """Lines as a terminal shows them, or with `--json` the plain value."""
    return [json.dumps(plain)] if args.json else escaped(lines), 0


def reported(args: argparse.Namespace, report: Any) -> list[str]:
    """A report as it is printed; it is written where `--html`, `--csv`, `--junit` and `--out` say."""
    for option, form in (
        ("html", "to_html"),
        ("csv", "to_csv"),
        ("junit", "to_junit"),
        ("out", "to_json"),
    ):
        path = getattr(args, option, None)
        if path is not None:
            Path(path).write_text(getattr(report, form)(), encoding="utf-8")
    return [report.to_json() if args.json else printable(str(report))]


def read_text(path: str) -> str:
    """The text of a file. Raises ModelkitError for a file that is none, OSError for one that is not there."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelkitError(f"{path} is not text in UTF-8: {error}") from error

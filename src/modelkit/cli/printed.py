"""What a command prints, and what commands share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modelkit.errors import ModelkitError

PACKAGE_HELP = "a package: a .mk file"
ROWS_HELP = "CSV with a header; an empty cell is a missing value"
Printed = tuple[Iterable[str], bool]  # the lines to print, and whether all is well


def add_command(commands: Any, name: str, about: str) -> Any:
    """A parser for one command; what it is about stands in the list of commands and in its own help."""
    return commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")


def read_text(path: str) -> str:
    """The text of a file. Raises ModelkitError for a file that is none, OSError for one that is not there."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelkitError(f"{path} is no text in UTF-8: {error}") from error

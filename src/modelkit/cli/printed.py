"""What a command prints, and words that commands share."""

from collections.abc import Iterable

ROWS_HELP = "CSV with a header; an empty cell is a missing value"
Printed = tuple[Iterable[str], bool]  # the lines to print, and whether all is well

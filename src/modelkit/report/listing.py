"""Values in order that show themselves as a table, with a row for each."""

from __future__ import annotations

from typing import Protocol, TypeVar

from modelkit._internal import fields
from modelkit.report import html

MOST_ROWS = 50  # of a card


class Row(Protocol):
    """A value that is a row of a table."""

    def _cells(self) -> dict[str, str]:
        """What stands in the row, by the name of each column."""


AnyRow = TypeVar("AnyRow", bound=Row)


class Listing(tuple[AnyRow, ...]):
    """A tuple of values that prints as a table; of a long one, the last rows.

        >>> registry.versions("churn")
        version  registered           by          size
        1.0.0    2026-11-02 09:14:07  ana@build7  48 kB
        1.1.0    2026-11-30 16:40:51  ana@build7  51 kB

    It is a tuple in everything else: it has a length and compares as one, and a slice is a plain tuple.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        if not self:
            return "()"
        header, *rows = aligned([[*self[0]._cells()], *map(_texts, self)])
        first = len(rows)
        room = fields.MOST_SHOWN - len(header) - len("\n... 1,000,000 before")
        while first and len(rows[first - 1]) < room:
            first -= 1
            room -= len(rows[first]) + 1
        before = [f"... {first:,} before"] if first else []
        return "\n".join([header, *before, *rows[first:]])

    def _repr_html_(self) -> str:
        if not self:
            return "()"
        rows = [_texts(each) for each in self[-MOST_ROWS:]]
        before = len(self) - len(rows)
        facts = [("before", f"{before:,} more")] if before else []
        return html.card(f"{len(self):,} in all", facts, [*self[0]._cells()], rows)


def _texts(row: Row) -> list[str]:
    return [html.printable(text) for text in row._cells().values()]


def aligned(rows: list[list[str]]) -> list[str]:
    """The lines of a table, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines

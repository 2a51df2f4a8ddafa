"""Cards for notebooks: small tables of escaped text, without scripts or outside resources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = (
    "border:1px solid #d0d7de;border-radius:6px;padding:10px 14px;display:inline-block;"
    "font:13px/1.5 system-ui,sans-serif;max-width:60em"
)
_CELL = "text-align:left;vertical-align:top;padding:2px 14px 2px 0;border:0;background:none;font-size:13px"


def card(
    title: str, facts: Iterable[tuple[str, str]], header: Sequence[str] = (), rows: Iterable[Sequence[str]] = ()
) -> str:
    """A card: a title, facts as name and value, and a table with a header."""
    lines = "".join(_row([name, value], first="color:#57606a") for name, value in facts)
    body = "".join(_row(row) for row in rows)
    head = "".join(f'<th style="{_CELL};color:#57606a;font-weight:normal">{escape(cell)}</th>' for cell in header)
    table = f'<table style="border-collapse:collapse;margin:6px 0 0"><tr>{head}</tr>{body}</table>' if body else ""
    return (
        f'<div style="{_STYLE}"><div style="font-weight:600;margin-bottom:4px">{escape(title)}</div>'
        f'<table style="border-collapse:collapse;margin:0">{lines}</table>{table}</div>'
    )


def _row(cells: Sequence[str], first: str = "font-family:ui-monospace,monospace") -> str:
    styles = [first] + [""] * (len(cells) - 1)
    return (
        "<tr>"
        + "".join(f'<td style="{_CELL};{s}">{escape(c)}</td>' for c, s in zip(cells, styles, strict=True))
        + "</tr>"
    )

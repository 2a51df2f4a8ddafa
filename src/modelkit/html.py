"""Text that is safe to show: on a terminal, and in cards for notebooks, without scripts or outside resources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape as _escape

CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # not tabs and ends of lines

_STYLE = (
    "border:1px solid #d0d7de;border-radius:6px;padding:10px 14px;display:inline-block;"
    "font:13px/1.5 system-ui,sans-serif;max-width:60em"
)
_CELL = "text-align:left;vertical-align:top;padding:2px 14px 2px 0;border:0;background:none;font-size:13px"


def printable(text: str) -> str:
    """Text with control characters escaped, so that what a file says cannot drive a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def is_controlling(text: str) -> bool:
    """Whether a text holds characters that drive a terminal, other than tabs and ends of lines."""
    return CONTROLS.search(text) is not None


def escape(text: str) -> str:
    """Text for HTML and SVG: what is no character of either becomes a replacement character."""
    return _escape("".join(c if c.isprintable() or c in " \n" else "\N{REPLACEMENT CHARACTER}" for c in text))


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


def short(value: object) -> str:
    """A value of a row in a few characters."""
    if value is None or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "missing"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def bars(title: str, rows: Sequence[tuple[str, str, float]], facts: Iterable[tuple[str, str]]) -> str:
    """A card with one bar a row: (name, what it holds, length); blue to the left of a line, red to its right."""
    widest = max((abs(length) for _, _, length in rows), default=0) or 1
    lines = []
    for name, held, length in rows:
        share = 50 * abs(length) / widest
        left, color = (50 - share, "#2f6fb0") if length < 0 else (50, "#c0392b")
        bar = (
            f'<div style="position:relative;width:16em;height:1em;background:linear-gradient(90deg,transparent '
            f'calc(50% - .5px),#8c959f 50%,transparent calc(50% + .5px))">'
            f'<div style="position:absolute;left:{left:.1f}%;'
            f'width:{share:.1f}%;height:100%;background:{color}"></div></div>'
        )
        cells = [escape(name), escape(held), bar, f"{length:+.3g}"]
        lines.append("<tr>" + "".join(f'<td style="{_CELL};vertical-align:middle">{c}</td>' for c in cells) + "</tr>")
    about = "".join(_row([name, value], first="color:#57606a") for name, value in facts)
    return (
        f'<div style="{_STYLE}"><div style="font-weight:600;margin-bottom:4px">{escape(title)}</div>'
        f'<table style="border-collapse:collapse;margin:0">{"".join(lines)}</table>'
        f'<table style="border-collapse:collapse;margin:6px 0 0">{about}</table></div>'
    )


def page(title: str, body: str, style: str = "") -> str:
    """A page of its own around a card, or around a body with a style sheet."""
    sheet = f"<style>{style}</style>" if style else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title>{sheet}"
        f'<body style="margin:2em;font:14px/1.5 system-ui,sans-serif"><h1 style="font-size:16px">{escape(title)}</h1>'
        f"{body}</body></html>\n"
    )

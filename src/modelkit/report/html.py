"""Text that is safe to show on a terminal, cards for notebooks, and pages of their own.

A card is a small table of escaped text, without scripts. Cards take the colours of the notebook
they are in, whatever its theme: text is inherited, softer text is the same seen through, lines are
a half-transparent grey, and bars have colours that stand out from white and from black.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape as _escape

CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # not tabs and ends of lines
MOST_NAMES = 30  # of classes and the like
MOST_WHOLE = 1e9  # from which a number is shown with an exponent
# Their contrast to white, to #111 and to the dark grey of editors is 3.7 or more.
BLUE = "#3b82c4"
RED = "#d1493b"
_LINE = "rgba(128,128,128,.45)"
_CARD = (
    f"border:1px solid {_LINE};border-radius:6px;padding:10px "
    "14px;display:inline-block;box-sizing:border-box;"
    "font:13px/1.5 "
    "system-ui,sans-serif;color:inherit;max-width:min(100%,72em);max-height:44em;overflow:auto;"
    f"scrollbar-color:{_LINE} transparent"
)
_TITLE = "font-weight:600;margin-bottom:4px;overflow-wrap:anywhere"
# Notebooks have rules of their own for tables, which these override.
_TABLE = "border-collapse:collapse;table-layout:auto;border:0;margin:0;color:inherit;font-size:13px"
_CELL = (
    "text-align:left;vertical-align:top;padding:1px 14px 1px 0;border:0;background:none;"
    "line-height:1.5"
)
_SOFT = "opacity:.7;font-weight:normal"
_NAME = "font-family:ui-monospace,monospace"
_SHORT = 28  # characters that stay on one line
# The sheet of pages of their own. Blue grey and orange are told apart by all common kinds of colour
# vision, and by their lightness in print.
SHEET = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--soft:#57606a;--line:#d0d7de;
--first:#4a7ba6;--second:#c2570c;
--bad:#b42318;--badbg:#fff1ef;--good:#1a7f37;--goodbg:#eefbf1}
@media (prefers-color-scheme:dark){:root{--paper:#15191f;--ink:#e6edf3;--soft:#9aa7b4;
--line:#343c46;--first:#7fb0dc;
--second:#ff9a52;--bad:#ff9489;--badbg:#331a1a;--good:#6fd08a;--goodbg:#14281b}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--line:#bbb;
--first:#4a7ba6;--second:#c2570c;
--bad:#b42318;--badbg:#fff;--good:#1a7f37;--goodbg:#fff}body{margin:0!important}
section,.box{break-inside:avoid;margin-bottom:10px}*{print-color-adjust:exact;
-webkit-print-color-adjust:exact}}
body{background:var(--paper);color:var(--ink);max-width:1180px;margin:1.5em auto!important;
padding:0 16px}
h1{font-size:20px!important;margin:0;overflow-wrap:anywhere}h2{font-size:15px;margin:26px 0 8px}
h3{font-size:14px;margin:0;overflow-wrap:anywhere}
p{margin:4px 0;max-width:50em}ul{margin:4px 0;padding-left:20px}
li{overflow-wrap:anywhere;margin:3px 0}
.soft{color:var(--soft)}
.box,section{border:1px solid var(--line);border-radius:6px;padding:10px 14px}
.box{margin:12px 0}.bad{border-left:5px solid var(--bad);background:var(--badbg)}
.good{border-left:5px solid var(--good);background:var(--goodbg)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:12px;
align-items:start}
.wide{overflow-x:auto}table{border-collapse:collapse}
.wide td{overflow-wrap:break-word;min-width:3em;max-width:50em}
th,td{text-align:left;vertical-align:top;padding:3px 16px 3px 0;border-top:1px solid var(--line)}
th{font-weight:normal;color:var(--soft);border:0;white-space:nowrap}
svg{width:100%;height:auto;display:block;margin-top:6px}svg text{font-size:11px;fill:var(--soft)}
"""


def printable(text: str) -> str:
    """Text with control characters escaped, so that what a file says cannot drive a terminal."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def is_controlling(text: str) -> bool:
    """Whether a text holds characters that drive a terminal, other than tabs and ends of lines."""
    return CONTROLS.search(text) is not None


def escape(text: str) -> str:
    """Text for HTML and SVG; a character that neither has becomes a replacement character."""
    return _escape(
        "".join(c if c.isprintable() or c in " \n" else "\N{REPLACEMENT CHARACTER}" for c in text)
    )


def card(
    title: str,
    facts: Iterable[tuple[str, str]],
    header: Sequence[str] = (),
    rows: Iterable[Sequence[str]] = (),
) -> str:
    """A card: a title, facts as name and value, and a table with a header."""
    body = "".join(_table_row(cells, first=_NAME) for cells in rows)
    tables = _table(_facts(facts))
    if body:
        head = "".join(_cell("th", _cell_text(name), _SOFT) for name in header)
        tables += _table(_line(head) + body, above=6)
    return _frame(title, tables)


def bars(
    title: str, rows: Sequence[tuple[str, str, float]], facts: Iterable[tuple[str, str]]
) -> str:
    """A card with one bar a row: (name, what it holds, length).

    A negative length is drawn in blue to the left of a line, a positive one in red to its right.
    """
    widest = max((abs(length) for _, _, length in rows), default=0) or 1
    lines = "".join(_bar_row(name, held, length, length / widest) for name, held, length in rows)
    return _frame(title, _table(lines) + _table(_facts(facts), above=6))


def page(title: str, body: str, style: str = "") -> str:
    """A page of its own around a card, or around a body with a style sheet."""
    sheet = f"<style>{style}</style>" if style else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>{sheet}"
        '<body style="margin:2em;font:14px/1.5 system-ui,sans-serif">'
        f'<h1 style="font-size:16px">{escape(title)}</h1>'
        f"{body}</body></html>\n"
    )


def wide_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of a page of its own; where it is wider than the page, it scrolls by itself."""
    lines = [_tagged_line(header, "th")]
    lines += [_tagged_line(cells, "td") for cells in rows]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _tagged_line(cells: Sequence[str], tag: str) -> str:
    inside = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def short(value: object) -> str:
    """A value of a row in a few characters."""
    if value is None or value != value:  # only NaN differs from itself
        return "missing"
    text = number(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else text[:21] + "..."


def number(value: float, digits: int = 4, sign: str = "-") -> str:
    """A number in `digits` digits, or in all of its whole part: 857619 and not 8.576e+05.

    `sign` is as `format` has it.
    """
    if 10 ** (digits - 1) <= abs(value) < MOST_WHOLE:
        return f"{value:{sign}.0f}"
    return f"{value:{sign}.{digits}g}"


def some(names: Sequence[object]) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(map(str, names[:MOST_NAMES])) + (f" and {more:,} more" if more > 0 else "")


def _frame(title: str, tables: str) -> str:
    return f'<div style="{_CARD}"><div style="{_TITLE}">{escape(title)}</div>{tables}</div>'


def _table(lines: str, above: int = 0) -> str:
    return f'<table style="{_TABLE};margin-top:{above}px">{lines}</table>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(_table_row(fact, first=_SOFT) for fact in facts)


def _table_row(cells: Sequence[str], first: str) -> str:
    styles = [first] + [""] * (len(cells) - 1)
    return _line(
        "".join(
            _cell("td", _cell_text(text), style) for text, style in zip(cells, styles, strict=True)
        )
    )


def _line(cells: str) -> str:
    return f'<tr style="background:none">{cells}</tr>'


def _cell(tag: str, content: str, style: str = "") -> str:
    return f'<{tag} style="{_CELL};{style}">{content}</{tag}>'


def _cell_text(text: str) -> str:
    """Text in a cell: short text stays on one line, and a word wider than the card is broken."""
    fit = "white-space:nowrap" if len(text) <= _SHORT else "min-width:16em;overflow-wrap:anywhere"
    return f'<div style="{fit}">{escape(text)}</div>'


def _bar_row(name: str, held: str, length: float, share: float) -> str:
    """A row of a card of bars; `share` is the length relative to the longest, -1 to 1."""
    width = 50 * abs(share)
    left = 50 - width if share < 0 else 50.0
    color = BLUE if share < 0 else RED
    line = (
        f'<div style="position:absolute;left:50%;width:1px;height:100%;background:{_LINE}"></div>'
    )
    bar = (
        f'<div style="position:relative;width:16em;height:1.5em">{line}'
        '<div style="position:absolute;top:.25em;'
        f'left:{left:.1f}%;width:{width:.1f}%;height:1em;background:{color}"></div></div>'
    )
    cells = [_cell_text(name), _cell_text(held), bar, _cell_text(number(length, 3, "+"))]
    return _line("".join(_cell("td", content, "vertical-align:middle") for content in cells))

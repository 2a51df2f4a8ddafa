"""Text that is safe to show on a terminal, cards for notebooks, and pages of their own.

All HTML is made by `element` and `joined`, which escape every text that is not Markup.

A card is a small table of escaped text, without scripts. Cards take the colours of the notebook
they are in, whatever its theme: text is inherited, softer text is the same seen through, lines are
a half-transparent grey, and bars have colours that stand out from white and from black.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from modelkit.report.sheet import BLUE, LINE, RED, SHEET

CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # not tabs and ends of lines
MOST_NAMES = 30  # of classes and the like
MOST_WHOLE = 1e9  # from which a number is shown with an exponent
_CARD = (
    f"border:1px solid {LINE};border-radius:6px;padding:10px "
    "14px;margin:0 8px 8px 0;display:inline-block;box-sizing:border-box;"
    "font:13px/1.5 "
    "system-ui,sans-serif;color:inherit;max-width:min(100%,72em);max-height:44em;overflow:auto;"
    f"scrollbar-color:{LINE} transparent"
)
_TITLE = "font-weight:600;margin-bottom:4px;overflow-wrap:anywhere"
# Notebooks have rules of their own for tables, which these override.
_TABLE = "border-collapse:collapse;table-layout:auto;border:0;margin:0;color:inherit;font-size:13px"
_CELL = (
    "text-align:left;vertical-align:top;padding:1px 14px 1px 0;border:0;background:none;"
    "color:inherit;line-height:1.5"
)
_SOFT = "opacity:.7;font-weight:normal"
_NAME = "font-family:ui-monospace,monospace"
_SHORT = 28  # characters that stay on one line


def printable(text: str) -> str:
    """Text with control characters escaped, so what a file says cannot drive a terminal."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def is_controlling(text: str) -> bool:
    """Whether a text holds characters that drive a terminal, other than tabs and ends of lines."""
    return CONTROLS.search(text) is not None


def escape(text: str) -> str:
    """Text for HTML and SVG; a character that neither has becomes a replacement character."""
    from html import escape as escaped  # with all names of characters, which a load does not need

    if not text.isprintable():  # nearly every text is
        known = [c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text]
        text = "".join(known)
    return escaped(text)


class Markup(str):
    """Text that is HTML already: that which `element` and `joined` give."""

    __slots__ = ()


def joined(*parts: str) -> Markup:
    """Parts one after the other; anything that is not Markup is text, and is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def element(tag: str, *inside: str, **attributes: str) -> Markup:
    """An element of HTML or SVG: the texts in it and the values of its attributes are escaped.

    An underscore in the name of an attribute is a hyphen, and the last one is left out:
    `element("p", "less < more", class_="soft")`. An attribute without a value is left out.
    """
    named = [
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value
    ]
    return Markup(f"<{tag}{''.join(named)}>{joined(*inside)}</{tag}>")


# Cards.


def card(
    title: str,
    facts: Iterable[tuple[str, str]],
    header: Sequence[str] = (),
    rows: Iterable[Sequence[str]] = (),
) -> Markup:
    """A card: a title, facts as name and value, and a table with a header."""
    body = [_table_row(cells, first=_NAME) for cells in rows]
    tables = [_table([_table_row(fact, first=_SOFT) for fact in facts])]
    if body:
        head = _line([_cell("th", _cell_text(name), _SOFT) for name in header])
        tables.append(_table([head, *body], above=6))
    return _frame(title, *tables)


def bars(
    title: str, rows: Sequence[tuple[str, str, float]], facts: Iterable[tuple[str, str]]
) -> Markup:
    """A card with one bar a row: (name, what it holds, length).

    A negative length is drawn in blue to the left of a line, a positive one in red to its right.
    """
    widest = max((abs(length) for _, _, length in rows), default=0) or 1
    lines = [_bar_row(name, held, length, length / widest) for name, held, length in rows]
    about = [_table_row(fact, first=_SOFT) for fact in facts]
    return _frame(title, _table(lines), _table(about, above=6))


def _frame(title: str, *tables: str) -> Markup:
    return element("div", element("div", title, style=_TITLE), *tables, style=_CARD)


def _table(lines: Iterable[str], above: int = 0) -> Markup:
    return element("table", *lines, style=f"{_TABLE};margin-top:{above}px")


def _table_row(cells: Sequence[str], first: str) -> Markup:
    styles = [first] + [""] * (len(cells) - 1)
    pairs = zip(cells, styles, strict=True)
    return _line([_cell("td", _cell_text(text), style) for text, style in pairs])


def _line(cells: Iterable[str]) -> Markup:
    return element("tr", *cells, style="background:none")


def _cell(tag: str, content: str, style: str = "") -> Markup:
    return element(tag, content, style=f"{_CELL};{style}")


def _cell_text(text: str) -> Markup:
    """Text in a cell: short text stays on one line, and a word wider than the card is broken."""
    fit = "white-space:nowrap" if len(text) <= _SHORT else "min-width:16em;overflow-wrap:anywhere"
    return element("div", text, style=fit)


def _bar_row(name: str, held: str, length: float, share: float) -> Markup:
    """A row of a card of bars; `share` is the length relative to the longest, -1 to 1."""
    width = 50 * abs(share)
    left = 50 - width if share < 0 else 50.0
    size = f"left:{left:.1f}%;width:{width:.1f}%;height:1em;background:{BLUE if share < 0 else RED}"
    line = f"position:absolute;left:50%;width:1px;height:100%;background:{LINE}"
    bar = element(
        "div",
        element("div", style=line),
        element("div", style=f"position:absolute;top:.25em;{size}"),
        style="position:relative;width:16em;height:1.5em",
    )
    cells = [_cell_text(name), _cell_text(held), bar, _cell_text(number(length, 3, "+"))]
    return _line([_cell("td", content, "vertical-align:middle") for content in cells])


# Pages and their parts.


def page(title: str, *parts: str, style: str = "") -> str:
    """A page of its own with the style sheet, and with rules that no other page has."""
    meta = {"viewport": "width=device-width", "color-scheme": "light dark"}
    head = [f'<meta name="{name}" content="{value}">' for name, value in meta.items()]
    body = element("body", element("h1", title), *parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">{"".join(head)}'
        f"{element('title', title)}<style>{SHEET}{style}</style>{body}</html>\n"
    )


def part(title: str, *inside: str) -> Markup:
    """A part of a page under its heading; nothing where there is nothing in it."""
    return joined(element("h2", title), *inside) if any(inside) else Markup()


def box(*inside: str, look: str = "") -> Markup:
    """A frame around what is most worth knowing; the look is "bad", "good" or ""."""
    return element("div", *inside, class_=f"box {look}")


def summary(lead: str, words: str, *inside: str, look: str) -> Markup:
    """A box with what was found, and what to do, before anything else."""
    return box(element("p", lead, class_="lead"), element("p", words), *inside, look=look)


def section(title: str, words: str, *inside: str) -> Markup:
    """A part of a grid: a small heading, a line of soft words, and what they are about."""
    about = element("p", words, class_="soft")
    return element("section", element("h3", title), about, *inside)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table of a page of its own; where it is wider than the page, it scrolls by itself."""
    lines = [_tagged_line(header, "th")] if any(header) else []
    lines += [_tagged_line(cells, "td") for cells in rows]
    return element("div", element("table", *lines), class_="wide")


def _tagged_line(cells: Sequence[str], tag: str) -> Markup:
    return element("tr", *[element(tag, cell) for cell in cells])


def facts_list(facts: Iterable[tuple[str, str]]) -> Markup:
    """Names and what they are, side by side."""
    lines = [joined(element("dt", name), element("dd", text)) for name, text in facts]
    return element("dl", *lines)


def bullets(items: Iterable[str]) -> Markup:
    """A list with bullets; nothing without items."""
    lines = [element("li", item) for item in items]
    return element("ul", *lines) if lines else Markup()


def more(total: int, shown: int, noun: str = "") -> Markup:
    """A line that counts what is not shown, if there is any."""
    left = total - shown
    return element("p", f"and {left:,} more {noun}".rstrip()) if left > 0 else Markup()


# Numbers and names.


def figures(text: str) -> Markup:
    """Numbers that stand under one another, on one line."""
    return element("span", text, class_="num")


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

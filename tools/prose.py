"""Count the forms that read as translated, per thousand words: `python tools/prose.py [--list]`.

Three places: the pages of docs and the README; the docstrings of src; the messages of src (every
other string there of four words or more). Code, tables and headings are left out. `--list` prints
each sentence that has such a form. A count proves nothing: read the page as well.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

FORMS = {
    "is no NOUN": re.compile(
        r"\b(is|are|was|has|have|holds?|makes?|raises?|gives?|needs?|takes?) "
        r"no (?!longer|more than|matter)\w+",
        re.IGNORECASE,
    ),
    "that of": re.compile(r"\b(that|those) of\b", re.IGNORECASE),
    "is told": re.compile(r"\b(is|are) told\b|\btells?\b", re.IGNORECASE),
}
YOU = re.compile(r"\byou(r)?\b", re.IGNORECASE)
WORD = re.compile(r"\w+")


def without_code(text: str) -> str:
    """The prose of a page of Markdown: code, tables, headings and addresses are left out."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^(\||#|!\[|<|:::|\.\.).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"`[^`]*`", "X", text)


def pages(*folders: str) -> Iterator[str]:
    """The prose of each page in these folders of docs; all of docs and the README without any."""
    for folder in folders or ("",):
        for path in sorted((ROOT / "docs" / folder).rglob("*.md")):
            yield without_code(path.read_text(encoding="utf-8"))
    if not folders:
        yield without_code((ROOT / "README.md").read_text(encoding="utf-8"))


def _literal(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "X"


def _strings(node: ast.AST) -> Iterator[ast.AST]:
    """Each string of a tree once: an f-string is one, and its parts are none of their own."""
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from _strings(child)


def source() -> tuple[list[str], list[str]]:
    """The docstrings and the messages of src."""
    docstrings, messages = [], []
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in _strings(tree):
            text = without_code(_literal(node))
            if id(node) in alone:
                docstrings.append(text)
            elif len(text.split()) >= 4:
                messages.append(text)
    return docstrings, messages


def rate(pattern: re.Pattern[str], texts: list[str]) -> float:
    """How often a form occurs in a thousand words."""
    words = sum(len(WORD.findall(text)) for text in texts)
    return 1000 * sum(len(pattern.findall(text)) for text in texts) / max(words, 1)


def main() -> None:
    docstrings, messages = source()
    for name, texts in {
        "docs": list(pages()),
        "tutorials and how-tos": list(pages("start", "howto")),
        "docstrings": docstrings,
        "messages": messages,
    }.items():
        rates = {form: rate(pattern, texts) for form, pattern in {**FORMS, "you": YOU}.items()}
        print(f"{name:22}", "  ".join(f"{form} {value:.2f}" for form, value in rates.items()))
        if "--list" in sys.argv:
            for sentence in re.split(r"(?<=[.!?:])\s+", "\n\n".join(texts)):
                if any(pattern.search(sentence) for pattern in FORMS.values()):
                    print("   ", " ".join(sentence.split()))


if __name__ == "__main__":
    main()

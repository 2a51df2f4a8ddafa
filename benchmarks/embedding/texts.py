"""Real texts that every environment has: the paragraphs of the docstrings of installed packages."""

import ast
import random
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("numpy", "scipy")
LEAST, MOST = 5, 160  # words of a paragraph: worth embedding, and not a table


def paragraphs(n: int, seed: int = 0) -> list[str]:
    """`n` distinct paragraphs in an order of their own."""
    found: dict[str, None] = {}
    for package in PACKAGES:
        folder = Path(find_spec(package).submodule_search_locations[0])
        for file in sorted(folder.rglob("*.py")):
            if "tests" not in file.parts:
                found |= dict.fromkeys(_paragraphs(file.read_text(encoding="utf-8")))
    return random.Random(seed).sample(list(found), n)


def _paragraphs(source: str) -> list[str]:
    nodes = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
    )
    texts = [text for node in nodes if (text := ast.get_docstring(node))]
    parts = (" ".join(part.split()) for text in texts for part in text.split("\n\n"))
    return [part for part in parts if LEAST <= len(part.split()) <= MOST]

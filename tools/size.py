"""Print how heavy the source is, room by room, and fail above the budget.

Tokens are counted and not lines, because a limit of lines is met by packing them. Strings, comments
and docstrings are counted apart, in bytes; a string that the source runs or parses as code counts
as code. `tools/budget.txt` holds the most tokens that the source may have, and the most lines of
files that are still longer than a file may be; these numbers only fall.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "modelkit"
BUDGET = ROOT / "tools" / "budget.txt"
MOST_TOKENS = 400  # of a function
MOST_LINES = 400  # of a file
RUN = {"compile", "eval", "exec"}  # what runs a string
LAYOUT = {
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
TEXT = {tokenize.COMMENT, tokenize.STRING}
FUNCTIONS = (ast.AsyncFunctionDef, ast.FunctionDef)


def tokens_by_line(text: str) -> Counter[int]:
    """How many tokens begin on each line; strings, comments and layout left out."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(token.start[0] for token in tokens if token.type not in LAYOUT | TEXT)


def bytes_of_text(text: str) -> int:
    """The bytes of strings and comments."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(len(token.string.encode()) for token in tokens if token.type in TEXT)


def tokens_in_strings(tree: ast.Module) -> int:
    """The tokens of strings that are run: arguments of compile, eval and exec."""
    total = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in RUN:
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    total += sum(tokens_by_line(part.value).values())
    return total


def sizes_of_functions(tree: ast.Module, lines: Counter[int]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            yield f"{node.lineno} {node.name}", sum(lines[line] for line in span)


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def importers(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """The modules that import each module, anywhere in them."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, tree in trees.items():
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [each if each in trees else str(node.module) for each in whole]
            for imported in names:
                if imported != name:
                    found[imported].add(name)
    return found


def main() -> int:
    problems = []
    budget = {
        name: int(most) for name, most in map(str.split, BUDGET.read_text("utf-8").splitlines())
    }
    rooms: dict[str, Counter[str]] = defaultdict(Counter)
    texts = {module_of(path): path.read_text("utf-8") for path in sorted(SOURCE.rglob("*.py"))}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    used_by = importers(trees)
    for name, text in texts.items():
        lines = tokens_by_line(text)
        room = rooms[name.split(".")[1] if "." in name else "__init__"]
        room["tokens"] += lines.total() + tokens_in_strings(trees[name])
        room["bytes of text"] += bytes_of_text(text)
        room["files"] += 1
        room["lines"] += text.count("\n")
        room["one importer"] += len(used_by[name]) == 1
        for function, size in sizes_of_functions(trees[name], lines):
            if size > MOST_TOKENS:
                problems.append(f"{name}:{function}: {size} tokens, above {MOST_TOKENS}")
        most = budget.get(name, MOST_LINES)
        if text.count("\n") > most:
            problems.append(f"{name}: {text.count(chr(10))} lines, above {most}")
    for path in SOURCE.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".typed"):
            rooms[path.relative_to(SOURCE).parts[0]]["bytes of data"] += path.stat().st_size
    heads = ("tokens", "bytes of text", "bytes of data", "files", "lines", "one importer")
    print(f"{'room':14}" + "".join(f"{head:>15}" for head in heads))
    whole = sum(rooms.values(), Counter())
    for room_name, counts in [*sorted(rooms.items()), ("all", whole)]:
        print(f"{room_name:14}" + "".join(f"{counts[head]:15,}" for head in heads))
    if whole["tokens"] > budget["tokens"]:
        problems.append(
            f"{whole['tokens']:,} tokens, above the {budget['tokens']:,} of tools/{BUDGET.name}: "
            "take away as much as you add"
        )
    print(*problems, sep="\n")
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main())

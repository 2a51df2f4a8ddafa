"""Report how heavy the source is, by folder, and fail where a function is too long.

Tokens are counted and not lines, because a limit of lines is met by packing them. Comments and
strings do not count. A function has at most 400.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

SKIPPED = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
    tokenize.STRING,
}
LARGEST = 400
FUNCTIONS = (ast.AsyncFunctionDef, ast.FunctionDef)


def tokens_by_line(text: str) -> Counter[int]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(token.start[0] for token in tokens if token.type not in SKIPPED)


def functions_of(tree: ast.Module, lines: Counter[int]) -> dict[str, int]:
    sizes = {}
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            sizes[f"{node.lineno} {node.name}"] = sum(lines[line] for line in span)
    return sizes


def main(root: Path) -> int:
    problems = []
    print(f"{'folder':24}{'tokens':>8}{'function p90':>14}{'largest':>9}")
    for folder in sorted({path.parent for path in root.rglob("*.py")}):
        total = 0
        sizes: dict[str, int] = {}
        for path in sorted(folder.glob("*.py")):
            text = path.read_text()
            tree = ast.parse(text)
            counted = tokens_by_line(text)
            total += counted.total()
            sizes |= {f"{path}:{name}": size for name, size in functions_of(tree, counted).items()}
        if not sizes:
            continue
        ordered = sorted(sizes.values())
        ninetieth = ordered[int(0.9 * len(ordered))]
        print(f"{folder.relative_to(root.parent)!s:24}{total:8}{ninetieth:14}{ordered[-1]:9}")
        problems += [
            f"{name}: {size} tokens, above {LARGEST}"
            for name, size in sizes.items()
            if size > LARGEST
        ]
    print(*problems, sep="\n")
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Run the code blocks of README.md and of the pages in docs/: those of a page share their names and a temporary folder.

A `python` block is executed; a `text` block right below it is what it prints. In a `console` block
each line that starts with `$ modelkit` is run, and the lines below it are its output. `...` stands
for anything, as in doctest. The blocks of a page that begins with `<!-- needs NAME -->` are skipped
where a module of that name is not installed. A page with `after: PAGE` in its front matter goes on
where that one ends: its blocks are run first.
"""

from __future__ import annotations

import doctest
import io
import os
import re
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Region, Sybil

# The training libraries' threads spin while they wait, which takes minutes where other processes
# hold the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of processes that tests start would each compile the library anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
PYTHON = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
NEEDS = re.compile(r"^<!-- needs (\w+) -->$", re.MULTILINE)
AFTER = re.compile(r"\A---\n(?:\w+: .*\n)*?after: (?P<page>.+)\n", re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ modelkit (?P<arguments>.*)\n(?P<printed>(?:(?!\$ ).*\n)*)", re.MULTILINE)


def find(document: Document) -> Iterator[Region]:
    needed = NEEDS.findall(document.text)
    absent = [name for name in needed if find_spec(name) is None]
    after = AFTER.match(document.text)
    for place, earlier in enumerate(examples_of(document.path, after["page"]) if after else ()):
        yield Region(place, place + 1, earlier, skip if absent else run_earlier)
    for pattern, evaluate in ((PYTHON, run_python), (CONSOLE, run_console)):
        for match in pattern.finditer(document.text):
            yield Region(match.start(), match.end(), match, skip if absent else evaluate)


def skip(example: Example) -> None:
    pytest.skip("the page needs " + ", ".join(NEEDS.findall(example.document.text)))


def examples_of(path: str, name: str) -> list[tuple[Document, Region]]:
    """The examples of another page, in their order, with those that it goes on from."""
    earlier = (Path(path).parent / name).resolve()
    page = Document(earlier.read_text(encoding="utf-8"), str(earlier))
    return [(page, region) for region in sorted(find(page), key=lambda region: region.start)]


def run_earlier(example: Example) -> None:
    page, region = example.parsed
    region.evaluator(Example(page, 1, 1, region, example.namespace))


def run_python(example: Example) -> None:
    match = example.parsed
    line = example.document.text.count("\n", 0, match.start("code"))
    code = compile("\n" * line + match["code"], example.path, "exec", dont_inherit=True)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()) as printed:
        for name in NEEDS.findall(example.document.text):
            warnings.filterwarnings("ignore", module=name)  # what it warns of in itself
        exec(code, example.namespace)  # noqa: S102 - running the documentation is the point
    if match["printed"] is not None:
        compare(match["printed"], printed.getvalue())


def run_console(example: Example) -> None:
    from modelkit.cli import main

    for command in COMMAND.finditer(example.parsed["body"]):
        with redirect_stdout(io.StringIO()) as printed:
            status = main(shlex.split(command["arguments"]))
        assert status == 0 or printed.getvalue(), command["arguments"]  # "..." would hide an error
        compare(command["printed"], printed.getvalue())


def compare(shown: str, printed: str) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(shown, printed, options), (
        f"shown:\n{shown}\nprinted:\n{printed}"
    )


def enter_folder(namespace: dict[str, Any]) -> None:
    """A new folder, and counts that begin at 0, as in a process of its own."""
    book = sys.modules.get("modelkit.serving.metering.book")
    if book is not None:
        book._book = book._Book()
    namespace["_folders"] = tempfile.TemporaryDirectory(), Path.cwd()
    os.chdir(namespace["_folders"][0].name)


def leave_folder(namespace: dict[str, Any]) -> None:
    folder, before = namespace["_folders"]
    os.chdir(before)
    folder.cleanup()


pytest_collect_file = Sybil(
    parsers=[find],
    patterns=["README.md", "docs/*.md", "docs/*/*.md", "docs/*/*/*.md"],
    setup=enter_folder,
    teardown=leave_folder,
).pytest()

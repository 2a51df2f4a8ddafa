"""Each row of docs/explanation/compliance.md names what shows it: a command that a page runs, or a page that exists."""

import argparse
import re

import pytest
from helpers.places import ROOT

from modelkit.cli import build_parser

PAGE = ROOT / "docs" / "explanation" / "compliance.md"
LINK = re.compile(r"\]\(([^)#]+\.md)?(?:#[\w-]+)?\)")
COMMAND = re.compile(r"`modelkit (\w+)")
RUN = re.compile(r"^\$ modelkit (\w+)", re.MULTILINE)
HEADER = "| what modelkit does | what stays with you | shown by |"


def rows():
    """The cells of each row of the three tables of laws."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.endswith(HEADER):
            for row in lines[number + 2 :]:
                if not row.startswith("| "):
                    break
                yield [cell.strip() for cell in row.strip("|").split(" | ")]


def commands():
    (verbs,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return set(verbs.choices)


def test_there_are_three_laws_and_no_cell_is_empty():
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(HEADER) == 3
    assert len([*rows()]) >= 30
    assert all(len(row) == 4 and all(row) for row in rows())
    assert "**not legal advice**" in text
    assert "were not checked against the Official Journal" in text


@pytest.mark.parametrize("row", [*rows()], ids=lambda row: row[0].split(":")[0])
def test_each_row_names_a_command_that_is_run_or_a_page_that_exists(row):
    shown = row[-1]
    named, pages = COMMAND.findall(shown), [link for link in LINK.findall(shown) if link]
    assert named or pages
    assert set(named) <= commands()
    assert all((PAGE.parent / page).resolve().is_file() for page in pages)
    text = "".join(each.read_text("utf-8") for each in (ROOT / "docs").rglob("*.md"))
    assert set(named) <= {*RUN.findall(text), "serve"}  # which does not end

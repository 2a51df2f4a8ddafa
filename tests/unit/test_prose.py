"""The forms that read as translated are rare, and tutorials and how-tos speak to the reader."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from helpers.places import ROOT

# Per thousand words, at most. A limit may only fall.
LIMIT = {"is no NOUN": 0.5, "that of": 0.3, "is told": 0.3}
PLACES = ["docs", "tutorials and how-tos", "docstrings", "messages"]
YOU = 12.0  # at least, in tutorials and how-tos


def _tool():
    spec = importlib.util.spec_from_file_location("prose_tool", ROOT / "tools" / "prose.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PROSE = _tool()


@pytest.fixture(scope="module")
def texts():
    docstrings, messages = PROSE.source()
    return {
        "docs": list(PROSE.pages()),
        "tutorials and how-tos": list(PROSE.pages("start", "howto")),
        "docstrings": docstrings,
        "messages": messages,
    }


@pytest.mark.parametrize("place", PLACES)
def test_forms_that_read_as_translated_are_rare(texts, place):
    rates = {form: PROSE.rate(pattern, texts[place]) for form, pattern in PROSE.FORMS.items()}
    over = {form: round(rate, 2) for form, rate in rates.items() if rate > LIMIT[form]}
    assert not over, f"{place}: {over} of {LIMIT}; python tools/prose.py --list shows them"


def test_tutorials_and_how_tos_speak_to_the_reader(texts):
    assert PROSE.rate(PROSE.YOU, texts["tutorials and how-tos"]) >= YOU


def test_code_tables_and_headings_are_not_prose():
    page = "---\nkind: x\n---\n# that of\n\n```text\nthat of\n```\n| that of |\n\nYou `is no x` [a](b).\n"
    assert PROSE.WORD.findall(PROSE.without_code(page)) == ["You", "X", "a"]


@pytest.mark.parametrize(
    ("form", "sentence", "count"),
    [
        ("is no NOUN", "An alarm is no proof, and it has no date.", 2),
        ("is no NOUN", "It is no longer there, and no more than ten are.", 0),
        ("that of", "Its dtype is that of the graph; those of the rows count.", 2),
        ("is told", "Who is told that it tells them?", 2),
    ],
)
def test_the_forms_are_counted(form, sentence, count):
    assert len(PROSE.FORMS[form].findall(sentence)) == count

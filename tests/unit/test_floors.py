"""No import goes in a circle, between a room and its own modules either, which import-linter leaves out."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from helpers.places import SOURCE, module_of

FILES = sorted(SOURCE.rglob("*.py"))


MODULES = {module_of(path) for path in FILES}


def imported(tree):
    """The modules of modelkit that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def graph(sources):
    found = {}
    for name, text in sources.items():
        found[name] = MODULES.intersection(imported(ast.parse(text))) - {name}
    return found


def test_no_import_goes_in_a_circle():
    found = graph({module_of(path): path.read_text() for path in FILES})
    assert len(found) > 100
    TopologicalSorter(found).prepare()


def test_a_circle_closed_by_an_annotation_is_found():
    taken = "from modelkit.drift.tracker import Tracker"
    circle = {
        "modelkit.drift.tracker": "from modelkit.drift import findings",
        "modelkit.drift.findings": f"if TYPE_CHECKING:\n    {taken}",
    }
    with pytest.raises(CycleError):
        TopologicalSorter(graph(circle)).prepare()

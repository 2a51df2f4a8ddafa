"""Each library is imported where the table `tool.owners` of pyproject.toml says, and nowhere else.

What fails shows pairs of a library and a module: import it in its owner, or name the new owner in the table.
"""

import ast
import sys
import tomllib

import pytest
from helpers.places import ROOT, module_of

ROOMS = ROOT / "src" / "modelkit"
OWNERS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["owners"]


def imported(path):
    """The full names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.fixture(scope="module")
def imports():
    return {
        (module_of(path, ROOMS), name) for path in ROOMS.rglob("*.py") for name in imported(path)
    }


@pytest.fixture(scope="module")
def pairs(imports):
    return {(name.partition(".")[0], module) for module, name in imports} - {("modelkit", "")}


def within(owner, module):
    return owner == "*" or module == owner or module.startswith(f"{owner}.")


def test_a_library_is_imported_by_its_owners_alone(pairs):
    free = {*sys.stdlib_module_names, "modelkit"} - {*OWNERS}
    assert {
        (library, module)
        for library, module in pairs
        if library not in free
        and not any(within(owner, module) for owner in OWNERS.get(library, ()))
    } == set()


def test_every_owner_imports_its_library(pairs):
    assert {
        (library, owner)
        for library, owners in OWNERS.items()
        for owner in owners
        if not any(library == name and within(owner, module) for name, module in pairs)
    } == set()


def test_only_commands_use_the_names_of_the_root(imports):
    """`types` takes its lazy import from there, and no name."""
    rooms = {path.stem for path in ROOMS.iterdir()}
    users = {module for module, name in imports if name == "modelkit"}
    users |= {
        module
        for module, name in imports
        if name.startswith("modelkit.") and name.split(".")[1] not in rooms
    }
    assert {module for module in users if not within("cli", module)} == {"types"}

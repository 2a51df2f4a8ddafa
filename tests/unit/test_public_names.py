"""The public names: where each lives, what type checkers see, and what an import of one needs."""

import ast
import functools
import sys
import tomllib

import pytest
from helpers.places import ROOT, SOURCE, module_of

import modelkit as mk

FILES = {module_of(path): path for path in SOURCE.rglob("*.py")}
OWNERS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["owners"]
OPTIONAL = {*OWNERS, "google"} - {"numpy", *sys.stdlib_module_names}


@pytest.mark.parametrize("module", [mk, mk.types], ids=lambda module: module.__name__)
def test_type_checkers_see_the_names_that_are_there(module):
    stub = ast.parse((SOURCE / module.__file__).with_suffix(".pyi").read_text("utf-8"))
    homes = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            (alias,) = node.names
            assert alias.asname == alias.name  # else a type checker takes it for private
            room = node.module == "modelkit"
            homes[alias.name] = f"modelkit.{alias.name}" if room else node.module
    assert homes == module._HOMES


@functools.cache
def imported_at_once(name):
    """The modules that a module imports as it is imported."""
    found = []
    pending = ast.parse(FILES[name].read_text("utf-8")).body
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wholes = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [whole if whole in FILES else node.module for whole in wholes]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        elif isinstance(node, ast.If | ast.With | ast.Try):
            pending += ast.iter_child_nodes(node)
    return found


def packages_of(name):
    """The packages that a module lies in."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


@pytest.mark.parametrize("home", sorted({*mk._HOMES.values(), *mk.types._HOMES.values()}))
def test_a_public_name_needs_no_optional_library(home):
    """It was an error of `hasattr(mk, "save")` and of `help(modelkit)`; the call says what it lacks."""
    ways, pending = {home: home}, [home]
    while pending:
        name = pending.pop()
        for imported in [*imported_at_once(name), *packages_of(name)]:
            assert imported.partition(".")[0] not in OPTIONAL, f"{ways[name]} > {imported}"
            if imported in FILES and imported not in ways:
                ways[imported] = f"{ways[name]} > {imported}"
                pending.append(imported)


def test_names_are_kept_once_they_were_used():
    assert mk.types.Manifest is vars(mk.types)["Manifest"]
    with pytest.raises(AttributeError, match="module 'modelkit' has no attribute 'nothing'"):
        mk.nothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"module 'modelkit.types' has no attribute 'Model'"):
        mk.types.Model  # noqa: B018

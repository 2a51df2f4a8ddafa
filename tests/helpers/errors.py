"""Every error of the library as an example, and the extras that errors name."""

import importlib
import pkgutil
import re
import tomllib

import modelkit
from helpers.places import ROOT
from modelkit.errors import MissingExtraError, ModelkitError, SignatureError
from modelkit.signature.spec import TensorSpec

ABOUT = {
    "member": "model.onnx",
    "obstacles": {"cuda": "there is none"},
    "spec": TensorSpec("X", "float32", ("batch", 3)),
    "gap": 0.25,
    "missing": ("digest", "allow"),
}


def tree(kind=ModelkitError):
    """Every error of the library, whichever module defines it."""
    for module in pkgutil.walk_packages(modelkit.__path__, "modelkit."):
        if module.name.startswith("modelkit.testing") or module.name.endswith("__main__"):
            continue
        importlib.import_module(module.name)
    found, open_ones = [], [kind]
    while open_ones:
        kind = open_ones.pop()
        found.append(kind)
        open_ones += kind.__subclasses__()
    return found


def sample(kind):
    """An error of this kind with attributes of every sort and a note."""
    if issubclass(kind, MissingExtraError):
        error = kind("explaining", "shap", "explain", {"plot": "matplotlib"})
    elif issubclass(kind, SignatureError):
        error = kind("the rows do not fit", problems=("one", "two"), **ABOUT)
    else:
        error = kind("it failed", **ABOUT)
    error.add_note("while testing")
    return error


def assert_equal(one, other):
    assert type(one) is type(other)
    assert str(one) == str(other)
    assert one.args == other.args
    assert one.__dict__ == other.__dict__
    assert one.__notes__ == ["while testing"]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(extra):
    """What an extra brings, also through the extras that it includes."""
    found = set()
    for line in PROJECT["optional-dependencies"][extra]:
        name, _, included = re.match(r"([\w-]+)(\[([\w,-]+)\])?", line).groups()
        own = name == PROJECT["name"]
        found |= set().union(*map(requirements, included.split(","))) if own else {name}
    return found


def extras_with(library):
    return {extra for extra in PROJECT["optional-dependencies"] if library in requirements(extra)}

"""Errors as values: what they carry crosses processes, and what is missing is named with what to type."""

import ast
import collections
import copy
import errno
import functools
import os
import pickle
import re
import sys
import time
from pathlib import Path

import pytest
from helpers.errors import PROJECT, assert_equal, extras_with, requirements, sample, tree
from helpers.places import ROOT

import modelkit
from modelkit import errors
from modelkit.errors import (
    MissingExtraError,
    ModelkitError,
    RegistryError,
    importing,
    public_text,
    without_credentials,
)


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_and_copying(kind):
    error = sample(kind)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert_equal(error, pickle.loads(pickle.dumps(error, protocol)))
    assert_equal(error, copy.copy(error))
    assert_equal(error, copy.deepcopy(error))


def test_what_is_missing_is_told_with_what_to_type_anywhere():
    said = str(MissingExtraError("saving it", "spox", "sklearn"))
    assert said == (
        "saving it needs spox, which is not installed: pip install spox; or in a checkout of modelkit: "
        'pip install -e ".[sklearn]"'
    )
    assert str(MissingExtraError("watching", "scipy")) == (
        "watching needs scipy, which is not installed: pip install scipy"
    )


def test_a_library_that_is_there_and_fails_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "brokenlib.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(
            MissingExtraError, match=r"cannot be imported .*no_such_dependency"
        ) as caught,
        importing("brokenlib", "testing"),
    ):
        import brokenlib  # noqa: F401
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert str(copy.copy(caught.value)) == str(caught.value)


def test_a_distribution_whose_module_has_another_name_is_called_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with (
        pytest.raises(MissingExtraError, match="needs scikit-learn, which is not installed"),
        importing("scikit-learn", "testing", "sklearn"),
    ):
        import sklearn  # noqa: F401


def test_the_base_is_numpy_and_each_extra_brings_what_it_needs():
    assert [re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]] == ["numpy"]
    assert extras_with("onnx") == {
        "save",
        "explain",
        "explain-extra",
        "sklearn",
        "boosting",
        "torch",
        "all",
    }
    assert extras_with("scipy") == {"drift", "evaluate", "explain", "explain-extra", "all"}
    assert extras_with("joblib") == {"joblib", "all"}
    runtimes = {"onnxruntime", "onnxruntime-gpu"}
    assert {
        extra for extra in PROJECT["optional-dependencies"] if runtimes & requirements(extra)
    } == {"cpu", "gpu"}


def test_every_extra_that_an_error_names_brings_its_library():
    """The library of each `importing` in the source is in the extra that it names."""
    source = "".join(path.read_text() for path in (Path(modelkit.__file__).parent).rglob("*.py"))
    calls = re.findall(r'importing\(\s*"([\w-]+)",\s*f?"[^"]*",\s*"([\w-]+)"', source)
    assert len(calls) > 15
    without = re.findall(r'with importing\((?:"[\w-]+"|\w+), (?:"[^"]*"|[A-Z]+)\)', source)
    assert len(calls) + len(without) == len(re.findall(r"with importing\(", source))
    for library, extra in calls:
        assert library.replace("_", "-") in requirements(extra), (library, extra)


def test_the_time_of_looking_for_addresses_grows_as_a_text_does():
    """40,000 letters took 2.6 seconds."""
    start = time.process_time()
    for text in ("a" * 400_000, "s3:/x" * 80_000):
        assert without_credentials(text) == text
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://user:pa@ss@h:9/b/x?list-type=2 in 3s", "GET http://...@h:9/b/x?... in 3s"),
        ("http://u:p?w@h/x", "http://...@h/x"),
        ("s3://key:pass/word@bucket", "s3://...@bucket"),
        ("https:/u:p@h and az://c/x?sig=a%20b", "https:/...@h and az://c/x?..."),
        ("s3://bucket/path is free, is it?", "s3://bucket/path is free, is it?"),
        ("write to a@b.c", "write to a@b.c"),
    ],
)
def test_addresses_are_shown_without_passwords_and_queries(text, shown):
    assert without_credentials(text) == shown
    assert public_text(RegistryError(text)) == f"RegistryError: {shown}"
    assert public_text(OSError(text)) == "OSError"
    assert public_text(OSError(errno.ENOSPC, text)) == f"OSError: {os.strerror(errno.ENOSPC)}"


PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
FEWEST_LETTERS = 12  # of a message that are its own
BRANCH = re.compile(r"^([│├└─ ]*)(\w+)(?: \((\w+)\))?(?: .*)?$", re.MULTILINE)
SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SAID = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def branches(kind, before="", lead=""):
    """Each class of errors.py below one, as a tree shows it: what is before it, and its name."""
    others = [base.__name__ for base in kind.__bases__ if not issubclass(base, ModelkitError)]
    yield before, kind.__name__, "" if kind is ModelkitError else "".join(others)
    kinds = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    for each in kinds:
        last = each is kinds[-1]
        yield from branches(
            each, lead + ("└── " if last else "├── "), lead + ("    " if last else "│   ")
        )


def test_the_tree_at_the_top_of_the_module_is_the_tree_of_the_classes():
    drawn = errors.__doc__.split("\n\n")[1]
    assert BRANCH.findall(drawn) == list(branches(ModelkitError))


def test_the_page_of_errors_has_the_tree_and_a_section_for_each_class():
    found = [(before, name) for before, name, _ in branches(ModelkitError)]
    assert [(before, name) for before, name, _ in BRANCH.findall(SAID.search(PAGE)[1])] == found
    assert [name for name, _ in SECTION.findall(PAGE)] == [name for _, name in found]


@functools.cache
def raised():
    """What may stand in a message of each class, as the source makes it; what varies is a wildcard."""
    found = collections.defaultdict(list)
    for path in Path(errors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                message = node.args[0]
                if isinstance(message, ast.JoinedStr | ast.Constant):
                    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
                    texts = [getattr(part, "value", "") for part in parts]
                    pattern = [re.escape(x) if isinstance(x, str) else ".+" for x in texts]
                    if sum(len(text) for text in texts if isinstance(text, str)) >= FEWEST_LETTERS:
                        found[node.func.id].append("".join(pattern))
    found["MissingExtraError"].append(".+ needs .+, which is not installed: pip install .+")
    return found


@pytest.mark.parametrize(("name", "section"), SECTION.findall(PAGE))
def test_a_section_shows_a_message_of_its_class_and_says_what_to_do(name, section):
    assert section.count("**What to do:**") == 1
    said = " ".join(SAID.search(section)[1].split())
    assert any(re.fullmatch(pattern, said) for pattern in raised()[name]), said

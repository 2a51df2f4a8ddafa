"""Errors as values: what they carry crosses processes, and what is missing is named with what to type."""

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
import re
import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from helpers.places import ROOT
from helpers.processes import run

import modelkit
from modelkit.errors import MissingExtraError, ModelkitError, SignatureError, importing
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


def throw(kind):
    raise sample(kind)


def assert_equal(one, other):
    assert type(one) is type(other)
    assert str(one) == str(other)
    assert one.args == other.args
    assert one.__dict__ == other.__dict__
    assert one.__notes__ == ["while testing"]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_and_copying(kind):
    error = sample(kind)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert_equal(error, pickle.loads(pickle.dumps(error, protocol)))
    assert_equal(error, copy.copy(error))
    assert_equal(error, copy.deepcopy(error))


def test_every_error_comes_out_of_a_process_pool_and_the_pool_lives():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for kind in tree():
            error = pool.submit(throw, kind).exception(timeout=60)
            assert "in throw" in str(error.__cause__)  # the traceback of the worker
            assert_equal(sample(kind), error)


def test_what_is_missing_is_told_with_what_to_type_anywhere():
    said = str(MissingExtraError("saving it", "skl2onnx", "sklearn"))
    assert said == (
        "saving it needs skl2onnx, which is not installed: pip install skl2onnx; or in a checkout of modelkit: "
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


BLOCKED = """
    import sys
    import numpy as np

    sys.modules[{library!r}] = None
    import modelkit as mk
    from modelkit.errors import MissingExtraError

    EXTRAS = {extras!r}

    def missing(work):
        try:
            work()
        except MissingExtraError as error:
            assert error.library == {library!r}, error
            assert "pip install " + {library!r} in str(error), error
            assert "modelkit-sdk" not in str(error), error
            assert error.extra in EXTRAS, error.extra
            assert f".[{{error.extra}}]" in str(error), error
            return
        raise SystemExit("it needs no {library}")

    model = mk.load(sys.argv[1])
    rng = np.random.default_rng(0)
    X = rng.normal(size=(256, 30)).astype(np.float32)
"""


def test_without_scipy_what_needs_it_says_so(boosting_mk):
    run(
        BLOCKED.format(library="scipy", extras=extras_with("scipy"))
        + """
    profile = mk.Profile.fit(X, model=model)
    missing(lambda: mk.Detector(profile))
    missing(lambda: mk.Monitor(model, profile))
    missing(lambda: mk.Profile.fit({"embedding": X}))
    lime = mk.Explainer(model, background=X, method="lime")
    missing(lambda: lime.explain(X[:1]))
    assert mk.Explainer(model, background=X).explain(X[:1]).exact
    """,
        boosting_mk,
    )


def test_without_onnx_what_needs_it_says_so(boosting_mk):
    run(
        BLOCKED.format(library="onnx", extras=extras_with("onnx"))
        + """
    missing(lambda: mk.Explainer(model, background=X))
    missing(lambda: mk.save(model, "never.mk", name="x", version="1"))
    missing(lambda: mk.TextEncoder(b"graph", b"tokenizer"))
    assert len(model.predict(X)) == 256
    mk.Explanation
    mk.Monitor(model, mk.Profile.fit(X, model=model)).predict(X)
    """,
        boosting_mk,
    )


def test_without_joblib_a_package_of_it_says_so_and_others_are_served(boosting_mk):
    run(
        BLOCKED.format(library="joblib", extras=extras_with("joblib"))
        + """
    import importlib
    missing(lambda: importlib.import_module("modelkit.runtimes.joblib"))
    assert len(model.predict(X)) == 256
    """,
        boosting_mk,
    )

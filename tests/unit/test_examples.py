"""The examples in the docstrings of the public names run, and every public name has one.

An example is a paragraph of a docstring that is indented below a blank line, outside of sections such as "Args:".
The examples of a docstring share their names. What is a literal after `#` is what the line gives, such as
`len(report)  # 3`; any other comment is prose. Each docstring runs in a folder of its own, with the files and the
names of `NAMES`.
"""

import ast
import hashlib
import inspect
import io
import json
import logging
import re
import shutil
from contextlib import chdir, redirect_stdout
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.encoders import MOST, tiny_graph, tiny_pair_graph, tiny_tokenizer
from helpers.sealed import key_files
from helpers.signers import key_pair

import modelkit as mk

INTEGRATIONS = {
    "cards": ("model_card", "bill_of_materials"),
    "dask": ("score", "drift"),
    "mlflow": ("import_model", "log_model"),
    "opentelemetry": ("Points",),
    "prometheus": ("Collector",),
    "ray": ("score", "deployment", "drift"),
    "spark": ("score", "drift"),
}
# These are compiled, and not run: the library has an environment of its own, with the tests in tests/engines.
ELSEWHERE = {
    "modelkit.integrations.mlflow": "needs MLflow and its tracking store",
    "modelkit.integrations.ray": "needs a cluster of Ray",
    "modelkit.integrations.spark": "needs Spark, and Java",
}
SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Examples?):|.*::")


def public():
    """The public names, with what they stand for: functions and classes."""
    for name in mk.__all__:
        value = getattr(mk, name)
        if callable(value):
            yield f"mk.{name}", value
    for module, names in {
        "testing": ("check_model",),
        **{f"integrations.{m}": n for m, n in INTEGRATIONS.items()},
    }.items():
        for name in names:
            yield f"modelkit.{module}.{name}", getattr(import_module(f"modelkit.{module}"), name)


PUBLIC = dict(public())


def shown():
    """All that may have an example: the public names, the methods of the classes, and the events."""
    yield "mk.events", mk.events
    for name, value in PUBLIC.items():
        yield name, value
        for member, method in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_"):
                yield f"{name}.{member}", method


def examples(value):
    """The source of the examples of a docstring."""
    found, section, before, code = [], False, "", False
    for line in (inspect.getdoc(value) or "").splitlines():
        indented = line.startswith("    ")
        if line and not indented:
            section, code = SECTION.fullmatch(line) is not None, False
        elif indented and not before and not section:
            code = True
        found += [line[4:]] if code else []
        before = line.strip()
    return "\n".join(found).strip()


EXAMPLES = {name: source for name, value in shown() if (source := examples(value))}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_function_and_class_has_an_example(name):
    assert name in EXAMPLES


@pytest.mark.parametrize(
    "name", [name for name, value in PUBLIC.items() if inspect.isfunction(value)]
)
def test_a_public_function_says_what_it_returns(name):
    function = PUBLIC[name]
    if inspect.signature(function).return_annotation not in ("None", None):
        assert "Returns:" in inspect.getdoc(function)


def expected(source, line):
    """The literal in the comment at the end of a line, as a tuple of it alone; else ()."""
    comment = source.splitlines()[line - 1].partition("  # ")[2]
    try:
        return (ast.literal_eval(comment),)
    except (SyntaxError, ValueError):
        return ()


def run(source, names):
    """Run an example, and compare what its lines give with the literals in their comments."""
    for statement in ast.parse(source).body:
        given = expected(source, statement.end_lineno)
        if isinstance(statement, ast.Expr):
            value = eval(ast.unparse(statement.value), names)  # noqa: S307 - running the examples is the point
            if given:
                assert value == given[0], ast.unparse(statement)
        else:
            exec(ast.unparse(statement), names)  # noqa: S102 - as above
            assert not given, f"the value of {ast.unparse(statement)!r} is not compared"


def write_layout(folder):
    """A tiny encoder in the layout of sentence-transformers."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "1_Pooling").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(tiny_graph().SerializeToString())
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    pooling = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(parts)
    ]
    for name, value in {
        "tokenizer_config.json": {"model_max_length": MOST},
        "1_Pooling/config.json": pooling,
        "modules.json": modules,
    }.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def write_reranker(folder):
    """A tiny cross-encoder in the layout of Hugging Face."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(tiny_pair_graph().SerializeToString())
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    config = {"max_position_embeddings": MOST, "id2label": {"0": "LABEL_0"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def customers(count, seed):
    """Customers, and whether each left."""
    rng = np.random.default_rng(seed)
    ages, incomes = rng.integers(18, 80, count), rng.normal(50_000, 12_000, count).round()
    plans = rng.choice(["basic", "plus"], count)
    odds = (45 - ages) / 10 + (plans == "basic") + rng.normal(0, 0.7, count)
    return pd.DataFrame({"age": ages, "income": incomes, "plan": plans}), (odds > 0).astype(int)


X_train, y_train = customers(600, 0)
X_holdout, _ = customers(600, 1)
X_test, y_test = customers(300, 2)


def fitted(C=1.0):
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = (StandardScaler(), ["age", "income"]), (OneHotEncoder(), ["plan"])
    return make_pipeline(make_column_transformer(*columns), LogisticRegression(C=C)).fit(
        X_train, y_train
    )


def make(folder):
    """The files that examples read."""
    folder.mkdir()
    profile = mk.Profile.fit(X_train, reference=X_holdout)
    (folder / "profile").write_bytes(profile.to_bytes())
    about = {"example": X_train, "name": "churn", "background": X_train[:50], "profile": profile}
    registry = mk.Registry(folder / "registry")
    for package, version, C in (("churn.mk", "1.0.0", 1.0), ("new.mk", "1.1.0", 0.5)):
        mk.save(fitted(C), folder / package, version=version, **about)
        registry.register(folder / package)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="the first version")
    for name in ("release", "next-release", "audit"):
        key_pair(folder, name)
    key_files(folder, "scoring")
    write_layout(folder / "minilm")
    write_reranker(folder / "ms-marco-minilm")


@pytest.fixture(scope="module")
def files(once):
    return once("examples", make)


# What an example takes as known, and how it is made for one that names it.
NAMES = {
    "mk": lambda: mk,
    "np": lambda: np,
    "Path": lambda: Path,
    "log": lambda: logging.getLogger("examples"),
    "FastAPI": lambda: import_module("fastapi").FastAPI,
    "api": lambda: import_module("fastapi").FastAPI(),
    "exporter": lambda: import_module("opentelemetry.sdk.metrics.export").ConsoleMetricExporter(
        io.StringIO()
    ),
    "X": lambda: X_test,
    "X_today": lambda: X_test,
    "X_test": lambda: X_test,
    "y_test": lambda: y_test,
    "X_train": lambda: X_train,
    "X_new": lambda: X_train,
    "y_new": lambda: y_train,
    "X_holdout": lambda: X_holdout,
    "pipeline": fitted,
    "model": lambda: mk.load("churn.mk"),
    "candidate": lambda: mk.load("new.mk"),
    "guarded": lambda: mk.Guarded(
        mk.load("churn.mk"), lambda principal, *_: principal == "billing"
    ),
    "profile": lambda: mk.Profile.from_bytes(Path("profile").read_bytes()),
    "detector": lambda: mk.Detector(NAMES["profile"]()),
    "report": lambda: mk.robustness("churn.mk", X_test, y_test),
    "evaluation": lambda: mk.evaluate("churn.mk", X_test, y_test),
    "registry": lambda: mk.Registry("registry"),
    "encoder": lambda: mk.TextEncoder.from_directory("minilm", roles={"query": "query: "}),
    "reranker": lambda: mk.Reranker.from_directory("ms-marco-minilm"),
    "digest": lambda: hashlib.sha256(b"a token").hexdigest(),
}


# A name that stands for something else in one example.
OWN = {("mk.DriftReport.to_csv", "report"): lambda: NAMES["detector"]().test(X_test)}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_runs(name, files, tmp_path):
    source = EXAMPLES[name]
    if any(name.startswith(module) for module in ELSEWHERE):
        compile(source, name, "exec")
        return
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    with chdir(tmp_path), redirect_stdout(io.StringIO()):
        used = [word for word in NAMES if re.search(rf"\b{word}\b", source)]
        names = {word: OWN.get((name, word), NAMES[word])() for word in used}
        run(source, names)

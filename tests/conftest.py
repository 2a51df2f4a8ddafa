"""What several test files ask for: packages of real models, text encoders, and a process to attack."""

import functools
import gc
import importlib.metadata
import os
import warnings
from contextlib import nullcontext

import numpy as np
import pytest

import modelkit as mk

pytest.register_assert_rewrite("helpers")

import helpers.examples  # noqa: E402, F401 - what is imported before is not rewritten; it loads the profile of hypothesis
from helpers.batchers import PLANS  # noqa: E402


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected lives to the end: garbage is not looked for in it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("property")


@pytest.fixture(scope="session", autouse=True)
def distributions():
    """What is installed is read once a run: it takes longer than all else that saving an estimator by joblib does."""
    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(importlib.metadata.packages_distributions)
        patch.setattr(importlib.metadata, "packages_distributions", cached)
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """`once("x.mk", make)` is the path of a file, or a folder, that `make(path)` wrote, once for all workers of a run.

    Nobody may change it: what a test changes, it makes itself, or copies.
    """
    folder = tmp_path_factory.getbasetemp()
    lock = nullcontext()
    if "PYTEST_XDIST_WORKER" in os.environ:
        from filelock import FileLock

        folder = folder.parent
        lock = FileLock(folder / "once.lock")
    folder = folder / "once"

    def once(name, make):
        path = folder / name
        with lock:
            if not path.exists():
                folder.mkdir(exist_ok=True)
                unfinished = folder / f"unfinished-{name}"
                make(unfinished)
                unfinished.rename(path)
        return path

    return once


@pytest.fixture(scope="session")
def breast_cancer():
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True, as_frame=True)


@pytest.fixture(scope="session")
def boosting(breast_cancer):
    from sklearn.ensemble import GradientBoostingClassifier

    X, y = breast_cancer
    return GradientBoostingClassifier(n_estimators=20, random_state=0).fit(X, y)


@pytest.fixture(scope="session")
def boosting_mk(boosting, breast_cancer, once):
    options = {"example": breast_cancer[0], "name": "breast-cancer", "version": "1.0.0"}
    return once("boosting.mk", lambda path: mk.save(boosting, path, **options))


@pytest.fixture(scope="session")
def penguins():
    from palmerpenguins import load_penguins

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        df = load_penguins()
    return df.drop(columns="species"), df["species"]


@pytest.fixture(scope="session")
def pipeline(penguins):
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "year"]
    prepare = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
            ),
            ["island", "sex"],
        ),
    )
    return make_pipeline(prepare, LogisticRegression(max_iter=1000)).fit(*penguins)


@pytest.fixture(scope="session")
def penguins_mk(pipeline, penguins, once):
    options = {"example": penguins[0], "name": "penguins", "version": "1.0.0"}
    return once("penguins.mk", lambda path: mk.save(pipeline, path, **options))


@pytest.fixture(scope="session")
def categorical(penguins):
    """A forest that splits on categories, which has no ONNX form, and the rows it was fitted on."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    X = penguins[0].astype({"island": "category", "sex": "category"})
    forest = HistGradientBoostingClassifier(max_iter=10, categorical_features="from_dtype")
    return forest.fit(X, penguins[1]), X


@pytest.fixture(scope="session")
def joblib_mk(categorical, once):
    estimator, X = categorical

    def save(path):
        profile = mk.Profile.fit(X[::2], reference=X[1::2])
        options = {"example": X, "name": "forest", "version": "1", "format": "joblib"}
        mk.save(estimator, path, background=X[:20], profile=profile, **options)

    return once("forest.mk", save)


@pytest.fixture(scope="session")
def dense_mk(once):
    """A network with weights large enough to be external: 256 x 256 twice, relu between."""
    return once("dense.mk", lambda path: save_dense(path, 256))


@pytest.fixture(scope="session")
def wide_mk(once):
    """A network of 9 MiB, whose runs are split over the threads."""
    return once("wide.mk", lambda path: save_dense(path, 1088))


def save_dense(path, width):
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(width, width)).astype(np.float32) / width**0.5 for _ in range(2)]
    weights = [numpy_helper.from_array(draw, f"w{i}") for i, draw in enumerate(draws)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["y"]),
    ]
    tensors = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", width]) for n in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "dense", tensors[:1], tensors[1:], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    mk.save(proto, path, name="dense", version="1")


@pytest.fixture(scope="session")
def tiny_mk(once):
    """A text encoder of a few kilobytes."""
    from helpers.encoders import tiny

    options = {"roles": {"query": "query ", "text": "text "}, "dims": (8, 4, 2)}
    return once("tiny.mk", lambda path: mk.save(tiny(**options), path, name="tiny", version="1"))


@pytest.fixture(scope="session")
def pairs_mk(once):
    """A reranker of a few kilobytes."""
    from helpers.encoders import tiny_reranker

    return once("pairs.mk", lambda path: mk.save(tiny_reranker(), path, name="pairs", version="1"))


@pytest.fixture(scope="module")
def encoder(tiny_mk):
    with mk.load(tiny_mk) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def static_mk(once):
    """The static vectors of wordllama: real, and fast."""
    from helpers.encoders import static_parts

    def save(path):
        options = {"dims": (256, 128, 64), "max_tokens": 512, "roles": {"query": "query: "}}
        encoder = mk.TextEncoder(*static_parts(), **options)
        mk.save(encoder, path, name="static", version="1")

    return once("static.mk", save)


@pytest.fixture(scope="session")
def static(static_mk):
    with mk.load(static_mk) as encoder:
        yield encoder


@pytest.fixture(scope="session")
def minilm_folder(once):
    """all-MiniLM-L6-v2 in the layout of sentence-transformers, as int8."""
    from helpers.encoders import unpack_minilm

    return once("minilm", unpack_minilm)


@pytest.fixture(scope="session")
def minilm(minilm_folder):
    with mk.TextEncoder.from_directory(minilm_folder) as encoder:
        yield encoder


@pytest.fixture(scope="session")
def paraphrase():
    """paraphrase-MiniLM-L3-v2, in float32."""
    from helpers.encoders import bert_tokenizer
    from helpers.encoders import paraphrase as graph

    with mk.TextEncoder(graph(), bert_tokenizer(), max_tokens=128) as encoder:
        yield encoder


@pytest.fixture(scope="session")
def dynamic_graph(once):
    """The same with activations that are scaled by the whole batch."""
    import logging

    from helpers.encoders import paraphrase as graph

    def quantize(path):
        from onnxruntime.quantization import quantize_dynamic

        logging.disable(logging.WARNING)  # it recommends a preparation that changes nothing here
        try:
            quantize_dynamic(graph(), path)
        finally:
            logging.disable(logging.NOTSET)

    return once("dynamic.onnx", quantize)


@pytest.fixture(scope="session")
def dynamic_mk(dynamic_graph, once):
    from helpers.encoders import bert_tokenizer

    encoder = mk.TextEncoder(dynamic_graph, bert_tokenizer(), max_tokens=128)
    return once("dynamic.mk", lambda path: mk.save(encoder, path, name="dynamic", version="1"))


@pytest.fixture
def records():
    """The log records of a test, from a fresh start of all limits."""
    from helpers.records import recording

    with recording() as found:
        yield found


@pytest.fixture(scope="session")
def churn_packages(once):
    """A folder with a package of each version of `helpers.churn`."""
    from helpers.churn import save_versions

    return once("churn", save_versions)


@pytest.fixture(scope="session")
def numbered_packages(once):
    """A folder with packages of "m", whose versions answer with their number."""
    from helpers.rollouts import save_numbered

    return once("numbered", save_numbered)


@pytest.fixture(scope="session")
def judged_pair(once):
    """The packages of a candidate and its champion, whose answers are a column of the rows."""
    from helpers.judged import save_pair

    folder = once("judged", save_pair)
    return folder / "b.mk", folder / "a.mk"


@pytest.fixture(scope="session")
def judged_rows():
    """Rows on which both are right equally often, and their truth."""
    from helpers.judged import drawn_rows

    return drawn_rows(np.random.default_rng(0), 3000)


@pytest.fixture(scope="session")
def judged_rival(once):
    """Another candidate, which answers as the first one does."""
    from helpers.judged import save_reading

    return once("c.mk", lambda path: save_reading(path, "b", "1.2.0"))


@pytest.fixture
def judged_place(judged_pair, judged_rival, tmp_path):
    """A registry with a champion, and two candidates that are not yet in it."""
    candidate, champion = judged_pair
    registry = mk.Registry(tmp_path / "models")
    registry.register(champion)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return registry, candidate, judged_rival


@pytest.fixture(scope="session")
def retrained_packages(tmp_path_factory):
    """A folder for the champion of `helpers.retrainings`, which is saved where it is first asked for."""
    return tmp_path_factory.mktemp("retrained")


@pytest.fixture(scope="session")
def toy(once):
    """The bytes of a package of 30 KB, to be changed."""
    from helpers.forge import save_toy

    return once("toy.mk", save_toy).read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where attacks lie, and what they are after."""
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def warden(folder):
    from helpers.forge import Warden

    child = Warden(folder)
    yield child
    child.close()


@pytest.fixture
def canary(folder):
    path = folder / "canary"
    yield path
    assert not path.exists(), "code from a package ran"


@pytest.fixture
def refused(warden, folder, canary):
    """Opens a package in the warden: refused with this error and these words, and nothing else was touched.

    So it is if a key that is trusted has signed it, and if it is sealed for who opens it.
    """
    from helpers.vouched import vouched

    def open_it(data, error, *words, **asked):
        path = folder / "attack.mk"
        path.write_bytes(data)
        told = open_at(path, error, *words, **asked)
        for other, keys in vouched(path):
            if not ("trust" in keys and "joblib" in asked.get("allow", ())):  # which opens
                open_at(other, error, *words, **asked, **keys)
        return told

    def open_at(path, error, *words, **asked):
        told = warden.open(path, **asked)
        assert told["error"] is not None, told
        assert {error, "PackageError"} <= set(told["error"]), told
        for word in words:
            assert word in told["message"], told
        opened = {("open", str(path)), ("open", f"{path}.sig")}
        assert {tuple(event) for event in told["events"]} <= opened, told["events"]
        return told

    return open_it


@pytest.fixture
def little_garbage():
    """What lives already is left out when a test collects garbage often, which takes a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def own_counts():
    """Calls and requests are counted apart: a process remembers folders, which an attack may spoil, and routes."""
    from modelkit.serving.metering import book, requests

    with pytest.MonkeyPatch.context() as patch:  # of its own: a test may undo what it patched
        patch.setattr(book, "_book", book._Book())
        patch.setattr(requests, "_counts", requests._Counts(None))
        yield


@pytest.fixture(params=[*PLANS])
def plan(request):
    """How a Batcher runs its calls: every way there is."""
    return PLANS[request.param]


@pytest.fixture(scope="module")
def one_thread():
    """For what scikit-learn trains: on a busy machine, its threads wait for one another for seconds."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield

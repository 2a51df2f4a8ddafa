"""Measure modelkit beside bare onnxruntime and mlflow, each ratio within one run, and print Markdown tables.

make bench NAME=core                                              every section
.venv-bench-core/bin/python -m benchmarks.core.run --only bulk   one of them
.venv-bench-core/bin/python -m benchmarks.core.run --write       every section, and write benchmarks/results/core.md

README.md beside this file says what each table means.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

# Nothing is sent while it is measured, here or in a child. Python may keep the bytecode of an
# editable install, as pip does for an installed package; without it, every fresh process would
# compile modelkit.
os.environ |= {
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from benchmarks.common.cases import BULK_ROWS, FOLDER, classifiers, dense, forest, save
from benchmarks.common.measure import (
    CORES,
    Calls,
    bare,
    child,
    command,
    interleave,
    judge,
    log,
    table,
)
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk

LIBRARIES = ("numpy", "onnxruntime", "onnx", "scikit-learn", "skl2onnx", "pandas", "mlflow")


def us(seconds: float) -> str:
    return f"{seconds * 1e6:.2f}"


def one_row() -> str:
    """`predict_proba` of one row, in microseconds"""
    results = []
    for name, case in classifiers().items():
        row = case.rows[:1].copy()
        default, single, model = bare(case.graph), bare(case.graph, 1), mk.load(case.package)
        feeds = {default.get_inputs()[0].name: row}
        assert np.allclose(model.predict_proba(row), default.run(None, feeds)[1], atol=1e-5)
        calls: Calls = {
            dtype: partial(model.predict_proba, row.astype(dtype))
            for dtype in {"float32", str(row.dtype)}
        }
        sessions: Calls = {
            "single": partial(single.run, None, feeds),
            "default": partial(default.run, None, feeds),
        }
        times = interleave(calls | sessions, 31, spinning={"default"}, block=0.02)
        for dtype in sorted(calls):
            other, over = ((times[dtype] - times[key]) * 1e6 for key in ("default", "single"))
            cells = [us(times[key]) for key in ("default", "single", dtype)]
            results.append(
                [
                    f"{name}, {dtype} row",
                    *cells,
                    f"{other:+.2f}",
                    f"{over:+.2f}",
                    *judge(over, "at most", 1),
                ]
            )
    return table(
        "| bare, default | bare, 1 thread | modelkit | over default | over 1 thread | target | reached",
        results,
    )


def ten_columns() -> str:
    """One row of ten mixed columns, in microseconds"""
    rng = np.random.default_rng(0)
    numbers = {f"float{i}": rng.normal(size=2000) for i in range(6)}
    numbers |= {f"int{i}": rng.integers(0, 100, 2000) for i in range(2)}
    words = {
        "city": rng.choice(["Bern", "Oslo", "Rome"], 2000),
        "plan": rng.choice(["basic", "pro"], 2000),
    }
    frame = pd.DataFrame(numbers | words)
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((StandardScaler(), list(numbers)), (encoder, list(words)))
    target = frame.float0 + frame.int0 / 50 + (frame.city == "Oslo") > 1
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, target.astype(int))
    package, graph = save(pipeline, "mixed", frame)

    model, default, single, row = mk.load(package), bare(graph), bare(graph, 1), frame.iloc[[3]]
    feeds = model.signature.coerce(row)
    inputs = {
        "dict of 1-D arrays": {
            name: row[name].to_numpy(object if name in words else None) for name in row
        },
        "dict of (1, 1) tensors": feeds,
        "dict of lists": {name: row[name].tolist() for name in row},
        "list of one record": row.to_dict("records"),
        "DataFrame": row,
    }
    for form in inputs.values():
        assert np.allclose(model.predict_proba(form), pipeline.predict_proba(row))
    calls: Calls = {name: partial(model.predict_proba, form) for name, form in inputs.items()}
    calls |= {
        "1 thread": partial(single.run, None, feeds),
        "default": partial(default.run, None, feeds),
    }
    rivals = mlflow_rivals(
        pipeline, graph, frame, {name: inputs[name] for name in list(inputs)[::-3]}
    )
    times = interleave(
        calls | {rival: call for rival, call in rivals.items() if call}, 31, {"default"}, block=0.02
    )

    best = min(times["default"], times["1 thread"])
    ours = [
        [f"bare `session.run`, {options}", us(times[options]), "", "", ""]
        for options in ("default", "1 thread")
    ]
    for name in inputs:
        over = (times[name] - best) * 1e6
        limit = 6 if name == "dict of 1-D arrays" else None
        ours.append(
            [f"modelkit, {name}", us(times[name]), f"{over:+.2f}", *judge(over, "at most", limit)]
        )
    theirs = []
    for (rival, form), call in rivals.items():
        cells = ["refuses it", us(times[form]), "", "", ""]
        if call:
            ratio = times[rival, form] / times[form]
            limit = 50 if form == "DataFrame" and "mlflow" in rival else None
            cells = [
                us(times[rival, form]),
                us(times[form]),
                f"{ratio:.1f}",
                *judge(ratio, "at least", limit),
            ]
        theirs.append([f"{rival}: {form}", *cells])
    return "\n\n".join(
        [
            table("| one row | over the faster bare | target | reached", ours),
            table("| one row | modelkit, same input | times faster | target | reached", theirs),
        ]
    )


def mlflow_rivals(
    pipeline: object, graph: Path, frame: pd.DataFrame, inputs: dict[str, object]
) -> Calls:
    """`mlflow.pyfunc` models of the pipeline and of its graph, from local folders; None for what they refuse."""
    import mlflow.onnx
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import Schema, TensorSpec

    log("  saving with mlflow")
    feeds = inputs["dict of (1, 1) tensors"]
    columns = infer_signature(frame, pipeline.predict_proba(frame))
    tensors = ModelSignature(
        Schema([TensorSpec(feed.dtype, (-1, 1), name) for name, feed in feeds.items()])
    )
    calls: Calls = {
        ("scikit-learn itself", "DataFrame"): partial(pipeline.predict_proba, inputs["DataFrame"])
    }
    for kind, of_pipeline, of_graph in (
        ("a signature", columns, tensors),
        ("no signature", None, None),
    ):
        folders = [str(FOLDER / f"mlflow {library}, {kind}") for library in ("sklearn", "onnx")]
        mlflow.sklearn.save_model(
            pipeline,
            folders[0],
            signature=of_pipeline,
            pip_requirements=[],
            pyfunc_predict_fn="predict_proba",
        )
        mlflow.onnx.save_model(
            onnx.load(graph), folders[1], signature=of_graph, pip_requirements=[],
            onnx_execution_providers=["CPUExecutionProvider"],
        )  # fmt: skip
        estimator, session = map(mlflow.pyfunc.load_model, folders)
        calls[f"mlflow.sklearn, {kind}", "DataFrame"] = partial(
            estimator.predict, inputs["DataFrame"]
        )
        for form, rows in inputs.items():
            calls[f"mlflow.onnx, {kind}", form] = partial(session.predict, rows)
            try:
                session.predict(rows)
            except (
                Exception
            ):  # it feeds the columns of a frame as 1-D arrays, the graph takes 2-D ones
                calls[f"mlflow.onnx, {kind}", form] = None
    return calls


def cold_start() -> str:
    """Load and first predict in a fresh process"""
    results = []
    for name, (original, package), width, limits in (
        ("dense 48 MiB, float_data", dense("float_data"), 256, (1.0, 0.8, None)),
        ("dense 48 MiB, raw_data", dense("raw_data"), 256, (1.0, 0.8, None)),
        ("forest, 200 trees", forest(), 30, (1.15, None, None)),
    ):
        runs: dict[str, list[list[float]]] = {"bare": [], "bare_hashed": [], "modelkit": []}
        for _ in range(12):
            for script in runs:
                runs[script] += child(script, package if script == "modelkit" else original, width)
        # The first round reads the files from disk.
        medians = [
            [statistics.median(values) for values in zip(*found[1:], strict=True)]
            for found in runs.values()
        ]
        for what, unit, limit, shown in zip(
            ("ms", "MiB afterwards", "MiB at the peak"),
            (1000, 1, 1),
            limits,
            zip(*medians, strict=True),
            strict=True,
        ):
            ratio = shown[2] / shown[0]
            cells = [f"{value * unit:.0f}" for value in shown] + [
                f"{ratio:.2f}",
                f"{shown[2] / shown[1]:.2f}",
            ]
            results.append([f"{name}: {what}", *cells, *judge(ratio, "at most", limit)])
    return table(
        "| bare | bare, hashed | modelkit | over bare | over hashed | target | reached", results
    )


def importing() -> str:
    """`import modelkit`, in milliseconds"""
    times: dict[str, list[float]] = {"pass": [], "import modelkit": []}
    for _ in range(101):
        for code, found in times.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            found.append((time.perf_counter() - start) * 1000)
    plain, ours = (statistics.median(found[1:]) for found in times.values())
    cells = [
        f"{plain:.2f}",
        f"{ours:.2f}",
        f"{ours - plain:+.2f}",
        *judge(ours - plain, "at most", 3),
    ]
    return table(
        "| bare interpreter | with the import | over | target | reached",
        [["fresh process", *cells]],
    )


def bulk() -> str:
    """`predict_proba` of 100,000 rows, in thousands of rows a second"""
    results = []
    for name, case in classifiers().items():
        log(f"  {name}")
        calls: Calls = {}
        for threads in (1, CORES):
            session = bare(case.graph, threads)
            for size in [*(1 << power for power in range(8, 17)), BULK_ROWS]:
                calls[threads, size] = partial(run_chunks, session, case.rows, size)
        spinning = {key for key in calls if key[0] > 1}
        search = interleave(calls, 1, spinning, block=0.03)
        ranked = sorted(search, key=search.__getitem__)
        finalists = {
            *ranked[:3],
            *[key for key in ranked if key[0] == 1][:2],
            (1, BULK_ROWS),
            (CORES, BULK_ROWS),
        }
        ours: Calls = {
            (dtype, threads): partial(
                mk.load(case.package, threads=threads).predict_proba, case.rows.astype(dtype)
            )
            for dtype in {"float32", str(case.rows.dtype)}
            for threads in (1, CORES)
        }
        assert np.allclose(
            mk.load(case.package).predict_proba(case.rows), calls[1, BULK_ROWS](), atol=1e-5
        )
        times = interleave(
            {**{key: calls[key] for key in finalists}, **ours}, 11, {*spinning, *ours}, block=0.03
        )
        for dtype, threads in sorted(ours):
            allowed = [key for key in finalists if key[0] <= threads]
            best = min(allowed, key=times.__getitem__)
            whole = min(times[key] for key in allowed if key[1] == BULK_ROWS)
            mine = times[dtype, threads]
            cells = [f"{BULK_ROWS / seconds / 1000:.0f}" for seconds in (times[best], whole, mine)]
            ratios = times[best] / mine, whole / mine
            judged = [f"{ratios[0]:.2f}", *judge(ratios[0], "at least", 0.95)]
            judged += [f"{ratios[1]:.2f}", *judge(ratios[1], "at least", 1)]
            results.append(
                [
                    f"{name}, {dtype} rows, threads={threads}",
                    *cells,
                    f"{best[1]:,} rows, {best[0]} thread{'s' * (best[0] > 1)}",
                    *judged,
                ]
            )
    header = "| bare's best | bare, one run | modelkit | the best | of the best | target | reached"
    return table(header + " | of one run | target | reached", results)


def run_chunks(session: ort.InferenceSession, rows: np.ndarray, size: int) -> np.ndarray:
    """Chunk after chunk into one array, asking for the probabilities alone."""
    name = session.get_inputs()[0].name
    answer = session.run(["probabilities"], {name: rows[:size]})[0]
    if size >= len(rows):
        return answer
    answers = np.empty((len(rows), answer.shape[1]), answer.dtype)
    answers[:size] = answer
    for start in range(size, len(rows), size):
        answers[start : start + size] = session.run(
            ["probabilities"], {name: rows[start : start + size]}
        )[0]
    return answers


def memory() -> str:
    """Memory over 50 cycles of load, predict, close, in MiB"""
    results = []
    for script, path in zip(("bare", "modelkit"), dense("raw_data"), strict=True):
        used = [line[0] for line in child(script, path, 256, 50)]
        growth = max(used[25:]) / max(used[:25])
        cells = [f"{max(used[:25]):.0f}", f"{max(used[25:]):.0f}", f"{growth:.3f}"]
        results.append(
            [script, *cells, *judge(growth, "at most", 1.05 if script == "modelkit" else None)]
        )
    return table(
        "dense 48 MiB | most in cycles 1 to 25 | in 26 to 50 | ratio | target | reached", results
    )


SECTIONS = {
    section.__name__: section
    for section in (one_row, ten_columns, cold_start, importing, bulk, memory)
}


if __name__ == "__main__":
    try:
        command(__doc__, SECTIONS, LIBRARIES, "core")
    finally:
        shutil.rmtree(FOLDER)

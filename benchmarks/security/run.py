"""Attack packages, and measure what checking them costs, beside mlflow, skops and joblib; print Markdown tables.

make bench NAME=security                                       every section
.venv-bench-security/bin/python -m benchmarks.security.run --write  the same, and write benchmarks/results/security.md

`security.py rival LIBRARY CASE` attacks another library, in a process of its own, and prints what
came of it.
"""

import contextlib
import hashlib
import io
import os
import pickle
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

import numpy as np
from benchmarks.common.measure import command, judge, log, table
from benchmarks.security.audit import records, tampering
from benchmarks.security.sealed import sealing
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from onnx import TensorProto, helper, numpy_helper

LIBRARIES = ("numpy", "onnxruntime", "onnx", "mlflow", "skops", "joblib", "hypothesis")
TESTS = Path(__file__).parents[2] / "tests"
MIB = 1 << 20
CASES = {
    1: "a pickled estimator that runs code",
    2: "a pickle under another name",
    3: "an array of pickled objects",
    4: "a pickle within joblib's stream",
    5: "a package that says what may be trusted",
    6: "a manifest that names code",
    7: "paths that lead out of the package",
    8: "paths of two spellings",
    9: "names that collide on some systems",
    10: "members that are links, folders, devices",
    12: "a path that is a pipe or a device",
    13: "two entries of one name, headers that differ",
    14: "zip bombs, compressed and overlapping members",
    15: "bytes before and after the package",
    16: "members missing, unlisted or changed",
    17: "JSON that parsers disagree on",
    20: "a swap between hash and use",
    21: "tensors in files outside the package",
    22: "the same inside an operator",
    23: "the same inside a subgraph",
    24: "tensors beyond their file, or overlapping",
    25: "unknown keys of external data",
    26: "an address in place of a file",
    27: "unknown operators, blobs for a compiler",
    28: "session options in the package",
    29: "64 GiB stated by a constant",
    30: "deep nesting, millions of nodes, endless loops",
    31: "a graph that differs from the signature",
    32: "weights that were swapped, with right hashes",
    33: "names that mean something else",
    35: "markup and control characters",
    39: "a failed load that falls back to a pickle",
    40: "requirements that would be installed",
}
MORE = {
    12: "refused",
    20: "harmless",
    30: "refused; a loop is stopped",
    35: "escaped",
}  # what else a pass means


class Evil:
    """Writes the canary when it is unpickled."""

    def __reduce__(self):
        return open, ("canary", "w")


def data():
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def fitted():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(*data())


def graph(change=None):
    w = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")
    ]
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [w]
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if change is not None:
        change(proto)
    return proto


def external(name, location):
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=[3, 3], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", "0"), ("length", "36")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def outside(proto):
    proto.graph.initializer[0].CopyFrom(external("w", "../secret"))


def in_branch(proto):
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, [3, 3])
    branch = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["o"])], "b", [], [value], [external("b", "secret")]
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((), bool), "true"))
    proto.graph.initializer.pop(0)
    proto.graph.node.insert(
        0, helper.make_node("If", ["true"], ["w"], then_branch=branch, else_branch=branch)
    )


def huge(proto):
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1 << 34]), "s"))
    proto.graph.node.append(helper.make_node("ConstantOfShape", ["s"], ["big"]))


def double(proto):
    proto.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(2 * np.eye(3, dtype=np.float32), "w")
    )


def edit(path, pattern, text):
    """Change the file in which mlflow describes a model."""
    about = path / "MLmodel"
    about.write_text(re.sub(pattern, text, about.read_text()))


def mlflow_case(case):
    """A folder as mlflow writes it, changed, and opened."""
    import mlflow.onnx
    import mlflow.pyfunc
    import mlflow.sklearn

    path = Path("model")
    sklearn = {1, 2, 5, 6}
    if case in sklearn:
        serialized = "pickle" if case != 5 else "skops"
        mlflow.sklearn.save_model(
            fitted(), path, serialization_format=serialized, pip_requirements=[]
        )
    else:
        mlflow.onnx.save_model(graph(), path, pip_requirements=[])
    if case == 1:
        (path / "model.pkl").write_bytes(pickle.dumps(Evil()))
    elif case == 6:
        (path / "code").mkdir()
        (path / "code" / "evil_loader.py").write_text(
            "open('canary', 'w')\ndef _load_pyfunc(path): return path\n"
        )
        edit(path, "loader_module: .*", "loader_module: evil_loader\n    code: code")
    elif case == 5:
        import skops.io

        skops.io.dump(Stranger(), path / "model.skops")
        edit(path, "skops_trusted_types: .*", "skops_trusted_types: [__main__.Stranger]")
    elif case == 28:
        options = "extra_session_config: {session.collect_node_memory_stats_to_file: canary}"
        edit(path, "onnx_session_options: .*", f"onnx_session_options: {{{options}}}")
    elif case == 2:
        (path / "model.pkl").unlink()
        (path / "model.onnx").write_bytes(pickle.dumps(Evil()))
        edit(path, "model.pkl", "model.onnx")
    else:
        change = {16: double, 21: outside, 23: in_branch, 29: huge}[case]
        (path / "model.onnx").write_bytes(graph(change).SerializeToString())
    model = mlflow.pyfunc.load_model(str(path))
    if case in (16, 21, 23, 28):
        return model.predict({"x": np.ones((1, 3), np.float32)})["y"].tolist()
    return None


class Stranger:
    """Any class that is not known to be harmless."""

    def __init__(self):
        self.name = "stranger"

    def __setstate__(self, state):
        Path("canary").touch()


def skops_case(case):
    import skops.io

    path = Path("model.skops")
    skops.io.dump(Stranger() if case == 1 else fitted(), path)
    if case == 2:
        path.write_bytes(pickle.dumps(Evil()))
    elif case in (3, 16):
        arrays = io.BytesIO()
        np.save(
            arrays, np.array([Evil()], object) if case == 3 else np.zeros((1, 3)), allow_pickle=True
        )
        rewrite(path, lambda old: arrays.getvalue() if b"(1, 3)" in old[:128] else old)
    elif case == 14:
        bomb = io.BytesIO()
        np.save(bomb, np.zeros((1, 1 << 28)))
        rewrite(path, lambda old: bomb.getvalue() if b"(1, 3)" in old[:128] else old)
    skops.io.load(path)


def rewrite(path, change):
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, change(content))


def joblib_case(case):
    import joblib

    path = Path("model.onnx" if case == 2 else "model.joblib")
    held = {
        1: Evil(),
        2: Evil(),
        3: np.array([Evil()], object),
        4: {"x": np.array([Evil()], object)},
    }
    if case in held:
        joblib.dump(held[case], path)
    elif case == 14:
        joblib.dump(np.zeros(1 << 29), path, compress=9)
    else:
        joblib.dump(fitted(), path)
        raw = path.read_bytes()
        at = raw.index(fitted().coef_.tobytes())
        path.write_bytes(raw[:at] + bytes(8) + raw[at + 8 :])
    joblib.load(path)


ATTACKS = {
    "mlflow": (mlflow_case, (1, 2, 5, 6, 16, 21, 23, 28, 29)),
    "skops": (skops_case, (1, 2, 3, 14, 16)),
    "joblib": (joblib_case, (1, 2, 3, 4, 14, 16)),
}


def rival(library: str, case: int) -> None:
    """Attack a library in a folder of its own, and say what came of it."""
    folder = tempfile.mkdtemp()
    (Path(folder) / "secret").write_bytes(np.full(9, 7, np.float32).tobytes())
    os.chdir(folder)
    told = None
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if case == 14:
                limit = (4 << 30, resource.RLIM_INFINITY)
                resource.setrlimit(resource.RLIMIT_AS, limit)
            told = ATTACKS[library][0](case)
        outcome = "opened"
    except MemoryError:
        outcome = "memory used up"
    except Exception as error:  # whatever it is, it refused
        log(f"  {library} {case}: {type(error).__name__}: {str(error)[:200]}")
        outcome = "refused"
    if told is not None and case in (21, 23) and np.ravel(told)[0] == 21:
        outcome = "**file read**"
    if Path("canary").exists():
        outcome = "**file written**" if case == 28 else "**code ran**"
    shutil.rmtree(folder, ignore_errors=True)
    print(outcome)


def attacks() -> str:
    """What became of each attack"""
    passed, failed = outcomes()
    rows = []
    for case, title in CASES.items():
        cells = []
        for library, (_, cases) in ATTACKS.items():
            if case in cases:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.security.run",
                    "rival",
                    library,
                    str(case),
                ]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                cells.append(done.stdout.split("\n")[-2])
            else:
                cells.append("")
        count = passed.get(case, 0)
        ours = "**opened**" if failed.get(case) or not count else MORE.get(case, "refused")
        rows.append([f"{case}: {title}", ours, str(count), *cells])
    return table("| modelkit | files | mlflow | skops | joblib", rows)


def outcomes() -> tuple[dict[int, int], dict[int, int]]:
    """How many tests of each case of tests/hostile passed and failed."""
    files = sorted((TESTS / "hostile").glob("test_*.py"))
    text = pytest_output(*map(str, files), "-rA")
    counts: tuple[dict[int, int], dict[int, int]] = {}, {}
    for word, case in re.findall(
        r"^(PASSED|FAILED|ERROR) .*hostile/test_\w+\.py::test_(\d\d)_", text, re.MULTILINE
    ):
        found = counts[word != "PASSED"]
        found[int(case)] = found.get(int(case), 0) + 1
    return counts


def pytest_output(*arguments: str, **environment: str) -> str:
    # The suite forges more than one package a case, and asserts that nothing else was read, written
    # or run.
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        pytest_command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.stdout


def fuzz() -> str:
    """Changed packages: all refused, or equal to the original"""
    times = "20"
    start = time.perf_counter()
    text = pytest_output(
        str(TESTS / "slow" / "test_fuzz.py"),
        "--hypothesis-show-statistics",
        "--timeout=3600",
        MODELKIT_FUZZ=times,
    )
    took = time.perf_counter() - start
    rows, total, findings = [], 0, 0
    for name, told in re.findall(r"::test_(\w+):\n(.*?)Stopped because", text, re.DOTALL):
        cases = sum(
            sum(map(int, found)) for found in re.findall(r"(\d+) passing, (\d+) failing", told)
        )
        failing = sum(map(int, re.findall(r"Found (\d+) distinct", told)))
        total, findings = total + cases, findings + failing
        rows.append([name.replace("_", " "), str(cases), str(failing)])
    rows.append(
        [f"all, {total / took:.0f} a second with the start of the tests", str(total), str(findings)]
    )
    return table("| cases | findings", rows)


def embeddings(path: Path, size: int) -> Path:
    """A package with one table of so many bytes, of which a run looks up rows: building its session copies nothing."""
    import modelkit as mk

    rng = np.random.default_rng(0)
    rows = numpy_helper.from_array(rng.random((size // 1024, 256), np.float32), "w")
    ends = [helper.make_tensor_value_info("x", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 256])]  # fmt: skip
    made = helper.make_graph(
        [helper.make_node("Gather", ["w", "x"], ["y"])], "g", ends[:1], ends[1:], [rows]
    )
    mk.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
        path,
        name="m",
        version="1",
    )
    return path


def best(call, rounds=5) -> float:
    """Median seconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def opening() -> str:
    """What checking costs; files in the page cache"""
    import modelkit as mk
    from modelkit.package import load

    folder = Path(tempfile.mkdtemp(prefix="modelkit-security-"))
    big = embeddings(folder / "big.mk", 500 * MIB)
    tool = best(lambda: subprocess.run(["sha256sum", str(big)], check=True, capture_output=True))  # noqa: S607
    digest = best(lambda: hashlib.sha256(memoryview(np.memmap(big, mode="r"))).hexdigest())
    ours = best(lambda: mk.load(big).close())
    seen = best(lambda: mk.inspect(big), 50)
    key = Ed25519PrivateKey.generate()
    signing = best(lambda: mk.sign(big, key))
    trust = mk.Trust([key.public_key()])
    trusting = best(lambda: mk.load(big, trust=trust).close())
    rows = [
        ["500 MB: `sha256sum`", f"{tool * 1e3:.0f}", "1.00", "", ""],
        ["500 MB: `hashlib.sha256`", f"{digest * 1e3:.0f}", f"{digest / tool:.2f}", "", ""],
        [
            "500 MB: `mk.load`",
            f"{ours * 1e3:.0f}",
            f"{ours / tool:.2f}",
            *judge(ours / tool, "at most", 1.3),
        ],
        [
            "500 MB: `mk.sign`",
            f"{signing * 1e3:.0f}",
            f"{signing / tool:.2f}",
            *judge(signing / tool, "at most", 1.3),
        ],
        [
            "500 MB: `mk.load(trust=)`",
            f"{trusting * 1e3:.0f}",
            f"{trusting / tool:.2f}",
            *judge(trusting / tool, "at most", 1.3),
        ],
        *openssf(big, tool),
        ["500 MB: `mk.inspect`", f"{seen * 1e3:.2f} ms", "", *judge(seen * 1e3, "at most", 5)],
    ]
    from benchmarks.common.cases import dense

    _, package = dense("raw_data")
    times: dict[str, list[float]] = {"real": [], "none": []}
    # A user cannot switch it off.
    hashes = {"real": load._start_hash, "none": lambda *_: lambda: None}
    for _ in range(11):
        for kind, taken in times.items():
            load._start_hash = hashes[kind]
            start = time.perf_counter()
            mk.load(package).close()
            taken.append(time.perf_counter() - start)
    load._start_hash = hashes["real"]
    rows += against(
        "48 MiB, 192 dense layers, onnxruntime imported", *map(statistics.median, times.values())
    )
    rows += against(
        "48 MiB, in a fresh process", fresh(package, skip=False), fresh(package, skip=True)
    )
    shutil.rmtree(folder)
    return table("| ms | ratio | target | reached", rows)


def openssf(package: Path, tool: float) -> list[list[str]]:
    """The same by model-signing of the OpenSSF, with a key."""
    import model_signing

    key, public = package.with_suffix(".pem"), package.with_suffix(".pub")
    secret = generate_private_key(SECP256R1())
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    bundle = package.with_suffix(".bundle")
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=key)
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
    sign = best(lambda: signer.sign(package, bundle))
    verify = best(lambda: verifier.verify(package, bundle))
    return [
        [f"500 MB: model-signing, {what}", f"{took * 1e3:.0f}", f"{took / tool:.2f}", "", ""]
        for what, took in (("sign", sign), ("verify alone", verify))
    ]


def against(what: str, checked: float, unchecked: float) -> list[list[str]]:
    ratio = checked / unchecked
    return [
        [f"{what}: without hashing", f"{unchecked * 1e3:.0f}", "1.00", "", ""],
        [
            f"{what}: `mk.load`",
            f"{checked * 1e3:.0f}",
            f"{ratio:.2f}",
            *judge(ratio, "at most", 1.3),
        ],
    ]


def fresh(package: Path, *, skip: bool) -> float:
    """Seconds from the first line of a process to a loaded package."""
    code = "import time; start = time.perf_counter(); import sys, modelkit as mk; from modelkit.package import load\n"
    code += "load._start_hash = lambda *_: lambda: None\n" if skip else ""
    code += "mk.load(sys.argv[1]); print(time.perf_counter() - start)"
    arguments = [sys.executable, "-c", code, str(package)]
    return statistics.median(
        float(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
        for _ in range(7)
    )


SECTIONS = {
    "attacks": attacks,
    "fuzz": fuzz,
    "opening": opening,
    "sealing": sealing,
    "records": records,
    "tampering": tampering,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["rival"]:
        rival(sys.argv[2], int(sys.argv[3]))
    else:
        command(__doc__, SECTIONS, LIBRARIES, "security")

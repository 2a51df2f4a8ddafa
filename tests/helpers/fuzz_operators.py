"""Graphs of one operator with attributes, inputs and shapes at random: each is refused, or opens, and ends no process.

`python -m tests.helpers.fuzz_operators --seconds 600 --seed 1 --keep FOLDER` counts what became of them and
keeps what crashed; `make fuzz` runs it, and tests/slow/test_fuzz.py a hundred cases. Cases run in
children, one after the other, within limits of memory and time; a child that dies says by the case
it was at which graph was at fault.
"""

import argparse
import hashlib
import json
import math
import os
import random
import resource
import signal
import sys
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime.capi.onnxruntime_pybind11_state as runtime
from onnx import TensorProto, helper, numpy_helper

import modelkit as mk
from modelkit.package import container

from .forge import GRAPH, MANIFEST, pack, save_toy

DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
NEWEST = {"": 24, "ai.onnx.ml": 5, "com.microsoft": 1}
MEMORY, SECONDS = 6 << 30, 60  # of address space of a child; of one case, on a busy machine
LOADING = 2.0  # seconds of the processor, and more is a finding
GROWTH = 1 << 20  # KiB of memory, and more is a finding
SUBGRAPHS = {
    "Loop",
    "If",
    "Scan",
    "SequenceMap",
    "BeamSearch",
    "GreedySearch",
    "Sampling",
    "WhisperBeamSearch",
}
CHANCE = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
SMALL = (0, -1, 1, 2, 3, -2, 4, 7, -9)
LARGE = (16, 1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 40, -(1 << 63), (1 << 63) - 1)
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, math.inf, math.nan)
TEXTS = ("", "a", "linear", "constant", "SOFTMAX", "NONE", "SUM", "max", "edge", "bilinear", "nearest", "ij,jk->ik",
         "i,i->i", "...i->i", "ab,bc,cd", "half_pixel", "SAME_UPPER", "VALID", "forward", "bidirectional", "Tanh",
         "Relu", "LOGISTIC", "L2", "tanh", "TF", "add", "zeros", "LOWER")  # fmt: skip
SHAPES = ((), (1,), (4,), (1, 4), (4, 4), (1, 1, 4), (2, 3), (1, 4, 4, 4), (0,), (1, 2, 2, 2), (4, 1), (3, 4, 2),
          (1, 1, 1, 1), (2, 0, 3), (2, 2, 2, 2, 2))  # fmt: skip
VIEWS = (
    (-1, 4),
    (-1, 1, 2, 2),
    (-1, 4, 1),
    (-1, 2, 2),
    (-1,),
    (-1, 1, 4),
    (1, -1, 1, 4),
    (0, 2, 2, 1, 1),
)
TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8,
    "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64, "tensor(uint16)": np.uint16, "tensor(bool)": np.bool_,
    "tensor(string)": object,
}  # fmt: skip
ROWS = np.array([[-5, -4, -3, -2], [0, 1, math.nan, 1e30]], np.float32)


@dataclass
class Report:
    """What became of the cases: counts by outcome, and the operators of each finding."""

    counts: Counter = field(default_factory=Counter)
    findings: dict = field(default_factory=lambda: defaultdict(Counter))

    def __str__(self):
        lines = [f"{self.counts.total()} cases: {dict(self.counts.most_common())}"]
        lines += [f"  {kind}: {dict(found)}" for kind, found in self.findings.items()]
        return "\n".join(lines)


@cache
def operators():
    """The newest schema of each operator that has a kernel for the CPU."""
    kernels = {
        (d.domain, d.op_name)
        for d in runtime.get_all_opkernel_def()
        if d.provider == "CPUExecutionProvider"
    }
    newest = {}
    for schema in runtime.get_all_operator_schema():
        key = (schema.domain, schema.name)
        if key not in kernels or schema.domain not in DOMAINS or schema.name in SUBGRAPHS:
            continue
        if key not in newest or schema.since_version > newest[key].since_version:
            newest[key] = schema
    return [newest[key] for key in sorted(newest)]


def constant(draw, name, kind):
    """An initializer, mostly of small numbers."""
    shape = draw.choice(SHAPES)
    count = math.prod(shape)
    if kind is object:
        texts = [draw.choice([b"ab\xc3\xa9", b"", b"1.5", b"a b,c"]) for _ in range(count)]
        return helper.make_tensor(name, TensorProto.STRING, shape, texts)
    pool = [0, 1, 2, 3, -1, 4]
    if draw.random() < 0.3:
        pool += [99, -99, *LARGE]
    values = [draw.choice(pool) for _ in range(count)]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.array(values, np.float64 if np.dtype(kind).kind == "f" else object).reshape(
            shape
        )
        if np.dtype(kind).kind == "f":
            array = (array * draw.choice([1.0, 0.5, 1e30])).astype(kind)
        else:
            bits = np.dtype(kind).itemsize * 8
            wrapped = [int(value) & ((1 << bits) - 1) for value in array.ravel()]
            array = (
                np.array(wrapped, np.uint64)
                .astype(f"u{bits // 8}")
                .view(kind if kind is not np.bool_ else np.uint8)
            )
            array = (array != 0 if kind is np.bool_ else array).reshape(shape)
    return numpy_helper.from_array(array, name)


def attribute(draw, kind):
    """A value of an attribute of a kind, or None."""
    if kind == "INT":
        return draw.choice(SMALL if draw.random() < 0.7 else LARGE)
    if kind == "FLOAT":
        return draw.choice(FLOATS)
    if kind == "INTS":
        return [
            draw.choice(SMALL if draw.random() < 0.9 else LARGE) for _ in range(draw.randint(1, 5))
        ]
    if kind == "FLOATS":
        return [draw.choice(FLOATS) for _ in range(draw.randint(1, 6))]
    if kind == "STRING":
        return draw.choice(TEXTS)
    if kind == "STRINGS":
        return [draw.choice([*TEXTS, "LEAF", "BRANCH_LEQ"]) for _ in range(draw.randint(1, 3))]
    if kind == "TENSOR":
        return constant(draw, "value", draw.choice([np.float32, np.int64, np.uint8]))
    return None


def one_node(draw, schema):
    """A graph y = x + what an operator makes of x and of constants."""
    few = schema.max_input < 12
    most = len(schema.inputs) if few else draw.randint(schema.min_input, max(schema.min_input, 4))
    nodes, constants, names, chosen = [], [], [], {}
    for at in range(most):
        formal = schema.inputs[min(at, len(schema.inputs) - 1)]
        if (at >= schema.min_input and draw.random() < 0.4) or draw.random() < 0.02:
            names.append("")
            continue
        kinds = sorted(kind for kind in formal.types if kind in TYPES) or ["tensor(float)"]
        liked = (
            "tensor(float)"
            if "tensor(float)" in kinds and draw.random() < 0.7
            else draw.choice(kinds)
        )
        kind = chosen.setdefault(formal.typeStr, liked)
        if draw.random() < 0.35 and TYPES.get(kind) not in (None, object):
            names.append(f"x{at}")
            constants.append(numpy_helper.from_array(np.array(draw.choice(VIEWS)), f"view{at}"))
            nodes.append(helper.make_node("Reshape", ["x", f"view{at}"], [f"r{at}"]))
            to = helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[kind]))
            nodes.append(helper.make_node("Cast", [f"r{at}"], [f"x{at}"], to=to))
        else:
            names.append(f"c{at}")
            constants.append(constant(draw, f"c{at}", TYPES.get(kind, np.float32)))
    while names and not names[-1] and draw.random() < 0.9:
        names.pop()
    given = {}
    for name, formal in schema.attributes.items():
        value = attribute(draw, str(formal.type).rpartition(".")[2])
        if value is not None and (formal.required or draw.random() < 0.5):
            given[name] = value
    count = max(1, min(len(schema.outputs), schema.max_output))
    outputs = [
        f"o{at}" for at in range(count if draw.random() < 0.5 else max(1, schema.min_output))
    ]
    nodes.append(helper.make_node(schema.name, names, outputs, domain=schema.domain, **given))
    return model([*nodes, *summed(draw, schema)], constants, schema)


def summed(draw, schema):
    """Nodes that add the size of the answer to x, and its sum where it has one."""
    kinds = schema.outputs[0].types if schema.outputs else ()
    nodes = [
        helper.make_node("Shape", ["o0"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["sizes"], ["size"], keepdims=0),
    ]
    if draw.random() < 0.8 and any(kind in TYPES for kind in kinds):
        nodes += [
            helper.make_node("Cast", ["o0"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["numbers"], ["sum"], keepdims=0),
            helper.make_node("Add", ["size", "sum"], ["all"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["size"], ["all"]))
    return [*nodes, helper.make_node("Add", ["x", "all"], ["y"])]


def model(nodes, constants, schema):
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    opset = max(schema.since_version, 18) if not schema.domain else 18
    opsets = [helper.make_opsetid("", min(opset, NEWEST[""]))]
    if schema.domain:
        opsets.append(helper.make_opsetid(schema.domain, NEWEST[schema.domain]))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@cache
def manifest_of_a_toy():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        members = container.read_zip(memoryview(save_toy(Path(folder) / "toy.mk").read_bytes()))
        manifest = json.loads(bytes(members[MANIFEST]))
    for ends in ("inputs", "outputs"):
        manifest["signature"][ends][0]["shape"] = ["batch", 4]
    return manifest | {"attachments": []}


def packed(graph):
    """A package of a graph, with hashes that fit."""
    about = {"path": GRAPH, "size": len(graph), "sha256": hashlib.sha256(graph).hexdigest()}
    manifest = manifest_of_a_toy() | {"files": [about]}
    return pack({MANIFEST: json.dumps(manifest).encode(), GRAPH: graph})


@cache
def examples():
    """The examples of operators that come with onnx: a sound node, its opset, and inputs that fit."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [
        (
            one.model.graph.node[0],
            {entry.domain: entry.version for entry in one.model.opset_import},
            one.data_sets[0][0],
        )
        for one in found
        if len(one.model.graph.node) == 1
        and one.model.graph.node[0].op_type not in SUBGRAPHS
        and all(isinstance(array, np.ndarray) for array in one.data_sets[0][0])
    ]


def changed_example(draw):
    """An example in which an attribute or an input is another; some inputs are no constants."""
    sound, opsets, arrays = draw.choice(examples())
    made = onnx.NodeProto()
    made.CopyFrom(sound)
    given = dict(zip([name for name in made.input if name], arrays, strict=False))
    for _ in range(draw.randint(1, 2)):
        change(draw, made, given)
    del made.output[1:]
    made.output[0] = "o0"
    constants, nodes, names = [], list(FLAG), {}
    constants.append(numpy_helper.from_array(np.array(0, np.float32), "zero"))
    for at, (name, array) in enumerate(given.items()):
        constants.append(numpy_helper.from_array(np.asarray(array), f"c{at}"))
        names[name] = f"c{at}"
        if draw.random() < 0.5 and array.dtype.name in (
            "float32",
            "float64",
            "int64",
            "int32",
            "uint8",
            "int8",
        ):
            nodes.append(helper.make_node("Where", ["flag", f"c{at}", f"c{at}"], [f"v{at}"]))
            names[name] = f"v{at}"
    for at, name in enumerate(made.input):
        made.input[at] = names.get(name, "")
    summing = [
        helper.make_node("Cast", ["o0"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["all"], keepdims=0),
        helper.make_node("Add", ["x", "all"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")
    ]
    graph = helper.make_graph([*nodes, made, *summing], "g", ends[:1], ends[1:], constants)
    imports = {"": 18} | opsets
    imports[""] = min(max(imports[""], 13), NEWEST[""])
    versions = [helper.make_opsetid(domain, version) for domain, version in imports.items()]
    label = f"{made.domain or 'onnx'}:{made.op_type}"
    return label, helper.make_model(
        graph, opset_imports=versions, ir_version=10
    ).SerializeToString()


FLAG = (  # is true, but nobody knows before a run
    helper.make_node("Shape", ["x"], ["rows"]),
    helper.make_node("Cast", ["rows"], ["counts"], to=TensorProto.FLOAT),
    helper.make_node("ReduceSum", ["counts"], ["count"], keepdims=0),
    helper.make_node("Greater", ["count", "zero"], ["flag"]),
)


def change(draw, made, given):
    """Change an attribute of a node, or one of its inputs, in place."""
    kind = draw.choice(
        ["attribute", "attribute", "array", "array", "array", "absent", "swap", "empty"]
    )
    if kind == "attribute" and made.attribute:
        one = draw.choice(made.attribute)
        value = attribute(draw, onnx.AttributeProto.AttributeType.Name(one.type))
        if value is not None:
            one.CopyFrom(helper.make_attribute(one.name, value))
    elif kind == "swap" and len(made.input) > 1:
        first, second = draw.sample(range(len(made.input)), 2)
        made.input[first], made.input[second] = made.input[second], made.input[first]
    elif kind == "absent" and made.input:
        del made.input[draw.randrange(len(made.input)) :]
    elif kind == "empty" and made.input:
        made.input[draw.randrange(len(made.input))] = ""
    elif given:
        name = draw.choice(list(given))
        array = np.asarray(given[name])
        if array.dtype.kind in "fiub" and array.dtype.isbuiltin:
            given[name] = changed_array(draw, array)


def changed_array(draw, array):
    """An array of another shape, of another type, or with an extreme number in it."""
    kind = draw.choice(["shape", "number", "type"])
    if kind == "type":
        return array.astype(
            draw.choice([np.float32, np.float64, np.int64, np.int32, np.uint8, np.int8, np.bool_])
        )
    if kind == "shape" or not array.size:
        shape = draw.choice(SHAPES)
        return np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
    least, most = (-1e30, 1e30) if array.dtype.kind == "f" else (0, 1)
    if array.dtype.kind in "iu":
        least, most = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max
    values = array.copy()
    values.ravel()[draw.randrange(array.size)] = draw.choice([least, most, 0, 1])
    return values


def case(seed, number):
    """The operator and the package of a case; None where onnx itself cannot write it.

    Cases of a seed that is odd are changed examples of onnx, which take seconds to collect.
    """
    draw = random.Random(f"{seed}/{number}")
    if seed % 2:
        try:
            label, graph = changed_example(draw)
            return label, packed(graph)
        except (ValueError, TypeError, OverflowError):
            return "example", None
    schema = draw.choice(operators())
    label = f"{schema.domain or 'onnx'}:{schema.name}"
    try:
        return label, packed(one_node(draw, schema))
    except (ValueError, TypeError, OverflowError):
        return label, None


def judge(package, name, say):
    """Open a package twice and run it, and say how far it came."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    try:
        first, second = (
            mk.load(package, device="cpu", threads=1),
            mk.load(package, device="cpu", threads=1),
        )
    except mk.errors.PackageError:
        return "refused"
    if time.process_time() - start > 2 * LOADING:
        return "SLOW LOAD"
    say("loaded")
    try:
        answer = first.run(ROWS)["y"]
        litter = [np.full(size, 7.7, np.float32) for size in range(1, 3000, 50)]
        del litter
        again = second.run(ROWS)["y"]
    except Exception:  # whatever a run raises, the process lives on
        return "raised"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory > GROWTH:
        return "MEMORY"
    if name.rpartition(":")[2] not in CHANCE and answer.tobytes() != again.tobytes():
        same = np.array_equal(np.nan_to_num(answer), np.nan_to_num(again))
        return "ran" if same else "OTHER ANSWER"
    return "ran"


def child(seed, numbers, pipe):
    """Judge cases one after the other; never returns."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)  # what a runtime says before it ends

    def say(word):
        os.write(pipe, f"{word}\n".encode())

    for number in numbers:
        name, package = case(seed, number)
        say(f"case {number} {name}")
        signal.alarm(SECONDS)
        outcome = "unwritten" if package is None else None
        try:
            say(outcome or judge(package, name, say))
        except BaseException as error:  # of a load, it should have been a PackageError
            say(f"OTHER ERROR {type(error).__name__}")
        signal.alarm(0)
    say("end")
    os._exit(0)


def told_by_child(seed, numbers):
    """Each line of a child, as it comes, and at last the signal that ended it, or 0."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(seed, numbers, writing)
    os.close(writing)
    with os.fdopen(reading) as lines:
        for line in lines:
            yield line.strip()
    _, status = os.waitpid(pid, 0)
    yield os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def fuzz(count, seed=0, folder=None, until=math.inf):
    """Judge that many cases, or as many as there is time for, and report."""
    report = Report()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        case(seed, 0)  # so that every child has what they are made of
    number = 0
    while number < count and time.monotonic() < until:
        stop = min(count, number + 100)
        name, loaded, done = "", False, True
        for told in told_by_child(seed, range(number, stop)):
            if isinstance(told, int):
                ended = told
            elif told.startswith("case "):
                _, at, name = told.split(" ", 2)
                number, loaded, done = int(at), False, False
            elif told == "loaded":
                loaded = True
            elif told != "end":
                done = True
                note(report, told, name, (seed, number), folder)
                number += 1
        if not done:
            what = (
                "SLOW"
                if ended == signal.SIGALRM
                else signal.Signals(ended).name
                if ended
                else "EXIT"
            )
            kind = (
                "ran on" if what == "SLOW" and loaded else f"{'RUN' if loaded else 'LOAD'} {what}"
            )
            note(report, kind, name, (seed, number), folder)
            number += 1
    return report


def note(report, kind, name, which, folder):
    """Count an outcome; those in capitals are findings, and kept."""
    report.counts[kind] += 1
    if kind[:1].isupper():
        report.findings[kind][name] += 1
        if folder is not None and report.findings[kind][name] == 1:
            _, package = case(*which)
            path = Path(folder) / f"{kind} {name} {which[0]}-{which[1]}.mk".replace(
                " ", "_"
            ).replace(":", ".")
            path.write_bytes(package)


def main():
    parser = argparse.ArgumentParser(description="Graphs of one operator at random.")
    parser.add_argument("--cases", type=int, default=sys.maxsize)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="a folder for the packages that are findings")
    asked = parser.parse_args()
    report = fuzz(asked.cases, asked.seed, asked.keep, time.monotonic() + asked.seconds)
    print(report)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())

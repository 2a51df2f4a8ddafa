"""Whatever is done to a package, it opens as what it was, or is refused with a PackageError.

Where the hashes are made to fit, it may also open as another package, but not crash, hang or raise
anything else. A run takes a few seconds; MODELKIT_FUZZ=225, which `make fuzz` sets, makes it run that
many times as many cases.
"""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.forge import GRAPH, MANIFEST, WEIGHTS, Warden, forge, members_of, pack, save_toy
from helpers.places import TESTS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import PackageError
from modelkit.package import container

TIMES = int(os.environ.get("MODELKIT_FUZZ", "1"))
ROWS = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)


def examples(count):
    """This number of cases, times MODELKIT_FUZZ; failures are made small, and no case is looked for by its coverage."""
    phases = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=count * TIMES, deadline=None, phases=phases, suppress_health_check=slow
    )


class Package(bytes):
    """The bytes of a package, which hypothesis would print whole."""

    __slots__ = ()

    def __repr__(self):
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return Package(save_toy(tmp_path_factory.mktemp("toy") / "toy.mk").read_bytes())


@pytest.fixture(scope="module")
def original(toy):
    with mk.load(toy, threads=1) as model:
        return model.manifest, model.run(ROWS)


@pytest.fixture(scope="module")
def packages(toy, boosting_mk, penguins_mk):
    return [toy, Package(boosting_mk.read_bytes()), Package(penguins_mk.read_bytes())]


@pytest.fixture(scope="module")
def warden(tmp_path_factory):
    child = Warden(tmp_path_factory.mktemp("fuzzed"))
    yield child
    child.close()


def check_same(data, original):
    """Refused, or the package that it was."""
    try:
        model = mk.load(data, threads=1)
    except PackageError:
        return
    with model:
        assert model.manifest == original[0]
        for name, answer in model.run(ROWS).items():
            np.testing.assert_array_equal(answer, original[1][name])


KINDS = ["flip", "byte", "zero", "junk", "drop", "double", "move", "cut"]
EDIT = st.tuples(
    st.sampled_from(KINDS),
    st.integers(0, 1 << 24),
    st.integers(1, 64),
    st.binary(min_size=1, max_size=16),
)
EDITS = st.lists(EDIT, min_size=1, max_size=4)


def mutated(raw, edits):
    """Bytes with some of them flipped, replaced, left out, doubled, moved, or all cut off."""
    raw = bytearray(raw)
    for kind, place, some, junk in edits:
        at = place % (len(raw) + 1)
        part = raw[at : at + some]
        if kind == "flip":
            raw[at : at + 1] = bytes(byte ^ 1 << some % 8 for byte in part[:1])
        elif kind == "byte":
            raw[at : at + 1] = bytes([(0, 1, 0x7F, 0x80, 0xFF)[some % 5]])
        elif kind == "zero":
            raw[at : at + some] = bytes(some)
        elif kind == "junk":
            raw[at:at] = junk
        elif kind == "double":
            raw[at:at] = part
        else:
            del raw[at : len(raw) if kind == "cut" else at + some]
            if kind == "move":
                to = (place >> 3) % (len(raw) + 1)
                raw[to:to] = part
    return bytes(raw)


@examples(300)
@given(edits=EDITS)
def test_bytes_that_are_changed(toy, original, edits):
    check_same(mutated(toy, edits), original)


@examples(100)
@given(edits=EDITS)
def test_bytes_of_the_directory_that_are_changed(toy, original, edits):
    start = container.END.unpack(toy[-container.END.size :])[6]
    check_same(toy[:start] + mutated(toy[start:], edits), original)


@examples(100)
@given(
    chosen=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=8),
    whole=st.booleans(),
)
def test_members_of_several_packages(packages, original, chosen, whole):
    """Members under their own names or those of others, in any order."""
    pool = [
        (path, content) for package in packages for path, content in members_of(package).items()
    ]
    members = members_of(packages[0]) if whole else {}
    for at, name in chosen:
        path, content = pool[at % len(pool)]
        members[path if name % 2 else pool[name % len(pool)][0]] = content
    data = pack(members)
    if data not in packages:  # all members of another package, in their order, are that package
        check_same(data, original)


@examples(60)
@given(order=st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_directory_in_another_order(toy, original, order):
    start = container.END.unpack(toy[-container.END.size :])[6]
    entries = [
        b"PK\x01\x02" + entry for entry in toy[start : -container.END.size].split(b"PK\x01\x02")[1:]
    ]
    directory = b"".join(entries[at] for at in order)
    end = container.END.pack(b"PK\x05\x06", 0, 0, len(order), len(order), len(directory), start, 0)
    check_same(toy[:start] + directory + end, original)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 65), 1 << 65), st.floats(), st.text(max_size=8),
    st.sampled_from(["batch", "x", "y", "float32", "string", "onnx", "joblib", GRAPH, WEIGHTS, 64, 1 << 40]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
)


def places(plain, path=()):
    """Every place of a JSON value."""
    keys = (
        range(len(plain)) if isinstance(plain, list) else plain if isinstance(plain, dict) else ()
    )
    return [path, *(place for key in keys for place in places(plain[key], (*path, key)))]


CHANGES = st.lists(
    st.tuples(st.sampled_from(["set", "set", "drop", "copy"]), st.integers(0, 999), VALUES),
    min_size=1,
    max_size=3,
)


def held(plain, place):
    """What stands at a place of a JSON value."""
    for key in place:
        plain = plain[key]
    return plain


def edited(manifest, changes):
    """A manifest with some places replaced, left out, or given the value of another place."""
    for kind, number, value in changes:
        known = places(manifest)[1:]
        if not known:
            break
        *parents, last = known[number % len(known)]
        at = held(manifest, parents)
        if kind == "drop":
            at.pop(last)
        elif kind == "copy":
            at[last] = copy.deepcopy(held(manifest, known[number * 7 % len(known)]))
        else:
            at[last] = value
    return manifest


def opens_or_refuses(data):
    """Another package may come of it; then it can be looked at and asked."""
    try:
        with mk.load(data, threads=1) as model:
            assert repr(model)
            assert model._repr_html_()
            assert model.manifest.signature == model.signature
            model.verify()
    except PackageError:
        pass


@examples(200)
@given(which=st.integers(0, 2), changes=CHANGES)
def test_a_manifest_that_is_edited_and_hashes_that_fit(packages, which, changes):
    members = members_of(packages[which])
    manifest = edited(json.loads(members[MANIFEST]), changes)
    opens_or_refuses(pack({**members, MANIFEST: json.dumps(manifest).encode()}))


@examples(80)
@given(edits=EDITS)
def test_golden_rows_that_are_changed_and_hashes_that_fit(toy, edits):
    opens_or_refuses(forge(toy, golden=mutated(members_of(toy)["golden.npz"], edits)))


OPERATORS = (
    "Add", "MatMul", "Relu", "Concat", "Cast", "Reshape", "Gather", "Loop", "If", "Scan", "ConstantOfShape", "Expand",
    "TreeEnsembleClassifier", "LinearClassifier", "Scaler", "OneHotEncoder", "Identity", "Einsum", "Slice", "Resize",
)  # fmt: skip
NAMES = ("", "x", "y", "h", "w", "label", "probabilities", "X")
INTEGERS = (0, 1, 2, -1, -3, 64, 1 << 31, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -1.0, 3.5, 1e30, float("inf"), float("nan"))
PATHS = st.lists(
    st.tuples(st.lists(st.integers(0, 63), min_size=1, max_size=9), st.integers(0, 4)),
    min_size=1,
    max_size=3,
)


def tweaked(graph, paths):
    """A graph with some fields of its messages set, doubled, moved or cleared: it stays one that parses."""
    proto = onnx.load_from_string(graph)
    for path, kind in paths:
        message = proto
        for depth, step in enumerate(path):
            fields = message.ListFields()
            if not fields:
                break
            field, value = fields[step % len(fields)]
            at = step // len(fields) % len(value) if field.is_repeated else None
            if field.message_type is None or depth == len(path) - 1:
                tweak(message, field, at, kind, step)
                break
            message = value if at is None else value[at]
    return proto.SerializeToString()


def tweak(message, field, at, kind, seed):
    """Change one field of a protobuf message; `at` is which of several."""
    value = getattr(message, field.name)
    leaf = field.message_type is None
    if at is None:
        if leaf and kind > 0:
            setattr(message, field.name, another(field, value, seed))
        else:
            message.ClearField(field.name)
    elif leaf and kind > 2:
        value[at] = another(field, value[at], seed)
    else:
        if kind % 3:
            value.append(value[at])
        if kind % 3 < 2:
            del value[at]


def another(field, old, seed):
    """Another value of the type of a field."""
    if isinstance(old, float):
        return FLOATS[seed % len(FLOATS)]
    if isinstance(old, int):
        if field.enum_type is not None:
            values = field.enum_type.values
            return values[seed % len(values)].number
        return (
            INTEGERS[seed % len(INTEGERS)] if field.cpp_type == field.CPPTYPE_INT64 else seed % 30
        )
    text = OPERATORS[seed % len(OPERATORS)] if field.name == "op_type" else NAMES[seed % len(NAMES)]
    return text if isinstance(old, str) else text.encode() + old[seed % 4 :]


def opens_in(warden, data):
    """As `opens_or_refuses`, in a process of its own, for the runtime is given whatever passes the scan."""
    path = warden.folder / "fuzz.mk"
    path.write_bytes(data)
    told = warden.open(path, then="verify")
    assert told["error"] is None or told["loaded"] or "PackageError" in told["error"], told
    assert all(event == ["open", str(path)] for event in told["events"]), told["events"]


@examples(140)
@given(which=st.integers(0, 2), paths=PATHS)
def test_a_graph_with_other_fields_and_hashes_that_fit(packages, warden, which, paths):
    package = packages[which]
    opens_in(warden, forge(package, graph=tweaked(members_of(package)[GRAPH], paths)))


@examples(140)
@given(which=st.integers(0, 2), edits=EDITS)
def test_a_graph_with_other_bytes_and_hashes_that_fit(packages, warden, which, edits):
    package = packages[which]
    opens_in(warden, forge(package, graph=mutated(members_of(package)[GRAPH], edits)))


def test_graphs_of_one_operator_at_random():
    """What onnxruntime does not survive is refused before it sees it; `make fuzz` looks for what is not, for longer."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mk.__file__).parent.parent)}
    command = [sys.executable, "-m", "helpers.fuzz_operators"]
    command += ["--cases", str(100 * TIMES), "--seed", "0"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=TESTS, env=environment
    )
    assert done.stdout.startswith(f"{100 * TIMES} cases"), done.stderr
    assert done.returncode == 0, done.stdout

"""Whatever is done to a package, it opens as what it was, or is refused with a PackageError.

Where the hashes are made to fit, it may also open as another package, but not crash, hang or raise anything else.
`make fuzz` runs many more cases.
"""

import copy
import json
import os

import numpy as np
import onnx
import pytest
from forge import GRAPH, MANIFEST, WEIGHTS, Warden, forge, members_of, pack, save_toy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import PackageError
from modelkit.package import container

TIMES = int(os.environ.get("MODELKIT_FUZZ", "1"))
ROWS = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)


def examples(count):
    """Cases for CI, or that many times more; failures are made small, and no case is looked for by its coverage."""
    phases = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count * TIMES, deadline=None, phases=phases, suppress_health_check=slow)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return save_toy(tmp_path_factory.mktemp("toy") / "toy.mk").read_bytes()


@pytest.fixture(scope="module")
def original(toy):
    with mk.load(toy, threads=1) as model:
        return model.manifest, model.run(ROWS)


@pytest.fixture(scope="module")
def packages(toy, boosting_mk, penguins_mk):
    return [toy, boosting_mk.read_bytes(), penguins_mk.read_bytes()]


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


def mutated(data, raw, edits=4):
    """Bytes with some of them flipped, replaced, left out, doubled, moved, or all cut off."""
    raw = bytearray(raw)
    for _ in range(data.draw(st.integers(1, edits))):
        at = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        some = data.draw(st.integers(1, 64))
        kind = data.draw(st.sampled_from(["flip", "byte", "zero", "junk", "drop", "double", "move", "cut"]))
        if kind == "flip" and raw:
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "byte" and raw:
            raw[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == "zero":
            raw[at : at + some] = bytes(some)
        elif kind == "junk":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=16))
        elif kind == "drop":
            del raw[at : at + some]
        elif kind == "double":
            raw[at:at] = raw[at : at + some]
        elif kind == "move":
            part = raw[at : at + some]
            del raw[at : at + some]
            to = data.draw(st.integers(0, len(raw)))
            raw[to:to] = part
        elif kind == "cut":
            del raw[at:]
    return bytes(raw)


@examples(1500)
@given(data=st.data())
def test_bytes_that_are_changed(toy, original, data):
    check_same(mutated(data, toy), original)


@examples(500)
@given(data=st.data())
def test_bytes_of_the_directory_that_are_changed(toy, original, data):
    start = container.END.unpack(toy[-container.END.size :])[6]
    check_same(toy[:start] + mutated(data, toy[start:]), original)


@examples(500)
@given(data=st.data())
def test_members_of_several_packages(packages, original, data):
    """Members under their own names or those of others, in any order."""
    pool = [(path, content) for package in packages for path, content in members_of(package).items()]
    some = st.integers(0, len(pool) - 1)
    chosen = data.draw(st.lists(st.tuples(some, some), max_size=8))
    whole = members_of(packages[0]) if data.draw(st.booleans()) else {}
    renamed = data.draw(st.booleans())
    whole |= {pool[name if renamed else at][0]: pool[at][1] for at, name in chosen}
    check_same(pack(whole), original)


@examples(300)
@given(data=st.data())
def test_a_directory_in_another_order(toy, original, data):
    start = container.END.unpack(toy[-container.END.size :])[6]
    entries = [b"PK\x01\x02" + entry for entry in toy[start : -container.END.size].split(b"PK\x01\x02")[1:]]
    order = data.draw(st.lists(st.sampled_from(entries), min_size=len(entries), max_size=len(entries)))
    directory = b"".join(order)
    end = container.END.pack(b"PK\x05\x06", 0, 0, len(order), len(order), len(directory), start, 0)
    check_same(toy[:start] + directory + end, original)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 65), 1 << 65), st.floats(), st.text(max_size=8),
    st.sampled_from(["batch", "x", "y", "float32", "string", "onnx", "joblib", GRAPH, WEIGHTS, 64, 1 << 40]),
)  # fmt: skip
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


def places(plain, path=()):
    """Every place of a JSON value."""
    keys = range(len(plain)) if isinstance(plain, list) else plain if isinstance(plain, dict) else ()
    return [path, *(place for key in keys for place in places(plain[key], (*path, key)))]


def edited(data, manifest):
    """A manifest with some places replaced, left out, or given a value of another place."""
    manifest = copy.deepcopy(manifest)
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(places(manifest)[1:] or [("format",)]))
        at = manifest
        for key in parents:
            at = at[key]
        kind = data.draw(st.sampled_from(["set", "set", "drop", "copy"]))
        if kind == "drop":
            at.pop(last, None) if isinstance(at, dict) else at.pop(last)
        elif kind == "copy":
            source = manifest
            for key in data.draw(st.sampled_from(places(manifest)))[:-1]:
                source = source[key]
            at[last] = copy.deepcopy(source)
        else:
            at[last] = data.draw(VALUES)
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


@examples(1000)
@given(data=st.data())
def test_a_manifest_that_is_edited_and_hashes_that_fit(packages, data):
    package = packages[data.draw(st.integers(0, 2))]
    manifest = edited(data, json.loads(members_of(package)[MANIFEST]))
    opens_or_refuses(pack({**members_of(package), MANIFEST: json.dumps(manifest).encode()}))


@examples(400)
@given(data=st.data())
def test_golden_rows_that_are_changed_and_hashes_that_fit(toy, data):
    opens_or_refuses(forge(toy, golden=mutated(data, members_of(toy)["golden.npz"])))


OPERATORS = st.sampled_from(
    ["Add", "MatMul", "Relu", "Concat", "Cast", "Reshape", "Gather", "Loop", "If", "Scan", "ConstantOfShape", "Expand",
     "TreeEnsembleClassifier", "LinearClassifier", "Scaler", "OneHotEncoder", "Identity", "Einsum", "Slice", "Resize"]
)  # fmt: skip
NUMBERS = st.one_of(st.integers(-3, 70), st.sampled_from([1 << 31, -(1 << 31), 1 << 40, 1 << 62, -(1 << 63)]))


def tweaked(data, graph):
    """A graph with some fields of its messages set, doubled, moved or cleared: it stays one that parses."""
    proto = onnx.load_from_string(graph)
    for _ in range(data.draw(st.integers(1, 3))):
        message = proto
        while True:
            held = message.ListFields()
            if not held:
                break
            field, value = held[data.draw(st.integers(0, len(held) - 1))]
            at = data.draw(st.integers(0, len(value) - 1)) if field.is_repeated else None
            if field.message_type is None or data.draw(st.integers(0, 7)) == 0:
                tweak(data, message, field, at)
                break
            message = value if at is None else value[at]
    return proto.SerializeToString()


def tweak(data, message, field, at):
    """Change one field of a protobuf message; `at` is which of several."""
    held = getattr(message, field.name)
    kind = data.draw(st.sampled_from(["set", "set", "set", "drop", "double", "move"]))
    if at is None and (kind != "set" or field.message_type is not None):
        message.ClearField(field.name)
    elif at is None:
        setattr(message, field.name, drawn(data, field, held))
    elif kind == "drop":
        del held[at]
    elif kind == "double":
        held.append(held[at])
    elif kind == "move" or field.message_type is not None:
        held.append(held[at])
        del held[at]
    else:
        held[at] = drawn(data, field, held[at])


def drawn(data, field, old):
    """Another value of the type of a field."""
    if isinstance(old, float):
        return data.draw(st.floats(width=32))
    if isinstance(old, int):
        value = data.draw(NUMBERS)
        return value if field.cpp_type == field.CPPTYPE_INT64 else value % 30
    names = st.sampled_from(["", "x", "y", "h", "w", "label", "probabilities", "X"])
    text = data.draw(OPERATORS if field.name == "op_type" else names)
    return text if isinstance(old, str) else text.encode() + old[data.draw(st.integers(0, 3)) :]


@pytest.mark.parametrize("change", [tweaked, mutated])
@examples(700)
@given(data=st.data())
def test_a_graph_that_is_changed_and_hashes_that_fit(packages, warden, change, data):
    """Runs in a process of its own, for the runtime is given whatever passes the scan."""
    package = packages[data.draw(st.integers(0, 2))]
    path = warden.folder / "fuzz.mk"
    path.write_bytes(forge(package, graph=change(data, members_of(package)[GRAPH])))
    told = warden.open(path, then="verify")
    assert told["error"] is None or told["loaded"] or "PackageError" in told["error"], told
    assert all(event == ["open", str(path)] for event in told["events"]), told["events"]

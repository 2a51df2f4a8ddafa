"""Members that are not what they say: manifests, golden rows, backgrounds and names."""

import io
import json
import zipfile

import numpy as np
import pytest
from helpers.forge import MANIFEST, forge, graph_of, members_of, npz, pack
from helpers.graphs import constant, node
from onnx import TensorProto

import modelkit as mk
from modelkit.errors import IntegrityError, ManifestError, PackageError, SignatureError

# The manifest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parity": {"batch_sizes": [300_000_000]}}, "batch_sizes"),
        ({"parity": {"batch_sizes": [-1]}}, "batch_sizes"),
        ({"parity": {"batch_sizes": [0, 1]}}, "batch_sizes"),
        ({"parity": {"batch_sizes": list(range(1, 100))}}, "batch_sizes"),
        ({"parity": {"rtol": 1e300}}, "tolerances"),
        ({"parity": {"atol": -1.0}}, "tolerances"),
        ({"format": 0}, "format 0"),
        ({"format": -5}, "format -5"),
    ],
)
def test_numbers_out_of_range(toy, change, words):
    def edit(plain):
        for name, value in change.items():
            plain[name] = plain[name] | value if isinstance(value, dict) else value

    with pytest.raises(ManifestError, match=words):
        mk.load(forge(toy, edit=edit))


@pytest.mark.parametrize("place", ["rtol", "max_abs", "metadata"])
def test_infinity_is_no_number(toy, place):
    members = members_of(toy)
    plain = json.loads(members[MANIFEST])
    if place == "metadata":
        plain["metadata"] = {"a": [12345.5]}
    else:
        plain["parity"][place] = 12345.5
    raw = json.dumps(plain).replace("12345.5", "1e999").encode()
    with pytest.raises(ManifestError, match="1e999 is beyond the largest number"):
        mk.load(pack({**members, MANIFEST: raw}))


# Attachments


X, Y = np.zeros((2, 64), np.float32), np.zeros((2, 64), np.float32)
ODD = {
    "another dtype": {"in0": X.astype(np.float64), "out0": Y},
    "texts": {"in0": X.astype(str), "out0": Y},
    "complex numbers": {"in0": X.astype(np.complex64), "out0": Y},
    "one axis": {"in0": X[0], "out0": Y},
    "three axes": {"in0": X[None], "out0": Y},
    "no axis": {"in0": X[0, 0], "out0": Y},
    "another width": {"in0": X[:, :3], "out0": Y},
    "no rows": {"in0": X[:0], "out0": Y[:0]},
    "another dtype of answers": {"in0": X, "out0": Y.astype(np.int64)},
    "fewer answers": {"in0": X, "out0": Y[:1]},
    "narrow answers": {"in0": X, "out0": Y[:, :1]},
    "no answers": {"in0": X},
}


@pytest.mark.parametrize("what", ODD)
def test_golden_rows_of_another_kind(toy, what):
    with mk.load(forge(toy, golden=npz(**ODD[what])), threads=1) as model:
        for call in (model.verify, model.warmup):
            with pytest.raises(PackageError, match="golden"):
                call()


def lying(descr, shape, data=b"", version=1):
    """An npz whose only array says that it is of this dtype and shape."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("in0.npy", b"\x93NUMPY" + bytes((version, 0)) + size + header + data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("golden", "reason"),
    [
        (
            lying("<U0", (1 << 50,)),
            r"'in0' is of <U0 and shape \(1125899906842624,\), and has 0 bytes",
        ),
        (lying("<U0", (1 << 28, 0, 3)), "cannot be read|has object of shape"),
        (lying("|V0", (1 << 40,), version=2), "'in0' is of"),
        (lying("<f4", (1 << 40, 64)), "has 0 bytes"),
        (lying("<f4", (2, 64), b"1234"), "has 4 bytes"),
        (lying([("a", "<U0")], (1 << 40,)), "'in0' is of"),
        (lying("<f4", (2, 64), version=3), "npy format"),
        (lying("<f4", (-1, 64)), "cannot be read"),
    ],
)
def test_arrays_that_are_not_of_their_bytes_take_no_memory(toy, golden, reason):
    with mk.load(forge(toy, golden=golden), threads=1) as model:
        for call in (model.verify, model.warmup):
            with pytest.raises(PackageError, match=reason) as refused:
                call()
            assert refused.value.member == "golden"


def test_golden_rows_that_the_model_does_not_run(toy):
    """A table of three rows is asked for its seventh: onnxruntime has an error of its own for that."""
    proto = graph_of(toy)
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.initializer.append(constant("table", np.ones((3, 64)), np.float32))
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    proto.graph.node.append(node("ReduceMax", ["x", "last"], ["at"], keepdims=0))
    proto.graph.initializer.append(constant("last", [1]))
    proto.graph.node.append(node("Gather", ["table", "at"], ["y"]))

    def edit(plain):
        plain["signature"]["inputs"][0]["dtype"] = "int64"

    rows = npz(in0=np.full((2, 64), 7), out0=Y)
    with mk.load(
        forge(toy, graph=proto.SerializeToString(), golden=rows, edit=edit), threads=1
    ) as model:
        for call in (model.verify, model.warmup):
            with pytest.raises(PackageError, match="do not run here"):
                call()


def test_golden_answers_of_another_length_are_no_answers(toy):
    def edit(plain):
        plain["signature"]["outputs"][0]["shape"][1] = "width"

    data = forge(toy, golden=npz(in0=X, out0=Y[:, :9]), edit=edit)
    with mk.load(data, threads=1) as model, pytest.raises(IntegrityError, match="differs by inf"):
        model.verify()


def test_a_background_of_another_kind(boosting_mk):
    data = boosting_mk.read_bytes()

    def background(array):
        def edit(plain):
            plain["attachments"].append(
                {"name": "background", "path": "background.npz", "media_type": "x"}
            )

        return forge(data, {"background.npz": npz(in0=array)}, edit=edit)

    for array in (np.zeros((5, 30)), np.zeros((5, 3), np.float32), np.zeros(30, np.float32)):
        with (
            mk.load(background(array)) as model,
            pytest.raises(mk.errors.PackageError, match="background"),
        ):
            mk.Explainer(model).explain(np.zeros((1, 30), np.float32))


# Names


def test_control_characters_never_reach_a_terminal(tmp_path, monkeypatch, capsys):
    from modelkit.cli import main

    with pytest.raises(SignatureError, match="control characters"):
        mk.TensorSpec("x\x1b[2J", "float32", ("batch", 4))
    legitimate = mk.Column("a\tb\nc")  # a column of somebody's frame
    spec = mk.TensorSpec("x\ny\u202e", "float32", ("batch", 1), (legitimate,))
    assert str(spec) == "a\\tb\\nc: float32[batch, 1]"
    wide = mk.TensorSpec("x\ny\u202e", "float32", ("batch", 4))
    assert str(wide) == "x\\ny\\u202e: float32[batch, 4]"

    labels = np.array(["plain", "odd\u202e"])
    values = np.random.default_rng(0).normal(size=(40, 2))
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression().fit(values, labels[(values[:, 0] > 0).astype(int)])
    mk.save(fitted, tmp_path / "m.mk", example=values, name="m", version="1")
    (tmp_path / "rows.csv").write_text("x0,x1\n9,0\n")
    arguments = ["predict", str(tmp_path / "m.mk"), str(tmp_path / "rows.csv")]
    assert main(arguments) == 0
    assert "odd\u202e" in capsys.readouterr().out  # a file gets what the model gave
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(arguments) == 0
    assert "odd\\u202e" in capsys.readouterr().out

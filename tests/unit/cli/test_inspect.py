"""`modelkit inspect`: what a package is, needs and would run, escaped."""

import json

import numpy as np
from helpers.commands import run
from helpers.forge import GRAPH, forge, members_of

import modelkit as mk


def test_inspect_shows_what_a_reviewer_needs(capsys, penguins_mk):
    status, out, err = run(capsys, "inspect", penguins_mk)
    assert (status, err) == (0, "")
    manifest = mk.inspect(penguins_mk)
    for text in (
        "penguins 1.0.0",
        manifest.digest,
        "Gentoo",
        "0 labels flipped",
        "bill_length_mm",
        "golden.npz",
        "scikit-learn",
        "mk.load(path) is enough",
        "runtime    onnx",
        "attachment 'golden' (application/x-npz)",
        "ai.onnx.ml: 2 LabelEncoder",
    ):
        assert text in out


def test_inspect_prints_all_of_it_as_json(capsys, penguins_mk):
    status, out, err = run(capsys, "inspect", penguins_mk, "--json")
    assert (status, err) == (0, "")
    assert out.isascii()
    found = json.loads(out)
    manifest = mk.inspect(penguins_mk)
    assert {name: found[name] for name in json.loads(manifest.to_json())} == json.loads(
        manifest.to_json()
    )
    assert (found["digest"], found["needs"], found["refused"]) == (manifest.digest, {}, None)
    assert found["opens"] == "mk.load(path) is enough"
    assert found["installed"]["numpy"] == np.__version__
    assert set(found) - set(json.loads(manifest.to_json())) == {
        "digest", "installed", "model_digest", "needs", "opens", "operators", "refused",
    }  # fmt: skip


def test_operators_are_counted_in_subgraphs_and_where_functions_were_put_in(capsys, tmp_path):
    import onnx.parser

    proto = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18, "com.example" : 1]>
        agraph (float[batch, 2] x) => (float[batch, 2] y) {
            sum = ReduceSum <keepdims = 0> (x)
            same = Equal (sum, sum)
            t = If (same) <
                then_branch = g1 () => (float[batch, 2] a) { a = com.example.Twice (x) },
                else_branch = g2 () => (float[batch, 2] b) { b = Neg (x) }
            >
            y = com.example.Twice (t)
        }
        <domain: "com.example", opset_import: ["" : 18]>
        Twice (a) => (b) { b = Add (a, a) }
    """)
    path = tmp_path / "m.mk"
    mk.save(proto, path, name="m", version="1")
    assert json.loads(run(capsys, "inspect", path, "--json")[1])["operators"] == {
        "ai.onnx": {"Add": 2, "Equal": 1, "If": 1, "Neg": 1, "ReduceSum": 1}
    }


def test_inspect_says_what_a_package_would_need_and_why_it_is_refused(
    capsys, penguins_mk, tmp_path
):
    data = penguins_mk.read_bytes()
    path = tmp_path / "other.mk"
    graph = members_of(data)[GRAPH].replace(b"ai.onnx.ml", b"ai.evil.ml")
    path.write_bytes(forge(data, graph=graph))
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    assert "allow={'ai.evil.ml'}" in out
    assert "ai.evil.ml: 2 LabelEncoder" in out
    assert json.loads(run(capsys, "inspect", path, "--json")[1])["needs"] == {
        "allow": ["ai.evil.ml"]
    }
    path.write_bytes(forge(data, graph=b"\x80\x04pickle"))
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    assert "it is refused: the graph is not a well-formed" in out
    assert json.loads(run(capsys, "inspect", path, "--json")[1])["needs"] == {}


def test_what_inspect_prints_is_escaped(capsys, penguins_mk, tmp_path):
    path = tmp_path / "other.mk"
    hostile = "<script>\x1b[31m\u202e"
    path.write_bytes(
        forge(
            penguins_mk.read_bytes(),
            edit=lambda plain: plain["metadata"].update({hostile: hostile}),
        )
    )
    for options in ((), ("--json",)):
        _, out, _ = run(capsys, "inspect", path, *options)
        assert "script" in out
        assert "\x1b" not in out
        assert "\u202e" not in out
    card = mk.inspect(path)._repr_html_()
    assert "penguins 1.0.0" in card
    assert "bill_length_mm" in card
    assert "<script" not in card
    assert "\x1b" not in card


def test_inspect_refuses_what_is_no_package(capsys, tmp_path):
    (tmp_path / "x.mk").write_bytes(b"nothing of the kind")
    status, out, err = run(capsys, "inspect", tmp_path / "x.mk")
    assert (status, out) == (1, "")
    assert "not a modelkit package" in err
    status, _, err = run(capsys, "inspect", tmp_path / "absent.mk")
    assert status == 1
    assert "absent.mk" in err

"""The command line and the notebook card show what is there, safely."""

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import modelkit as mk
from modelkit import cli
from modelkit.package import container
from modelkit.signature.signature import Signature
from modelkit.signature.spec import Column, TensorSpec


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


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
        "nothing: it opens with mk.load(path)",
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
    assert found["opens"] == "nothing: it opens with mk.load(path)"
    assert found["installed"]["numpy"] == np.__version__
    assert set(found) - set(json.loads(manifest.to_json())) == {
        "digest", "installed", "model_digest", "needs", "opens", "operators", "refused",
    }  # fmt: skip


def test_operators_are_counted_in_subgraphs_and_functions_too(capsys, tmp_path):
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
    mk.save(proto, path, name="m", version="1", allow={"com.example"})
    assert json.loads(run(capsys, "inspect", path, "--json")[1])["operators"] == {
        "ai.onnx": {"Add": 1, "Equal": 1, "If": 1, "Neg": 1, "ReduceSum": 1}, "com.example": {"Twice": 2},
    }  # fmt: skip


def test_inspect_says_what_a_package_would_need_and_why_it_is_refused(
    capsys, penguins_mk, tmp_path
):
    graph = bytes(container.read_zip(memoryview(penguins_mk.read_bytes()))["model/model.onnx"])
    path = tmp_path / "other.mk"
    path.write_bytes(
        changed(penguins_mk, lambda _: None, graph=graph.replace(b"ai.onnx.ml", b"ai.evil.ml"))
    )
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    assert "allow={'ai.evil.ml'}" in out
    assert "ai.evil.ml: 2 LabelEncoder" in out
    assert json.loads(run(capsys, "inspect", path, "--json")[1])["needs"] == {
        "allow": ["ai.evil.ml"]
    }
    path.write_bytes(changed(penguins_mk, lambda _: None, graph=b"\x80\x04pickle"))
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    assert "it is refused: the graph is not a well-formed" in out
    assert json.loads(run(capsys, "inspect", path, "--json")[1])["needs"] == {}


def test_what_inspect_prints_is_escaped(capsys, penguins_mk, tmp_path):
    path = tmp_path / "other.mk"
    hostile = "<script>\x1b[31m\u202e"
    path.write_bytes(
        changed(penguins_mk, lambda manifest: manifest["metadata"].update({hostile: hostile}))
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


def test_predict_reads_csv_and_writes_csv(capsys, penguins_mk, pipeline, penguins, tmp_path):
    X, _ = penguins
    X[::-1].to_csv(tmp_path / "x.csv", index=False)
    status, out, _ = run(capsys, "predict", penguins_mk, "--input", tmp_path / "x.csv")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in rows] == pipeline.predict(X[::-1]).tolist()
    expected = pipeline.predict_proba(X[::-1])
    assert float(rows[0]["p(Gentoo)"]) == pytest.approx(expected[0, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "missing column 'island'"),
        ("year\nlast\n", "row 0, column 'year': 'last' is not int64"),
        ("year\n", "no rows"),
        ("", "no rows"),
        ("island,year\nDream,2007\nDream\n", "row 1 has 1 cells, and the header 2"),
        ("island\nDream,2007\n", "row 0 has 2 cells, and the header 1"),
        ("year,year\n2007,2008\n", "more than one column 'year'"),
        ("year\n1_0\n", "row 0, column 'year': '1_0' is not int64"),
        ("island\n\xff\n", "x.csv is not CSV in UTF-8: 'utf-8' codec"),
        ("island\n" + 200_000 * "x" + "\n", "x.csv is not CSV in UTF-8: field larger"),
    ],
)
def test_predict_says_what_is_wrong_with_the_csv(capsys, penguins_mk, tmp_path, text, message):
    (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
    status, out, err = run(capsys, "predict", penguins_mk, "--input", tmp_path / "x.csv")
    assert (status, out) == (1, "")
    assert message in err


def test_csv_takes_floats_where_the_graph_does(capsys, tmp_path):
    """As pandas writes a column of integers that once had a gap."""
    X = pd.DataFrame({"age": np.arange(20), "weight": np.arange(20) / 7})
    mk.save(
        Ridge().fit(X, np.arange(20)), tmp_path / "ridge.mk", example=X, name="ridge", version="1"
    )
    X[:5].to_csv(tmp_path / "whole.csv", index=False)
    X[:5].astype(float).to_csv(tmp_path / "float.csv", index=False)
    answers = [
        run(capsys, "predict", tmp_path / "ridge.mk", "--input", tmp_path / f"{n}.csv")
        for n in ("whole", "float")
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 0
    (tmp_path / "large.csv").write_text(f"age,weight\n{2**53 + 1},1\n")
    status, _, err = run(
        capsys, "predict", tmp_path / "ridge.mk", "--input", tmp_path / "large.csv"
    )
    assert (status, "beyond 2**53" in err) == (1, True)


def test_an_output_without_the_characters_is_an_error_that_says_so(tmp_path):
    X = pd.DataFrame({"x": [0.0, 1.0] * 10})
    mk.save(
        LogisticRegression().fit(X, ["Größe", "b"] * 10),
        tmp_path / "g.mk",
        example=X,
        name="g",
        version="1",
    )
    X.to_csv(tmp_path / "x.csv", index=False)
    command = [
        sys.executable,
        "-m",
        "modelkit.cli",
        "predict",
        str(tmp_path / "g.mk"),
        "--input",
        str(tmp_path / "x.csv"),
    ]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == b"modelkit: the output takes no '\\xf6'; set PYTHONIOENCODING=utf-8\n"


def test_a_reader_that_goes_away_is_no_error(penguins_mk, penguins, tmp_path):
    pd.concat([penguins[0]] * 30).to_csv(tmp_path / "x.csv", index=False)  # more than a pipe holds
    command = [
        sys.executable,
        "-m",
        "modelkit.cli",
        "predict",
        str(penguins_mk),
        "--input",
        str(tmp_path / "x.csv"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0  # so that `modelkit predict ... | head` is well under pipefail


def test_doctor_finds_nothing_wrong_here(capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    assert "no problems found" in out
    assert "CPUExecutionProvider" in out
    assert "Azure" not in out


def test_doctor_names_two_runtimes_and_the_line_that_mends_it(capsys, monkeypatch, tmp_path):
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 9.9\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    status, out, _ = run(capsys, "doctor")
    assert status == 1
    assert "PROBLEM: 2 runtimes" in out
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime\n" in out


GATE = ("gate", "b.mk", "--champion", "a.mk", "--data", "x.csv", "--label", "y", "--margin")
EVALUATE = ("evaluate", "a.mk", "--data", "x.csv", "--label", "y")
START = ("rollout", "models", "start", "m@2", "--reason", "r", "--stage")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*GATE, "abc"), "--margin: 'abc' is not a number of at least 0"),
        ((*GATE, "-1"), "expected one argument|'-1' is not a number of at least 0"),
        ((*GATE, "accuracy=nan"), "--margin: 'nan' is not a number"),
        ((*GATE, ".1", "--budget", "p50=2"), "no budget 'p50'; there are p50_ratio"),
        ((*GATE, ".1", "--budget", "p50_ratio=0"), "p50_ratio is a number above 0"),
        ((*GATE, ".1", "--budget", "p50_ratio"), "is written as NAME=NUMBER"),
        ((*GATE, ".1", "--seed", "x"), "'x' is no whole number of at least 0"),
        ((*GATE, ".1", "--alpha", "5"), "'5' is not a number between 0 and 0.5"),
        ((*EVALUATE, "--level", "95"), "'95' is not a number between 0 and 1"),
        (("drift", "a.mk", "--current", "x.csv", "--alpha", "5"), "'5' is not a number between"),
        (("serve", "a.mk", "--port", "99999"), "a port is a number from 0 to 65535"),
        (("serve", "a.mk", "--workers", "0"), "at least one worker"),
        (("serve", "a.mk", "--allow", "pickle"), "neither 'joblib' nor a domain"),
        (("registry", "models", "alias", "m@champion", "1", "--reason", "r"), "with --expected"),
        ((*START, "2"), "from 0 to 1"),
        ((*START, "0.5", "--alpha", "5"), "alpha is between 0 and 1"),
        ((*START, "0.5", "--horizon", "soon"), "'soon' is not a time"),
        (("rollout", "models", "outcome", "m", "--key", "k", "--loss", "2"), "from 0"),
        (("rollout", "models", "outcome", "m", "--key", "k"), "has --key and --loss"),
        (("export", "grafana", "--out", "x", "--errors", "2"), "at most 0.05"),
    ],
)
def test_arguments_that_cannot_be_meant_have_the_status_2(capsys, words, told):
    """Whether or not the files that they name are there."""
    try:
        status = cli.main(words)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert re.search(told, capsys.readouterr().err)


def test_usage_is_shown_for_unknown_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["explode"])
    assert caught.value.code == 2


def test_what_a_file_says_cannot_drive_the_terminal():
    assert cli.printable("a\x1b[31mb\n") == "a\\x1b[31mb\n"


def test_the_notebook_card_shows_the_model_escaped(penguins_mk):
    with mk.load(penguins_mk, threads=2) as model:
        card = model._repr_html_()
        for text in (
            "penguins 1.0.0",
            "2 threads",
            "as asked",
            model.manifest.digest,
            "labels flipped",
            "bill_length_mm",
            "Adelie",
        ):
            assert text in card
    hostile = Column("<script>alert(1)</script>", "float64")
    signature = Signature(
        (TensorSpec("<b>", "float64", ("batch", 1), (hostile,)),),
        (TensorSpec("y", "float64", ("batch",)),),
    )
    card = mk.FunctionModel(lambda feeds: feeds, signature)._repr_html_()
    assert "<script" not in card
    assert "<b>" not in card
    assert "&lt;script&gt;" in card
    assert not re.search(r"https?://", card)


def test_doctor_verifies_a_package_and_names_other_versions(capsys, penguins_mk, tmp_path):
    status, out, _ = run(capsys, "doctor", penguins_mk)
    assert status == 0
    assert "golden rows agree" in out
    assert "where the package was made" not in out
    other = tmp_path / "other.mk"
    other.write_bytes(
        changed(penguins_mk, lambda manifest: manifest["versions"].update({"numpy": "0.1"}))
    )
    status, out, _ = run(capsys, "doctor", other)
    assert status == 0
    assert re.search(r"numpy \S+ here, 0.1 where the package was made", out)
    status, out, _ = run(capsys, "inspect", other)
    assert re.search(r"here +numpy ", out)


def test_doctor_fails_where_golden_rows_no_longer_agree(capsys, penguins_mk, tmp_path):
    def shift(arrays):
        arrays["out1"] = arrays["out1"] + 0.1

    path = tmp_path / "drifted.mk"
    path.write_bytes(changed(penguins_mk, lambda _: None, shift))
    status, out, _ = run(capsys, "doctor", path)
    assert status == 1
    assert "PROBLEM: output 'probabilities' of the golden rows differs by 0.1" in out


def changed(path, edit, shift=None, graph=None):
    """A package with its manifest edited, and its golden outputs or graph, hashes set right again."""
    members = {
        name: bytes(data)
        for name, data in container.read_zip(memoryview(path.read_bytes())).items()
    }
    manifest = json.loads(members["modelkit.json"])
    edit(manifest)
    if shift is not None:
        with np.load(io.BytesIO(members["golden.npz"])) as file:
            arrays = dict(file)
        shift(arrays)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        members["golden.npz"] = buffer.getvalue()
    if graph is not None:
        members["model/model.onnx"] = graph
    for entry in manifest["files"]:
        data = members[entry["path"]]
        entry["size"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    members["modelkit.json"] = json.dumps(manifest).encode()
    return b"".join(bytes(piece) for piece in container.write_zip(members))


@pytest.fixture
def drift_csvs(penguins, tmp_path):
    """Rows of the past, later ones like them, and later ones with heavier penguins; each with a key of its own."""
    X = penguins[0].dropna().sample(frac=1, random_state=0)
    past, later = X[:220], X[220:]
    heavier = later.assign(body_mass_g=later["body_mass_g"] * 1.25)
    for name, rows in {"past": past, "later": later, "heavier": heavier}.items():
        rows.assign(key=[f"{name}{i}" for i in range(len(rows))]).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    return {name: tmp_path / f"{name}.csv" for name in ("past", "later", "heavier")}


def test_drift_says_by_its_status_whether_rows_differ(capsys, penguins_mk, drift_csvs, tmp_path):
    status, out, err = run(
        capsys,
        "drift",
        penguins_mk,
        "--reference",
        drift_csvs["past"],
        "--current",
        drift_csvs["later"],
    )
    assert (status, err) == (0, "")
    assert out.startswith(
        "Drift of a batch, no alarm: 113 rows against 110 of the reference, alpha 0.01\n"
    )
    status, out, err = run(
        capsys, "drift", penguins_mk, "--reference", drift_csvs["past"], "--current", drift_csvs["heavier"],
        "--html", tmp_path / "drift.html", "--csv", tmp_path / "drift.csv",
    )  # fmt: skip
    assert (status, err) == (4, "")
    assert "ALARM body_mass_g: changed" in out
    assert "key" not in out
    assert "body_mass_g" in (tmp_path / "drift.html").read_text(encoding="utf-8")
    table = pd.read_csv(tmp_path / "drift.csv").set_index("feature")
    assert table.loc["body_mass_g", "says"] == "large"
    assert table.loc["body_mass_g", "alarms"] == '["changed"]'


def test_drift_goes_by_the_profile_in_the_package(
    capsys, pipeline, penguins, penguins_mk, drift_csvs, tmp_path
):
    X = penguins[0].dropna()
    with mk.load(penguins_mk) as model:
        profile = mk.Profile.fit(X, model=model)
    path = tmp_path / "watched.mk"
    mk.save(pipeline, path, example=X, name="penguins", version="1.0.0", profile=profile)
    status, out, _ = run(
        capsys, "drift", path, "--current", drift_csvs["heavier"], "--alpha", "0.05", "--json"
    )
    assert status == 4
    report = mk.DriftReport.from_json(out)
    assert report.alpha == 0.05
    assert "body_mass_g" in {alarm.feature for alarm in report.alarms}
    assert {drift.rows for drift in report.features} == {
        113
    }  # what the model answers is compared too


def test_drift_tells_units_by_columns_that_the_model_does_not_take(
    capsys, pipeline, penguins, tmp_path
):
    rows = penguins[0].dropna().sample(2000, replace=True, random_state=0)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(2000) // 50, unit="D")
    profile = mk.Profile.fit(rows.assign(day_of=days.astype(str)), unit="day", time="day_of")
    path = tmp_path / "daily.mk"
    mk.save(pipeline, path, example=rows, name="penguins", version="1.0.0", profile=profile)
    later = rows.assign(day_of="2025-01-01T12:00")[:50]
    for factor, expected in ((1.0, 0), (1.4, 4)):
        heavier = later.assign(body_mass_g=later["body_mass_g"] * factor)
        heavier.to_csv(tmp_path / "day.csv", index=False)
        status, out, err = run(
            capsys, "drift", path, "--current", tmp_path / "day.csv", "--alpha", "0.05"
        )
        assert (status, err) == (expected, "")
    assert "body_mass_g: changed with day 2025-01-01" in out


def test_drift_has_another_status_for_errors(capsys, penguins_mk, drift_csvs):
    status, out, err = run(capsys, "drift", penguins_mk, "--current", drift_csvs["later"])
    assert (status, out) == (1, "")
    assert "pass --reference" in err
    for wrong in (["--alpha", "1%"], ["--nothing"], []):
        current = ["--current", str(drift_csvs["later"])] if wrong else []
        with pytest.raises(SystemExit) as caught:
            cli.main(["drift", str(penguins_mk), *current, *wrong])
        assert caught.value.code == 2

"""Every command reads every format, and writes every format; ids are passed on."""

from __future__ import annotations

import gzip
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from helpers.commands import run
from helpers.examples import some
from helpers.shells import FORMS, as_stdin, bytes_as, table_in
from sklearn.linear_model import LinearRegression

import modelkit as mk
from modelkit.cli import main

TABLES = ("csv", "json", "jsonl", "parquet")
TEXTS = ("the river", "a model, and music", "two\nlines", 'so "they" say')


@pytest.fixture(scope="module")
def inputs(judged_rows):
    """The rows that each command takes, and its other arguments."""
    X, y = judged_rows
    X, y = X[:400], y[:400]
    ids = pd.DataFrame({"customer": [f"c,{i}" for i in range(30)], "day": np.arange(30)})
    few = X[:30].join(ids)
    named = ("--id", "customer", "--id", "day")
    gate = ("--champion", "new.mk", "--label", "churned", "--margin", "0.1")
    return {
        "predict": (few, "churn.mk", named),
        "explain": (few, "churn.mk", named),
        "embed": (pd.DataFrame({"text": TEXTS, "n": [1, 2, 3, 4]}), "encoder.mk", ("--id", "n")),
        "drift": (X, "churn.mk", ()),
        "evaluate": (X.assign(churned=y), "churn.mk", ("--label", "churned")),
        "gate": (X.assign(churned=y), "churn.mk", gate),
    }


@some("form", TABLES, 2)
@pytest.mark.parametrize("command", ["predict", "explain", "embed", "drift", "evaluate", "gate"])
def test_every_format_is_read_and_written(shell, capsysbinary, monkeypatch, inputs, command, form):
    frame, package, more = inputs[command]
    found = []
    for name in FORMS:
        data = bytes_as(frame, name)
        if name == "-":
            monkeypatch.setattr("sys.stdin", as_stdin(data))
        else:
            (shell / name).write_bytes(data)
        report = command in ("explain", "drift", "evaluate", "gate")
        assert main([command, package, name, *more, "--output", f"found.{form}"]) in (0, 3, 4)
        capsysbinary.readouterr()
        written = (shell / f"found.{form}").read_bytes()
        if report and form == "json":
            found.append(pd.DataFrame([written.decode()]))
        else:
            found.append(table_in(written, form))
        if name == "rows.csv":
            assert main([command, package, name, *more, "--format", form]) in (0, 3, 4)
            assert capsysbinary.readouterr().out.rstrip() == written.rstrip()
    for table in found:  # a cell of CSV is a text, and a number of JSON a number
        for column in set(more[1::2]).intersection(table):
            table[column] = table[column].astype(str)
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0])
    if more[:1] == ("--id",) and not (report and form == "json"):
        for column in more[1::2]:
            assert found[0][column].astype(str).tolist() == frame[column].astype(str).tolist()


@pytest.mark.parametrize("command", ["predict", "explain", "embed", "drift", "evaluate", "gate"])
def test_every_format_that_the_help_offers_is_printed(shell, capsysbinary, inputs, command):
    """`predict` offered text, HTML and XML, and refused them."""
    frame, package, more = inputs[command]
    frame.to_csv("offered.csv", index=False)
    with pytest.raises(SystemExit):
        main([command, "--help"])
    found = re.search(r"--format \{(.+?)\}", capsysbinary.readouterr().out.decode())
    offered = {*found[1].split(",")}
    for form in offered - {*TABLES}:
        assert main([command, package, "offered.csv", *more, "--format", form]) in (0, 3, 4)
    assert offered >= {*TABLES}


@pytest.mark.parametrize("form", TABLES)
def test_what_is_written_is_what_python_gives(shell, form, inputs):
    frame, *_ = inputs["predict"]
    frame.to_csv("rows.csv", index=False)
    words = ["--id", "customer", "--output", f"found.{form}"]
    assert main(["predict", "churn.mk", "rows.csv", "--extra", "ignore", *words]) == 0
    assert main(["embed", "encoder.mk", "texts.csv", "--id", "key", "--output", f"v.{form}"]) == 0
    assert main(["explain", "churn.mk", "rows.csv", "--id", "customer", "--extra", "ignore",
                 "--output", "why.parquet"]) == 0  # fmt: skip
    found = table_in((shell / f"found.{form}").read_bytes(), form)
    with mk.load("churn.mk") as model:
        outputs = model.run(frame[["a", "b"]])
        explanation = mk.Explainer(model).explain(frame[["a", "b"]])
    assert found["label"].tolist() == outputs["label"].tolist()
    assert np.array_equal(found[["p(0)", "p(1)"]], outputs["probabilities"])
    assert found["customer"].tolist() == frame["customer"].tolist()
    why = table_in((shell / "why.parquet").read_bytes(), "parquet")
    assert np.array_equal(why[["base", "a", "b"]], explanation.to_dataframe())
    vectors = table_in((shell / f"v.{form}").read_bytes(), form)
    with mk.load("encoder.mk") as encoder:
        expected = encoder.embed(pd.read_csv("texts.csv")["text"].tolist())
    names = [name for name in vectors if name.startswith("embedding")]
    got = vectors[names].to_numpy() if form == "csv" else np.array(vectors["embedding"].tolist())
    assert np.array_equal(got.astype(np.float32), expected)


def test_roles_and_lengths_are_those_of_the_encoder(shell, capsys):
    words = ["embed", "encoder.mk", "texts.csv", "--id", "key", "--format", "jsonl"]
    status, out, _ = run(capsys, *words, "--role", "query", "--dims", "4")
    assert status == 0
    with mk.load("encoder.mk") as encoder:
        expected = encoder.embed(["the river"], role="query", dims=4)
    assert json.loads(out.splitlines()[0])["embedding"] == expected[0].tolist()
    assert run(capsys, *words, "--role", "quarry")[0] == 1
    status, _, err = run(capsys, "embed", "churn.mk", "texts.csv")
    assert (status, "unexpected column" in err or "does not embed texts" in err) == (2, True)
    status, _, err = run(capsys, "embed", "encoder.mk", "texts.csv", "--column", "txt")
    assert (status, "lack the column 'txt' (is it 'text'?)" in err) == (2, True)


def test_reports_are_pages_and_texts_too(shell, capsys):
    words = ["evaluate", "churn.mk", "test.csv", "--label", "churned"]
    names = ("e.html", "e.json", "e.txt", "e.csv", "e.csv.gz", "e.jsonl", "e.parquet")
    status, out, _ = run(capsys, *words, *(word for name in names for word in ("--output", name)))
    assert status == 0
    report = mk.Evaluation.from_json((shell / "e.json").read_text())
    assert out == f"{report}\n"
    assert (shell / "e.txt").read_text() == f"{report}\n"
    assert (shell / "e.html").read_text().startswith("<!doctype html>")
    tables = [
        pd.read_csv("e.csv"),
        pd.read_parquet("e.parquet"),
        pd.read_json("e.jsonl", lines=True),
    ]
    assert gzip.decompress((shell / "e.csv.gz").read_bytes()) == (shell / "e.csv").read_bytes()
    assert {len(table) for table in tables} == {len(report.to_dataframe())}
    assert run(capsys, *words, "--format", "html")[1].startswith("<!doctype html>")
    gate = ["gate", "new.mk", "test.csv", "--champion", "churn.mk", "--label", "churned"]
    assert run(capsys, *gate, "--margin", "0.1", "--output", "checks.parquet")[0] in (0, 3)
    assert "accuracy" in pd.read_parquet("checks.parquet")["name"].tolist()


@pytest.mark.parametrize("command", ["predict churn.mk rows.csv", "drift churn.mk today.csv"])
def test_a_name_that_says_no_format_is_a_wrong_argument(shell, capsys, command):
    for name in ("found", "found.xls", "found.gz"):
        status, out, err = run(capsys, *command.split(), "--output", name)
        assert (status, out) == (2, "")
        assert "csv" in err
        assert not (shell / name).exists()
    if command.startswith("predict"):
        assert run(capsys, *command.split(), "--output", "found", "--format", "jsonl")[0] == 0


def test_an_error_in_the_middle_leaves_the_old_file(shell, capsys):
    rows = pd.concat([pd.read_csv("rows.csv")] * 500)  # more than are read at once
    rows.to_csv("many.csv", index=False)
    with open("many.csv", "a", encoding="utf-8") as file:
        file.write("1,last\n")
    (shell / "found.csv").write_text("old")
    status, _, err = run(capsys, "predict", "churn.mk", "many.csv", "--output", "found.csv")
    assert (status, "row 20000, column 'b': 'last' is not" in err) == (1, True)
    assert (shell / "found.csv").read_text() == "old"
    assert not [name for name in shell.iterdir() if name.name.startswith(".found")]
    rows.assign(b=[*rows["b"][:-1], None]).to_parquet("many.parquet")
    status, _, err = run(capsys, "predict", "churn.mk", "many.parquet", "--output", "found.csv")
    assert (status, "in the rows from 16384 on" in err) == (1, True)


def test_an_id_with_the_name_of_an_answer_is_refused(shell, capsys):
    pd.read_csv("rows.csv").assign(label=1).to_csv("rows.csv", index=False)
    status, _, err = run(capsys, "predict", "churn.mk", "rows.csv", "--id", "label")
    assert (status, "the answers have a column of that name" in err) == (2, True)


def test_an_id_may_be_a_column_of_the_model(shell, capsys):
    status, out, _ = run(capsys, "predict", "churn.mk", "rows.csv", "--id", "a")
    assert status == 0
    assert pd.read_csv(io.StringIO(out))["a"].tolist() == pd.read_csv("rows.csv")["a"].tolist()


def test_several_outputs_are_several_columns(tmp_path, capsys):
    X = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) ** 2})
    path = tmp_path / "m.mk"
    mk.save(LinearRegression().fit(X, X[["b", "a"]]), path, example=X, name="m", version="1")
    X.to_csv(tmp_path / "x.csv", index=False)
    status, out, _ = run(capsys, "predict", path, tmp_path / "x.csv")
    assert status == 0
    with mk.load(path) as model:
        assert np.array_equal(pd.read_csv(io.StringIO(out)), model.predict(X))
    status, out, _ = run(capsys, "predict", path, tmp_path / "x.csv", "--json")
    assert len(json.loads(out)) == 20


def test_rows_of_a_rollout_and_a_retraining_are_pages(shell, capsys):
    assert run(capsys, "retrain", "models", "history", "churn", "--output", "runs.html")[0] == 0
    assert "never" not in (shell / "runs.html").read_text()
    assert run(capsys, "retrain", "models", "history", "churn", "--output", "runs.csv")[0] == 2


def test_parquet_does_not_go_to_a_terminal(shell, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    status, _, err = run(capsys, "predict", "churn.mk", "rows.csv", "--format", "parquet")
    assert (status, "a terminal does not show Parquet" in err) == (2, True)

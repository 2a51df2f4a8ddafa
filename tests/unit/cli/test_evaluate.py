"""`modelkit evaluate` reads rows, truth and weights from CSV and Parquet."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

import modelkit as mk
from modelkit.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A package, and its rows in files: the truth is a text, and the model has integers."""
    where = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300)})
    y = (X["a"] + rng.normal(size=300) > 0).astype(int)
    mk.save(
        LogisticRegression().fit(X[:150], y[:150]), where / "m.mk", example=X, name="m", version="1"
    )
    table = X.assign(
        truth=y,
        weight=rng.uniform(1, 2, 300),
        region=np.where(np.arange(300) % 3, "north", "south"),
        customer=np.arange(300) // 2,
    )
    for name, part in {"train": table[:150], "test": table[150:]}.items():
        part.to_csv(where / f"{name}.csv", index=False)
        part.to_parquet(where / f"{name}.parquet", index=False)
    return where


def options(folder, kind, *more):
    told = ["--slice", "region", "--clusters", "customer", "--weight", "weight"]
    files = [str(folder / f"test.{kind}"), "--train", str(folder / f"train.{kind}")]
    return ["evaluate", str(folder / "m.mk"), *files, "--label", "truth", *told, *more]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_give_what_frames_give(folder, kind, capsys):
    assert main(options(folder, kind, "--json")) == 0
    found = mk.Evaluation.from_json(capsys.readouterr().out)
    test, train = (pd.read_parquet(folder / f"{name}.parquet") for name in ("test", "train"))
    with mk.load(folder / "m.mk") as model:
        expected = mk.evaluate(
            model,
            test.drop(columns=["truth", "weight"]),
            test["truth"],
            train=(train.drop(columns=["truth", "weight"]), train["truth"], train["weight"]),
            slices=["region"],
            clusters="customer",
            sample_weight=test["weight"],
        )
    assert found == expected
    assert {check.name for check in found.leaks} == {"equal rows", "shared clusters", "one column"}
    assert not any(check.found for check in found.leaks)


def test_it_is_printed_written_and_attached(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    path = tmp_path / "m.mk"
    path.write_bytes((folder / "m.mk").read_bytes())
    arguments = options(folder, "csv", "--output", str(page), "--attach")
    arguments[1] = str(path)
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(
        "Evaluation of m 1: binary, 150 rows in 75 clusters, weighted"
    )
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    with mk.load(path) as model:
        assert mk.Evaluation.packaged(model).rows == 150


def test_robustness_is_measured_where_it_is_asked_for(folder, capsys):
    data = [str(folder / "test.csv"), "--label", "truth", "--slice", "region"]
    command = ["evaluate", str(folder / "m.mk"), *data, "--extra", "ignore"]
    assert main([*command, "--robustness", "--json"]) == 0
    report = mk.Evaluation.from_json(capsys.readouterr().out).robustness
    assert report["greedy"].rows == sum(
        report[f"greedy where region is {name}"].rows for name in ("north", "south")
    )
    assert main([*command, "--json"]) == 0
    assert mk.Evaluation.from_json(capsys.readouterr().out).robustness is None


@pytest.mark.parametrize(
    ("more", "status", "reason"),
    [
        (["--label", "lable"], 2, "lack the column 'lable'; their columns are a, b, truth"),
        (["--label", "region"], 2, "'north', 'south' in 150 rows"),
        (["--label", "truth"], 1, "unexpected column 'weight'"),
        (["--label", "truth", "--weight", "region"], 1, "'south', which is not a number"),
        (
            ["--label", "truth", "--extra", "ignore", "--clusters", "client"],
            2,
            "names the column 'client'",
        ),
    ],
)
def test_what_does_not_fit_is_said(folder, more, status, reason, capsys):
    data = [str(folder / "test.csv")]
    assert main(["evaluate", str(folder / "m.mk"), *data, *more]) == status
    assert reason in capsys.readouterr().err


def sampled(folder):
    """Rows as pandas gives them after a sample: their index is a column of Parquet."""
    return pd.read_parquet(folder / "test.parquet").sample(frac=0.9, random_state=0)


@pytest.mark.parametrize("command", ["evaluate", "gate", "predict", "explain", "drift"])
def test_every_command_reads_parquet_without_the_index_of_pandas(folder, tmp_path, capsys, command):
    X = sampled(folder)[["a", "b"]]
    labelled = sampled(folder)[["a", "b", "truth"]]
    model = str(folder / "m.mk")
    words = {
        "evaluate": (labelled, "--label", "truth"),
        "gate": (labelled, "--champion", model, "--label", "truth", "--margin", "0.1"),
        "predict": (X,),
        "explain": (X, "--row", "3", "--background", f"{tmp_path}/plain.csv"),
        "drift": (X, "--reference", f"{tmp_path}/plain.csv"),
    }[command]
    frame, *more = words
    X.to_csv(tmp_path / "plain.csv", index=False)
    answers = []
    for name in ("plain.csv", "unnamed.parquet", "named.pq"):
        file = tmp_path / name
        if name == "plain.csv":
            frame.to_csv(file, index=False)
        else:
            frame.rename_axis("id" if name == "named.pq" else None).to_parquet(file)
        status = main([command, model, str(file), *more])
        answers.append((status, capsys.readouterr().out))
        assert answers[-1] == answers[0]
    assert answers[0][1]


def test_explain_leaves_out_columns_as_every_other_command_does(folder, capsys):
    words = ["explain", str(folder / "m.mk"), str(folder / "test.csv")]
    words += ["--background", str(folder / "train.csv"), "--row", "0"]
    assert main(words) == 1
    assert "on the command line: --extra ignore" in capsys.readouterr().err
    assert main([*words, "--extra", "ignore"]) == 0
    assert capsys.readouterr().out.startswith("1 (raw_score)")


@pytest.mark.parametrize("index", ["a", "customer", "truth"])
def test_an_index_that_is_named_is_a_column(folder, tmp_path, capsys, index):
    rows = sampled(folder)[["a", "b", "truth", "customer"]]
    told = []
    for name, frame in {"plain": rows, "index": rows.set_index(index)}.items():
        file = tmp_path / f"{name}.parquet"
        frame.to_parquet(file)
        words = [str(file), "--label", "truth", "--clusters", "customer"]
        assert main(["evaluate", str(folder / "m.mk"), *words]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


def test_a_file_that_is_no_parquet_is_said(folder, tmp_path, capsys):
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR0" * 10)
    assert main(["evaluate", str(folder / "m.mk"), str(bad), "--label", "truth"]) == 1
    assert "bad.parquet cannot be read as Parquet" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "gate"])
def test_the_positive_class_is_chosen_by_its_text(folder, capsys, command):
    data = [str(folder / "test.csv"), "--label", "truth", "--positive"]
    model = str(folder / "m.mk")
    more = ["--extra", "ignore"]
    if command == "gate":
        more += ["--champion", model, "--metric", "recall", "--margin", "0.5"]
    assert main([command, model, *data, "0", *more]) in (0, 3)
    out = capsys.readouterr().out
    assert ("recall of 0 " if command == "evaluate" else "recall: of the class '0'") in out
    assert main([command, model, *data, "2", *more]) == 2
    assert "positive='2' is not a class of this model" in capsys.readouterr().err


def test_numbers_and_several_labels(tmp_path, capsys):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=100), "b": rng.normal(size=100)})
    labels = pd.DataFrame({"up": (X["a"] > 0).astype(int), "right": (X["b"] > 0).astype(int)})
    mk.save(
        OneVsRestClassifier(LogisticRegression()).fit(X, labels),
        tmp_path / "l.mk",
        example=X,
        name="l",
        version="1",
    )
    mk.save(
        LinearRegression().fit(X, X["a"] * 2), tmp_path / "n.mk", example=X, name="n", version="1"
    )
    X.join(labels).to_csv(tmp_path / "l.csv", index=False)
    X.assign(y=X["a"] * 2).to_csv(tmp_path / "n.csv", index=False)
    told = ["--label", "up", "--label", "right", "--json"]
    assert main(["evaluate", str(tmp_path / "l.mk"), str(tmp_path / "l.csv"), *told]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "multilabel"
    assert [each["label"] for each in found["classes"]] == ["up", "right"]
    mk.save(LinearRegression().fit(X, X), tmp_path / "o.mk", example=X, name="o", version="1")
    X.assign(left=X["a"], low=X["b"]).to_csv(tmp_path / "o.csv", index=False)
    told = ["--label", "left", "--label", "low"]
    assert main(["evaluate", str(tmp_path / "o.mk"), str(tmp_path / "o.csv"), *told]) == 0
    assert "r2 1" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "n.mk"), str(tmp_path / "n.csv"), "--label", "y"]) == 0
    assert "r2 1" in capsys.readouterr().out

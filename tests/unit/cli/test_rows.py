"""Rows as commands read them: formats, numbers, gaps, and what is wrong with a file."""

import numpy as np
import pandas as pd
import pytest
from helpers.commands import run
from helpers.shells import as_stdin, bytes_as
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import modelkit as mk
from modelkit.cli.rows import known_columns, read_rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "missing column 'island'"),
        ("year\nlast\n", "row 0, column 'year': 'last' is not int64"),
        ("year\n", "is empty"),
        ("", "is empty"),
        ("island,year\nDream,2007\nDream\n", "row 1 has 1 cells, and 2 are expected"),
        ("island\nDream,2007\n", "row 0 has 2 cells, and 1 are expected"),
        ("year,year\n2007,2008\n", "more than one column 'year'"),
        ("year\n1_0\n", "row 0, column 'year': '1_0' is not int64"),
        ("island\n\xff\n", "x.csv cannot be read as CSV in UTF-8: 'utf-8' codec"),
        ("island\n" + 200_000 * "x" + "\n", "x.csv cannot be read as CSV in UTF-8: field larger"),
    ],
)
def test_predict_says_what_is_wrong_with_the_csv(capsys, penguins_mk, tmp_path, text, message):
    (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
    status, out, err = run(capsys, "predict", penguins_mk, tmp_path / "x.csv")
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
        run(capsys, "predict", tmp_path / "ridge.mk", tmp_path / f"{n}.csv")
        for n in ("whole", "float")
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 0
    (tmp_path / "large.csv").write_text(f"age,weight\n{2**53 + 1},1\n")
    status, _, err = run(capsys, "predict", tmp_path / "ridge.mk", tmp_path / "large.csv")
    assert (status, "beyond 2**53" in err) == (1, True)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_semicolons_and_tabs_part_cells_too(capsys, penguins_mk, penguins, tmp_path, mark):
    """As a spreadsheet writes CSV where a comma is in numbers."""
    X, _ = penguins
    answers = []
    for sep in (",", mark):
        X[:9].to_csv(tmp_path / "x.csv", index=False, sep=sep)
        answers.append(run(capsys, "predict", penguins_mk, tmp_path / "x.csv"))
    assert answers[0] == answers[1]
    assert answers[0][0] == 0
    text = X[:9].to_csv(index=False, sep=";", decimal=",")
    (tmp_path / "x.csv").write_text(text)
    status, _, err = run(capsys, "predict", penguins_mk, tmp_path / "x.csv")
    assert (status, "'39,1' is not float64" in err) == (1, True)


@pytest.mark.parametrize("gap", ["", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None"])
def test_a_gap_is_written_in_many_ways(capsys, penguins_mk, penguins, tmp_path, gap):
    """R writes NA, a spreadsheet #N/A, a database NULL."""
    X = penguins[0][penguins[0]["body_mass_g"].isna()].assign(sex="male")
    assert len(X) == 2
    X.to_csv(tmp_path / "x.csv", index=False, na_rep=gap)
    X.to_csv(tmp_path / "empty.csv", index=False)
    expected = run(capsys, "predict", penguins_mk, tmp_path / "empty.csv")
    assert run(capsys, "predict", penguins_mk, tmp_path / "x.csv") == expected
    assert expected[0] == 0


def test_a_text_that_reads_as_a_gap_is_a_text_where_it_may_be_one(tmp_path):
    """NA is Namibia, where countries are any texts or NA is among the known ones."""
    (tmp_path / "x.csv").write_text("free,known,other,n\nNA,NA,NA,NA\n,,,\n")
    texts = (
        mk.Column("free", "string", nullable=True),
        mk.Column("known", "string", nullable=True, categories=("DE", "NA")),
        mk.Column("other", "string", nullable=True, categories=("DE", "FR")),
    )
    inputs = (
        mk.TensorSpec("texts", "string", ("batch", 3), texts),
        mk.TensorSpec("n", "float64", ("batch", 1), (mk.Column("n", nullable=True),)),
    )
    signature = mk.Signature(inputs, (mk.TensorSpec("y", "float64", ("batch",)),))
    assert read_rows(str(tmp_path / "x.csv"), signature) == {
        "free": ["NA", None], "known": ["NA", None], "other": [None, None], "n": [None, None],
    }  # fmt: skip


def test_an_empty_cell_is_no_empty_text_which_json_has(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = ["good film", "bad film", "", "good"]
    words = make_pipeline(TfidfVectorizer(), Ridge()).fit(texts, [1, 0, 0, 1])
    mk.save(words, "m.mk", example=texts, name="m", version="1")
    rows = pd.DataFrame({"text": ["good", "", None]})
    rows[:2].to_csv("x.csv", index=False)
    status, _, err = run(capsys, "predict", "m.mk", "x.csv")
    assert status == 1
    assert "column 'text': missing value in row 1; " in err
    assert (
        "where an empty text is meant, pass '' (CSV has none: its empty cells are missing values)"
        in err
    )
    for gap, expected in ((2, 0), (3, 1)):
        rows[:gap].to_json("x.jsonl", orient="records", lines=True)
        assert run(capsys, "predict", "m.mk", "x.jsonl")[0] == expected


@pytest.mark.parametrize(
    "name", ["rows.txt", "rows", "rows.csv.gz", "rows.json", "rows.jsonl", "rows.dat"]
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
def test_a_name_that_says_nothing_is_read_by_its_first_letters(shell, capsys, name, form):
    """What a name says of a text holds, and whether it is compressed is always seen."""
    if name.endswith((".csv.gz", ".json", ".jsonl")) and form not in name:
        pytest.skip("the name says another format")
    frame = pd.read_csv("rows.csv")
    (shell / name).write_bytes(bytes_as(frame, f"x.{form}"))
    assert run(capsys, "predict", "churn.mk", name) == run(
        capsys, "predict", "churn.mk", "rows.csv"
    )


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet", "csv.gz"])
def test_the_standard_input_is_recognised(shell, capsys, monkeypatch, form):
    expected = run(capsys, "predict", "churn.mk", "rows.csv")
    monkeypatch.setattr("sys.stdin", as_stdin(bytes_as(pd.read_csv("rows.csv"), f"x.{form}")))
    assert run(capsys, "predict", "churn.mk", "-") == expected


def test_a_mark_before_the_text_is_no_part_of_it(shell, capsys):
    expected = run(capsys, "predict", "churn.mk", "rows.csv")
    for name in ("rows.csv", "rows.jsonl"):
        (shell / name).write_bytes(b"\xef\xbb\xbf" + (shell / name).read_bytes())
        assert run(capsys, "predict", "churn.mk", name) == expected


def test_a_pretty_list_of_json_is_read(shell, capsys):
    expected = run(capsys, "predict", "churn.mk", "rows.csv")
    pd.read_csv("rows.csv").to_json("rows.json", orient="records", indent=2, double_precision=15)
    status, out, _ = run(capsys, "predict", "churn.mk", "rows.json")
    assert (status, out.count("\n")) == (0, expected[1].count("\n"))


def test_json_has_dates_as_texts_in_iso_8601(capsys, tmp_path):
    """As pandas writes them; a text that is no date is named with its row and column."""
    days = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=40)})
    day = FunctionTransformer(lambda X: X["day"].dt.day.astype(float).to_frame())
    model = make_pipeline(day, Ridge()).fit(days, np.arange(40))
    mk.save(model, tmp_path / "days.mk", example=days, name="days", version="1")
    days.to_csv(tmp_path / "x.csv", index=False)
    days.to_json(tmp_path / "x.json", orient="records", date_format="iso")
    results = [
        run(capsys, "predict", tmp_path / "days.mk", tmp_path / f"x.{e}") for e in ("csv", "json")
    ]
    assert results[0] == results[1]
    assert results[0][0] == 0
    (tmp_path / "x.json").write_text('[{"day": "2026-01-01"}, {"day": "soon"}]')
    status, _, err = run(capsys, "predict", tmp_path / "days.mk", tmp_path / "x.json")
    assert status == 1
    assert "row 1, column 'day'" in err


def test_columns_that_the_model_does_not_take_are_left_out_even_where_all_it_takes_are_named():
    spec = mk.TensorSpec("a", "float64", ("n", 1), (mk.Column("a", "float64"),))
    whole = mk.TensorSpec("x", "float64", ("n", 1))
    rows = {"a": [1.0], "x": [2.0]}
    given = mk.Signature((spec,), (mk.TensorSpec("y", "float64", ("n",)),))
    assert known_columns(rows, given, {"a"}) == {"a": [1.0]}
    assert known_columns(rows, mk.Signature((whole,), given.outputs), {"a"}) == rows

"""`modelkit explain`: one row in words, or all of them as a table."""

import pandas as pd
from helpers.commands import run

import modelkit as mk


def test_each_row_has_its_own_lines(capsys, shell):
    status, out, _ = run(capsys, "explain", "churn.mk", "rows.csv")
    assert status == 0
    assert [line for line in out.splitlines() if line.startswith("row ")] == [
        f"row {i}" for i in range(40)
    ]
    _, one, _ = run(capsys, "explain", "churn.mk", "rows.csv", "--row", "7")
    assert one in out
    assert one.startswith("1 (raw_score)")
    status, _, err = run(capsys, "explain", "churn.mk", "rows.csv", "--row", "40")
    assert (status, "has rows 0 to 39, not 40" in err) == (2, True)


def test_the_page_and_the_ids_are_of_that_row(capsys, shell):
    words = ("--id", "customer", "--row", "3", "--output", "why.html", "--output", "why.csv")
    assert run(capsys, "explain", "churn.mk", "customers.csv", *words)[0] == 0
    assert "row 3 of customers.csv" in (shell / "why.html").read_text()
    assert pd.read_csv("why.csv")["customer"].tolist() == ["c3"]


def test_each_row_is_explained_by_the_class_of_its_answer(capsys, penguins_mk, penguins, tmp_path):
    X = penguins[0].dropna()
    X[:100:9].to_csv(tmp_path / "x.csv", index=False)
    X[::5].to_csv(tmp_path / "typical.csv", index=False)
    words = ("--background", tmp_path / "typical.csv", "--output", tmp_path / "why.csv")
    assert run(capsys, "explain", penguins_mk, tmp_path / "x.csv", *words)[0] == 0
    with mk.load(penguins_mk) as model:
        labels = model.predict(X[:100:9]).tolist()
    assert pd.read_csv(tmp_path / "why.csv")["output"].tolist() == labels

"""CSV as commands read it: numbers, gaps, and what is wrong with a file."""

import numpy as np
import pandas as pd
import pytest
from helpers.commands import run
from sklearn.linear_model import Ridge

import modelkit as mk


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "missing column 'island'"),
        ("year\nlast\n", "row 0, column 'year': 'last' is not int64"),
        ("year\n", "no rows"),
        ("", "no rows"),
        ("island,year\nDream,2007\nDream\n", "row 1 has 1 cells, and 2 are expected"),
        ("island\nDream,2007\n", "row 0 has 2 cells, and 1 are expected"),
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

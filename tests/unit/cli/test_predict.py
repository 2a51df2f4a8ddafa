"""`modelkit predict`: CSV in, CSV out."""

import csv
import io

import pytest
from helpers.commands import run


def test_predict_reads_csv_and_writes_csv(capsys, penguins_mk, pipeline, penguins, tmp_path):
    X, _ = penguins
    X[::-1].to_csv(tmp_path / "x.csv", index=False)
    status, out, _ = run(capsys, "predict", penguins_mk, tmp_path / "x.csv")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in rows] == pipeline.predict(X[::-1]).tolist()
    expected = pipeline.predict_proba(X[::-1])
    assert float(rows[0]["p(Gentoo)"]) == pytest.approx(expected[0, 2])

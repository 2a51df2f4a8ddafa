"""Every result has a form in JSON, and a signature the JSON Schema of its requests."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit._internal.json import from_plain
from modelkit.cli import main


def test_arrays_in_json_come_back_with_nan_and_infinities():
    outputs = {"y": np.array([[1.5, np.nan], [np.inf, -np.inf]]), "label": np.array(["ü", "b"])}
    text = mk.to_json(outputs)
    assert text.isascii()
    back = from_plain(json.loads(text))
    np.testing.assert_array_equal(np.array(back["y"]), outputs["y"])
    assert back["label"] == ["ü", "b"]
    times = np.array(["2020-01-01T00:00:01.5", "NaT"], "M8[ms]")
    spans = np.array([1500, "NaT"], "m8[ms]")
    plain = json.loads(mk.to_json({"t": times, "s": spans, 3: (np.int8(1), None, times[0])}))
    assert plain["t"] == ["2020-01-01T00:00:01.500", None]
    assert plain["s"] == [1.5, None]
    assert plain["3"] == [1, None, "2020-01-01T00:00:01.500"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "m.mk"
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    source = LogisticRegression().fit(X, X[:, 0] > 0)
    profile = mk.Profile.fit(X)
    mk.save(source, path, example=X, name="m", version="1", profile=profile, background=X[:20])
    return path, X


def test_every_result_has_a_form_in_json(package):
    path, X = package
    with mk.load(path) as model:
        explanation = mk.Explainer(model).explain(X[:2])
        report = mk.Detector(mk.Profile.fit(X)).test(X + 5)
        assert json.loads(mk.to_json(explanation)) == json.loads(explanation.to_json())
        assert mk.DriftReport.from_json(mk.to_json(report)).alarms == report.alarms
        assert json.loads(mk.to_json(model.manifest)) == json.loads(model.manifest.to_json())
        plain = json.loads(mk.to_json(model.signature))
        assert plain["inputs"][0]["columns"][0]["name"] == "x0"
        with mk.Batcher(model) as batcher:
            batcher.predict(X[:1])
            several = [
                report.alarms, model.placement, mk.devices(), mk.types.Call(), batcher.stats(),
                model.attachments.keys() and model.manifest.parity, model.score(X, X[:, 0] > 0), report.checks,
            ]  # fmt: skip
        for value in several:
            json.loads(mk.to_json(value))
        for other in (model, object(), b"x", pd.DataFrame({"a": [1]}), pd.Series([1])):
            with pytest.raises(TypeError, match="cannot be written as JSON"):
                mk.to_json(other)


def test_the_command_line_prints_json(package, tmp_path, capsys):
    path, _ = package
    rows = tmp_path / "rows.csv"
    rows.write_text("x0,x1,id\n0.5,1.5,7\n-0.5,1.5,8\n")
    assert main(["predict", str(path), str(rows), "--json"]) == 1
    assert "unexpected column 'id'" in capsys.readouterr().err
    assert main(["predict", str(path), str(rows), "--json", "--extra", "ignore"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in printed] == [True, False]
    assert printed[0]["p(False)"] + printed[0]["p(True)"] == pytest.approx(1)
    rows.write_text("x0,x1\n0.5,1.5\n")
    assert main(["explain", str(path), str(rows), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"].startswith("modelkit.explanation")


def test_a_missing_time_of_pandas_is_null_in_json():
    assert json.loads(mk.to_json({"at": [pd.NaT, pd.Timestamp(0)]})) == {
        "at": [None, "1970-01-01T00:00:00"]
    }

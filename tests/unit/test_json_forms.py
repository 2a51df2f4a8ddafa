"""Every result has a form in JSON, and a signature the JSON Schema of its requests."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit._internal.json import from_plain
from modelkit.cli import main


def accepts(schema, value):
    """Whether a value fits a schema, of the keywords that `json_schema` uses."""
    kinds = schema.get("type", [])
    names = [kinds] if isinstance(kinds, str) else kinds
    if names and not any(_is(value, name) for name in names):
        return False
    if "enum" in schema:
        return any(type(value) is type(known) and value == known for known in schema["enum"])
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        if not set(schema["required"]) <= set(value):
            return False
        if not schema["additionalProperties"] and set(value) - set(known):
            return False
        return all(accepts(known[name], item) for name, item in value.items() if name in known)
    if isinstance(value, list) and "items" in schema:
        sizes = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1 << 30)
        return sizes and all(accepts(schema["items"], item) for item in value)
    if isinstance(value, int) and "minimum" in schema:
        return schema["minimum"] <= value <= schema["maximum"]
    return True


def _is(value, name):
    kinds = {"array": list, "object": dict, "string": str, "boolean": bool, "null": type(None)}
    if name in kinds:
        return isinstance(value, kinds[name])
    number = isinstance(value, int if name == "integer" else int | float)
    return number and not isinstance(value, bool)


COLUMNS = (
    (mk.Column("size"), "float64"),
    (mk.Column("rooms", "int64", nullable=True), "float64"),
    (mk.Column("floor", "int8"), "int8"),
    (mk.Column("lift", "bool"), "float64"),
    (mk.Column("flag", "bool"), "bool"),
    (mk.Column("town", "string", nullable=True, categories=("Ulm", "Bonn")), "string"),
    (mk.Column("note", "string"), "string"),
)
ROW = {"size": 1.5, "rooms": None, "floor": 3, "lift": True, "flag": False, "town": "Ulm", "note": ""}  # fmt: skip


def signature(**options):
    inputs = tuple(
        mk.TensorSpec(column.name, dtype, ("batch", 1), (column,)) for column, dtype in COLUMNS
    )
    return mk.Signature(inputs, (mk.TensorSpec("y", "float64", ("batch",)),), **options)


def test_a_schema_accepts_what_the_signature_accepts():
    taken = signature(ignored=("id",))
    schema = taken.json_schema()
    json.dumps(schema)
    changes = [
        {}, {"rooms": 4}, {"town": None}, {"id": "any"}, {"size": 2},
        {"size": None}, {"size": "2"}, {"floor": 300}, {"floor": 1.5}, {"flag": 1}, {"town": "Rome"},
        {"note": None}, {"note": 3}, {"stranger": 1},
    ]  # fmt: skip
    outcomes = []
    for change in changes:
        rows = [ROW | change]
        try:
            taken.coerce(rows)
            took = True
        except mk.errors.SignatureError:
            took = False
        outcomes.append(took)
        assert accepts(schema, rows) is took, change
    assert outcomes == [True] * 5 + [False] * 9
    assert not accepts(schema, [{}])
    assert accepts(schema, [])
    assert accepts(signature(extra="ignore").json_schema(), [ROW | {"stranger": 1}])
    assert schema["items"]["properties"]["id"] == {"description": "not read"}


def test_the_schema_of_tensors_is_one_of_arrays_by_name():
    inputs = (mk.TensorSpec("image", "uint8", ("batch", 2, 2)), mk.TensorSpec("rate", "int64", ()))
    schema = mk.Signature(inputs, (mk.TensorSpec("y", "float32", ("batch",)),)).json_schema()
    assert accepts(schema, {"image": [[[1, 2], [3, 255]]], "rate": 3})
    assert not accepts(schema, {"image": [[[1, 2], [3, 256]]], "rate": 3})
    assert not accepts(schema, {"image": [[[1, 2, 3]]], "rate": 3})
    assert not accepts(schema, {"image": []})


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
                report.alarms, model.placement, mk.devices(), mk.Call(), batcher.stats(),
                model.attachments.keys() and model.manifest.parity, model.score(X, X[:, 0] > 0), report.checks,
            ]  # fmt: skip
        for value in several:
            json.loads(mk.to_json(value))
        for other in (model, object(), b"x"):
            with pytest.raises(TypeError, match="has no form in JSON"):
                mk.to_json(other)


def test_the_command_line_prints_json(package, tmp_path, capsys):
    path, _ = package
    rows = tmp_path / "rows.csv"
    rows.write_text("x0,x1,id\n0.5,1.5,7\n-0.5,1.5,8\n")
    assert main(["predict", str(path), "--input", str(rows), "--json"]) == 1
    assert "unexpected column 'id'" in capsys.readouterr().err
    assert main(["predict", str(path), "--input", str(rows), "--json", "--extra", "ignore"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["label"] == [True, False]
    assert np.shape(printed["probabilities"]) == (2, 2)
    rows.write_text("x0,x1\n0.5,1.5\n")
    assert main(["explain", str(path), "--input", str(rows), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"].startswith("modelkit.explanation")

"""An Evaluation is a value: JSON that was tampered with is refused, and it goes into its package."""

from __future__ import annotations

import json

import pytest
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import IntegrityError, PackageError, UsageError


def test_an_evaluation_says_what_was_evaluated(evaluation, package):
    assert evaluation.kind == "binary"
    assert evaluation.model == "tumour 1.0"
    assert evaluation.model_digest == mk.inspect(package).model_digest
    assert (evaluation.rows, evaluation.independent, evaluation.weighted) == (284, 284, False)
    assert (
        0.85
        < evaluation["accuracy"].low
        < evaluation["accuracy"].value
        < evaluation["accuracy"].high
    )
    assert [own.label for own in evaluation.classes] == ["benign", "malignant"]
    assert sum(part.rows for part in evaluation.slices) == 284
    assert all(f"\n  {line}" in str(evaluation) for line in str(evaluation.slices).splitlines())
    with pytest.raises(KeyError, match="there are accuracy"):
        evaluation["f2"]


def test_an_evaluation_is_a_value(evaluation):
    text = evaluation.to_json()
    assert text.isascii()
    assert mk.Evaluation.from_json(text) == evaluation
    assert json.loads(text)["schema"] == "modelkit.evaluation/1"
    with pytest.raises(PackageError, match="not an Evaluation in JSON"):
        mk.Evaluation.from_json(text.replace('"rows"', '"lines"'))
    with pytest.raises(PackageError, match='it has no "schema"'):
        mk.Evaluation.from_json("{}")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("confusion", "counts"), [[1.0]]),
        (("curves", 0, "x"), [0.0]),
        (("curves", 0, "y"), []),
        (("figures",), []),
        (("kind",), "oracle"),
        (("rows",), "many"),
        (("slices", 0, "figures", 0, "value"), "high"),
        (("notes",), [1]),
    ],
)
def test_a_record_that_was_tampered_with_is_refused(evaluation, path, value):
    plain = json.loads(evaluation.to_json())
    inside = plain
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    with pytest.raises(PackageError, match="not an Evaluation in JSON"):
        mk.Evaluation.from_json(json.dumps(plain))


def test_a_frame_has_a_row_for_each_figure(evaluation):
    frame = evaluation.to_dataframe()
    assert list(frame.columns) == [
        "part",
        "value",
        "rows",
        "metric",
        "figure",
        "low",
        "high",
        "why",
    ]
    of_all = len(evaluation.figures)
    of_slices = 2 * (of_all - 1)  # without the advantage of an attacker, which needs training rows
    assert len(frame) == of_all + of_slices + 4 * 2
    row = frame.query("part == 'all' and metric == 'roc_auc'").iloc[0]
    assert row["low"] < row["figure"] < row["high"]


def test_an_evaluation_goes_into_its_package(evaluation, package, tmp_path, tumours):
    path = tmp_path / "evaluated.mk"
    before = mk.inspect(package)
    after = mk.attach(package, evaluation=evaluation, out=path)
    assert after.model_digest == before.model_digest
    assert after.digest != before.digest
    with mk.load(path) as model:
        assert mk.Evaluation.packaged(model) == evaluation
    with mk.load(package) as model, pytest.raises(UsageError, match="lacks an Evaluation"):
        mk.Evaluation.packaged(model)
    X, y = tumours
    other = tmp_path / "other.mk"
    mk.save(
        LogisticRegression(max_iter=5000).fit(X, y), other, example=X, name="other", version="1"
    )
    with pytest.raises(IntegrityError, match="the Evaluation is of the model of"):
        mk.attach(other, evaluation=evaluation)
    with pytest.raises(TypeError, match="evaluation="):
        mk.attach(path)


def test_an_evaluation_is_kept_beside_a_version(evaluation, package, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    registry.register(package)
    registry.keep("tumour", "1.0", "evaluation.json", evaluation.to_json().encode())
    text = registry.kept("tumour", "1.0", "evaluation.json").decode()
    assert mk.Evaluation.from_json(text) == evaluation
